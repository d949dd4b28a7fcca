"""What a package must know of a policy besides its numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

from booster_ray.config import Config
from booster_ray.soccer import observation
from booster_ray.soccer.control import Gains, leg_gains


class Settings(NamedTuple):
    """How a policy is played; plain data, the same names as in a config."""

    features: tuple[str, ...] = ()
    gait_frequency: float = 1.5
    """Hz."""
    mode: str = "pd"
    """``pd`` or ``torque``."""
    decimation: int = 10
    """Steps of 2 ms for each action."""
    action_scale: float = 0.5
    """rad; of ``joint_limits`` a share."""
    action_bounds: str = "uniform"
    """``uniform`` or ``joint_limits``."""
    default_pose: tuple[float, ...] = (-0.2, 0.0, 0.0, 0.4, -0.25, 0.0)
    """rad, one leg."""
    kp: tuple[float, ...] = (200.0, 200.0, 200.0, 200.0, 50.0, 50.0)
    """N·m/rad, one leg."""
    kd: tuple[float, ...] = (5.0, 5.0, 5.0, 5.0, 1.0, 1.0)
    """N·m·s/rad, one leg."""

    @property
    def observation_size(self) -> int:
        """Numbers that the policy sees."""
        return observation.size(self.features)

    @property
    def remembers(self) -> bool:
        """Whether the policy sees its previous action."""
        return "previous_action" in self.features

    def feature_start(self, name: str) -> int:
        """Where a feature begins in the observation; raises ValueError where it is not seen."""
        return observation.size(self.features[: self.features.index(name)])

    def gains(self) -> Gains:
        """Both legs. Shapes: (12,)."""
        return leg_gains(self.default_pose, self.action_scale, self.kp, self.kd, self.action_bounds)

    def to_dict(self) -> dict[str, Any]:
        """JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in self._asdict().items()}


def settings_of(config: Config) -> Settings:
    """The settings of a config's policy."""
    control, seen = config.control, config.observation
    return Settings(
        features=tuple(seen.features),
        gait_frequency=seen.gait_frequency,
        mode=control.mode,
        decimation=control.decimation,
        action_scale=control.action_scale,
        action_bounds=control.action_bounds,
        default_pose=tuple(control.default_pose),
        kp=tuple(control.kp),
        kd=tuple(control.kd),
    )
