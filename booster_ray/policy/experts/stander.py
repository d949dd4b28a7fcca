"""A demonstrator that needs nothing: it stands."""

from __future__ import annotations

import numpy as np

from booster_ray.soccer.frame import Frame
from booster_ray.soccer.observation import Clock, projected_gravity

POSE = np.tile([-0.2, 0.0, 0.0, 0.4, -0.25, 0.0], 2)
"""rad; bent knees."""
ANKLES = (4, 10)
LEAN, RATE, FORWARD = 1.5, 0.3, 0.1
"""Ankle pitch per unit of gravity along the trunk's x axis, per rad/s of pitch rate, and at rest,
rad; tried in the official environment, where it stands for the whole 10 s."""


class Stander:
    """Bent knees, and ankles that push against the fall.

    A :class:`booster_ray.policy.experts.Demonstrator`.
    """

    def targets(self, frame: Frame, kept: Clock) -> np.ndarray:
        """See :class:`booster_ray.policy.experts.Demonstrator`."""
        lean, rate = projected_gravity(frame.imu_quat)[:, 0], frame.gyro[:, 1]
        targets = np.tile(POSE, (len(lean), 1))
        targets[:, ANKLES] += (LEAN * lean + RATE * rate + FORWARD)[:, None]
        return targets
