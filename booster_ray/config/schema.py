"""Every setting of a run: names, types, units, bounds and defaults."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from booster_ray.config import yaml12
from booster_ray.config.kinds import SOCCER, check_kind


def _fits(value: int) -> int:
    if abs(value) >= 2**63:
        raise PydanticCustomError("too_large", "is too large, expected an integer below 2^63")
    return value


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    for i, value in enumerate(values):
        if value in values[:i]:
            raise PydanticCustomError(
                "repeated", "has '{value}' twice, expected each name once", {"value": value}
            )
    return values


def _printable(value: str) -> str:
    # A NUL in a path or in the environment raises only once the run has started.
    if not value.isprintable():
        raise PydanticCustomError("unprintable", "has a control character, expected plain text")
    return value


# YAML has lists, frozen settings want tuples; strict mode would refuse the one for the other.
_Listed = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)

Task = Literal["goalie", "obstacle", "kick_to_target"]
Feature = Literal["egocentric", "clock", "previous_action"]
Count = Annotated[int, Field(ge=1), AfterValidator(_fits)]
Natural = Annotated[int, Field(ge=0), AfterValidator(_fits)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Widths = Annotated[tuple[Count, ...], Field(min_length=1), _Listed]
Leg = Annotated[tuple[float, ...], Field(min_length=6, max_length=6), _Listed]
Gains = Annotated[
    tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=6, max_length=6), _Listed
]
Text = Annotated[str, AfterValidator(_printable)]


@dataclass(frozen=True)
class Rule:
    """What settings of one section owe each other; `keys` are dotted, below that section."""

    keys: tuple[str, ...]
    holds: Callable[..., bool]
    wrong: str  # with {0}, {1}, … for the values


class Section(BaseModel):
    """A frozen group of settings, strict about types, unknown keys and non-finite numbers."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )
    rules: ClassVar[tuple[Rule, ...]] = ()
    shorthand: ClassVar[str] = ""
    """The setting that a string in place of the whole section means."""

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, raw: Any) -> Any:
        return {cls.shorthand: raw} if cls.shorthand and isinstance(raw, str) else raw

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        for rule in self.rules:
            values = [_get(self, key) for key in rule.keys]
            if not rule.holds(*values):
                text = rule.wrong.format(*values)
                raise PydanticCustomError("rule", "{text}", {"text": text, "keys": rule.keys})
        return self


def _get(section: Any, key: str) -> Any:
    for name in key.split("."):
        section = getattr(section, name)
    return section


class World(Section):
    """The simulated worlds; `world: KIND` is short for `world: {kind: KIND}`."""

    shorthand = "kind"

    kind: Annotated[Text, AfterValidator(check_kind)] = "native"
    """Which simulator: `native` is C MuJoCo on CPU cores, `mjx` runs on a GPU with the learner;
    `gym:ENV_ID` and `brax:NAME` (or `brax:NAME/BACKEND`) are other environments than the game."""
    num_envs: Count = 64
    """Worlds stepped together; at least one per task."""
    threads: Natural = 0
    """Stepping threads; 0: one per CPU given to the run (native)."""
    episode_seconds: Annotated[float, Field(gt=0, le=10)] = 10.0
    """Longest episode, s (native, mjx)."""
    impl: Literal["auto", "jax", "warp"] = "auto"
    """MJX's physics; `auto`: warp where CUDA and warp-lang are, else jax (mjx)."""
    steps_per_dispatch: Count = 16
    """Control steps made on the device between two looks of the host (mjx, brax)."""

    @property
    def is_soccer(self) -> bool:
        """Whether tasks, rewards, control and randomization mean anything here."""
        return self.kind in SOCCER

    @property
    def on_device(self) -> bool:
        """Whether worlds step where the learner computes."""
        return _on_device(self.kind)


def _on_device(kind: str) -> bool:
    return kind == "mjx" or kind.startswith("brax:")


class Control(Section):
    """From action to torque. Per leg: hip pitch, hip roll, hip yaw, knee, ankle pitch, roll."""

    mode: Literal["pd", "torque"] = "pd"
    """`pd`: actions are joint offsets that a PD law tracks; `torque`: actions are torques."""
    decimation: Annotated[int, Field(ge=1, le=50)] = 10
    """500 Hz physics steps per policy action."""
    action_scale: Annotated[float, Field(gt=0, le=3)] = 0.5
    """Joint offset at |action| = 1, rad (mode pd)."""
    default_pose: Leg = (-0.2, 0.0, 0.0, 0.4, -0.25, 0.0)
    """Joint angles at action 0, rad, one leg; both legs share it."""
    kp: Gains = (200.0, 200.0, 200.0, 200.0, 50.0, 50.0)
    """PD stiffness, N·m/rad, one leg."""
    kd: Gains = (5.0, 5.0, 5.0, 5.0, 1.0, 1.0)
    """PD damping, N·m·s/rad, one leg."""


class Observation(Section):
    """What the policy sees."""

    features: Annotated[tuple[Feature, ...], _Listed, AfterValidator(_distinct)] = ()
    """Appended to the 89 official numbers: `egocentric` (ball, aim and keeper seen from the
    robot's heading), `clock` (of the gait), `previous_action`."""
    gait_frequency: Annotated[float, Field(gt=0, le=5)] = 1.5
    """Of the gait clock, Hz."""


class Rewards(Section):
    """Weights of the dense reward terms; 0 leaves a term out."""

    alive: float = 1.0
    """Weight of not having fallen."""
    upright: float = 0.5
    """Weight of the trunk's uprightness."""
    height: float = 1.0
    """Weight of the trunk's height."""
    approach: float = 0.0
    """Weight of moving towards the ball."""
    ball_velocity: float = 0.0
    """Weight of the ball's velocity towards the target."""
    ball_contact: float = 0.0
    """Weight of a foot touching the ball."""
    pose: float = 0.2
    """Weight of keeping near the default pose."""
    torque: float = 0.0
    """Weight of joint torques spent (a cost: negative)."""
    smoothness: float = -0.05
    """Weight of the change between actions (a cost: negative)."""
    joint_velocity: float = 0.0
    """Weight of joint speeds (a cost: negative)."""
    joint_limits: float = -0.1
    """Weight of nearness to joint limits (a cost: negative)."""
    foot_slip: float = 0.0
    """Weight of feet sliding on the ground (a cost: negative)."""
    vertical_velocity: float = 0.0
    """Weight of the trunk's vertical speed (a cost: negative)."""
    official: float = 0.0
    """Weight of the official score, paid at the terminal step."""
    fall: float = -5.0
    """Paid once on falling (a cost: negative)."""
    facing_ball: float = 0.0
    """Weight of heading for the ball."""
    behind_ball: float = 0.0
    """Weight of having the ball between robot and aim."""
    ball_speed: float = 0.0
    """Weight of the ball's speed towards the aim, where positive."""
    goal: float = 0.0
    """Paid once when the ball reaches the goal or the target."""
    gait: float = 0.0
    """Weight of feet at the height that the gait clock asks for."""
    stepping: float = 0.0
    """Weight of feet in the air while the gait clock has them swing."""
    feet_air_time: float = 0.0
    """Weight of long steps, paid when a foot lands."""
    feet_distance: float = 0.0
    """Weight of feet too near each other (a cost: negative)."""
    angular_velocity: float = 0.0
    """Weight of the trunk's roll and pitch rates (a cost: negative)."""


class Randomization(Section):
    """Domain randomization."""

    level: Annotated[int, Field(ge=0, le=3)] = 0
    """0 (none) to 3 (strongest)."""


class TaskShares(Section):
    """Weights of the tasks within a batch, relative to those of the other tasks played."""

    goalie: Positive = 1.0
    """Weight of the goalie task."""
    obstacle: Positive = 1.0
    """Weight of the obstacle task."""
    kick_to_target: Positive = 1.0
    """Weight of the kick-to-target task."""


class SAC(Section):
    """Soft actor-critic: networks, optimizers, replay."""

    actor_hidden: Widths = (256, 128)
    """Widths of the actor's hidden layers."""
    critic_hidden: Widths = (256, 256)
    """Widths of each critic's hidden layers."""
    activation: Literal["silu", "relu", "elu"] = "silu"
    """Activation of the hidden layers."""
    layer_norm: bool = True
    """LayerNorm before each activation."""
    actor_lr: Fraction = 3e-4
    """Actor's learning rate."""
    critic_lr: Fraction = 3e-4
    """Critics' learning rate."""
    alpha_lr: Fraction = 3e-3
    """Temperature's learning rate; at 3e-4 the policy's entropy collapses before it recovers."""
    adam_b1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Adam's first-moment decay."""
    adam_b2: Fraction = 0.95
    """Adam's second-moment decay."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.001
    """AdamW's weight decay."""
    max_grad_norm: Positive | None = None
    """Actor's and critics' gradients are scaled down to this norm; null: never."""
    matmul: Literal["float32", "bfloat16"] = "float32"
    """Precision of matrix products; parameters and optimizers stay in float32."""
    critic: Literal["scalar", "c51"] = "scalar"
    """What critics learn: a value, or a distribution of returns over atoms (C51)."""
    num_atoms: Annotated[int, Field(ge=2), AfterValidator(_fits)] = 101
    """Atoms of the distribution (critic c51)."""
    v_min: float = -20.0
    """Return of the lowest atom (critic c51)."""
    v_max: float = 20.0
    """Return of the highest atom (critic c51)."""
    q_target: Literal["min", "mean"] = "min"
    """How two critics become one: the lower (clipped double Q), or their mean (FastSAC)."""
    actor_every: Count = 1
    """Critic updates per update of the actor and the temperature (delayed, as in TD3)."""
    symmetry: Literal["none", "augment"] = "none"
    """`augment`: learn from every transition's left/right mirror image too."""
    discount: Fraction = 0.97
    """Discount per control step."""
    n_step: Count = 1
    """Control steps whose rewards are summed before a critic's value takes over."""
    tau: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Target critics' step towards the critics, per update."""
    batch_size: Count = 512
    """Transitions per gradient update."""
    updates_per_step: Count = 2
    """Gradient updates per control step of all worlds."""
    init_alpha: Positive = 0.01
    """Temperature at the start."""
    target_entropy: float = 0.0
    """Entropy that the temperature steers to, nats."""
    log_std_min: float = -5.0
    """Lower bound of the policy's log standard deviation."""
    log_std_max: float = 2.0
    """Upper bound of the policy's log standard deviation."""
    replay_size: Count = 262_144
    """Replay capacity, transitions."""
    learning_starts: Natural = 4096
    """Transitions collected before the first update."""
    task_shares: TaskShares = TaskShares()
    """What part of each batch a task gets."""
    devices: Count = 1
    """Local devices that share each batch (data parallel)."""
    normalize_observations: bool = True
    """Scale observations by their running mean and deviation."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            ("batch_size", "replay_size"),
            lambda batch, replay: batch <= replay,
            "batch_size {0} is above replay_size {1}, expected batch_size <= replay_size",
        ),
        Rule(
            ("learning_starts", "replay_size"),
            lambda starts, replay: starts <= replay,
            "learning_starts {0} is above replay_size {1}, expected learning_starts <= replay_size",
        ),
        Rule(
            ("log_std_min", "log_std_max"),
            lambda low, high: low < high,
            "log_std_min {0} is not below log_std_max {1}, expected log_std_min < log_std_max",
        ),
        Rule(
            ("v_min", "v_max"),
            lambda low, high: low < high,
            "v_min {0} is not below v_max {1}, expected v_min < v_max",
        ),
    )

    @model_validator(mode="after")
    def _split_evenly(self) -> Self:
        """Refuse a batch that the devices cannot share; a rule cannot name the sizes that work."""
        size, devices = self.batch_size, self.devices
        if rest := size % devices:
            sizes = " or ".join(str(n) for n in (size - rest, size - rest + devices) if n)
            text = f"batch_size {size} does not divide among {devices} devices, expected {sizes}"
            keys = ("batch_size", "devices")
            raise PydanticCustomError("rule", "{text}", {"text": text, "keys": keys})
        return self


class Training(Section):
    """How long to train; a control step of one world is one env step."""

    env_steps: Count = 500_000
    """Budget, control steps summed over worlds."""
    report_every: Count = 20_000
    """Env steps between reports."""


class Evaluation(Section):
    """Episodes in the official environment, for the official score."""

    episodes_per_task: Count = 2
    """Episodes of each task per evaluation."""
    every: Count = 100_000
    """Env steps between evaluations."""


class Checkpoint(Section):
    """When to save, and how much to keep."""

    every_env_steps: Count = 200_000
    """Env steps between checkpoints."""
    every_minutes: Positive | None = None
    """Minutes between checkpoints, besides the steps; null: by steps alone."""
    keep: Count = 2
    """Newest checkpoints kept, besides the best."""


class Trainer(Section):
    """Where a trial's loop runs."""

    workers: Annotated[int, Field(ge=0, le=1)] = 0
    """0: in the trial's own process; 1: under a Ray Train worker."""
    cpus: Count = 1
    """CPUs of each trial."""
    use_gpu: bool = False
    """Give the Ray Train worker a GPU."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            ("use_gpu", "workers"),
            lambda gpu, workers: workers > 0 or not gpu,
            "use_gpu is true with workers 0, expected workers 1 (a GPU goes to a Ray Train worker)",
        ),
    )


class Tune(Section):
    """The sweep."""

    trials: Count = 6
    """Trials in the sweep."""
    max_concurrent: Natural = 0
    """Trials at a time; 0: as many as fit."""
    sampler: Literal["tpe", "random"] = "tpe"
    """How Optuna picks the next trial's settings."""
    scheduler: Literal["asha", "none"] = "asha"
    """Stop weak trials early (`asha`), or never."""
    grace_env_steps: Count = 100_000
    """Env steps before a trial may be stopped early."""
    reduction_factor: Annotated[int, Field(ge=2), AfterValidator(_fits)] = 2
    """ASHA keeps one in this many at each rung."""
    max_failures: Natural = 2
    """Retries of a failed trial."""


class Runtime(Section):
    """What must be set before JAX loads."""

    mem_fraction: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Share of GPU memory JAX may take."""
    preallocate: bool = False
    """Take that share at the start."""
    xla_flags: Text = ""
    """XLA_FLAGS; empty: left alone."""
    jax_platforms: Text = ""
    """JAX_PLATFORMS, e.g. `cpu` or `cuda,cpu`; empty: left alone."""
    cuda_visible_devices: Text | None = None
    """CUDA_VISIBLE_DEVICES; null: left alone, empty: no GPU is seen."""
    mujoco_gl: Literal["egl", "osmesa", "disabled"] | None = None
    """MuJoCo's render back end; null: left alone."""
    compilation_cache: Text | None = "~/.cache/booster_ray/jax"
    """Folder of JAX's compilation cache; null: none."""

    def environment(self) -> dict[str, str]:
        """Environment variables to set before JAX loads; those left alone are absent."""
        cache = self.compilation_cache
        return {
            "XLA_PYTHON_CLIENT_MEM_FRACTION": str(self.mem_fraction),
            "XLA_PYTHON_CLIENT_PREALLOCATE": str(self.preallocate).lower(),
            **({"XLA_FLAGS": self.xla_flags} if self.xla_flags else {}),
            **({"JAX_PLATFORMS": self.jax_platforms} if self.jax_platforms else {}),
            **(
                {"CUDA_VISIBLE_DEVICES": self.cuda_visible_devices}
                if self.cuda_visible_devices is not None
                else {}
            ),
            **({"MUJOCO_GL": self.mujoco_gl} if self.mujoco_gl else {}),
            **({"JAX_COMPILATION_CACHE_DIR": os.path.expanduser(cache)} if cache else {}),
        }


class Config(Section):
    """One run, every setting fixed."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")] = "run"
    """Name of the run, and of its folder under `storage`."""
    # Optuna's samplers seed a 32-bit generator.
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Seed of everything random."""
    storage: Annotated[Text, Field(min_length=1)] = "results"
    """Folder that holds the runs."""
    tasks: Annotated[tuple[Task, ...], Field(min_length=1), _Listed, AfterValidator(_distinct)] = (
        "goalie",
        "obstacle",
        "kick_to_target",
    )
    """Tasks to learn, in the order of the observation's one-hot."""
    world: World = World()
    """The simulated worlds."""
    control: Control = Control()
    """From action to torque."""
    observation: Observation = Observation()
    """What the policy sees."""
    rewards: Rewards = Rewards()
    """Weights of the dense reward terms."""
    randomization: Randomization = Randomization()
    """Domain randomization."""
    sac: SAC = SAC()
    """The learner."""
    training: Training = Training()
    """How long to train."""
    evaluation: Evaluation = Evaluation()
    """Official scores along the way."""
    checkpoint: Checkpoint = Checkpoint()
    """When to save."""
    trainer: Trainer = Trainer()
    """Where a trial's loop runs."""
    tune: Tune = Tune()
    """The sweep."""
    runtime: Runtime = Runtime()
    """What must be set before JAX loads."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            ("world.num_envs", "tasks", "world.kind"),
            lambda worlds, tasks, kind: worlds >= len(tasks) or kind not in SOCCER,
            "num_envs {0} leaves a task without a world, expected at least one world per task",
        ),
        Rule(
            ("world.num_envs", "sac.devices", "world.kind"),
            lambda worlds, devices, kind: worlds % devices == 0 or not _on_device(kind),
            "num_envs {0} does not divide among {1} devices, expected a multiple of {1}",
        ),
        Rule(
            ("sac.replay_size", "world.num_envs", "tasks", "world.kind"),
            # MJX worlds draw their task anew, so that each task has a ring of its own.
            lambda size, worlds, tasks, kind: size >= worlds * (len(tasks) if kind == "mjx" else 1),
            "replay_size {0} cannot hold one step of {1} worlds, expected more (mjx: of each task)",
        ),
        Rule(
            ("sac.symmetry", "world.kind"),
            lambda symmetry, kind: symmetry == "none" or kind in SOCCER,
            "symmetry {0} is the game's, expected none with world.kind {1}",
        ),
    )

    def to_dict(self) -> dict[str, Any]:
        """Every setting as plain mappings, lists and scalars."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """Every setting as YAML that `load` reads back."""
        return yaml12.dump(self.to_dict())

    def digest(self) -> str:
        """Twelve hex digits that equal settings share."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
