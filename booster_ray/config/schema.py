"""Every setting of a run: names, types, units, bounds and defaults."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    create_model,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from booster_ray.config import yaml12
from booster_ray.config.errors import blame, hint
from booster_ray.config.finetune import DDPG, SCHEDULE_RULES, Schedule
from booster_ray.config.imitation import Imitation
from booster_ray.config.kinds import ADDED, SOCCER, check_kind, kind_of, task_names
from booster_ray.config.models import Models, Monitor
from booster_ray.config.section import (
    REPLAY_RULES,
    Count,
    Fraction,
    Listed,
    Natural,
    PlainDict,
    Positive,
    Rule,
    Section,
    Text,
    Widths,
    distinct,
    fits,
    plain,
)
from booster_ray.config.tracking import Tracking, no_password
from booster_ray.soccer.entry_points import PROBLEMS
from booster_ray.soccer.observation import FEATURES, describe_features, size
from booster_ray.soccer.rewards import TERMS, AddedTerm

Task = Literal["goalie", "obstacle", "kick_to_target"]
if TYPE_CHECKING:
    Feature = str
else:
    Feature = Literal[tuple(FEATURES)]
Objective = Literal["score", "robustness"]
Leg = Annotated[tuple[float, ...], Field(min_length=6, max_length=6), Listed]
Gains = Annotated[
    tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=6, max_length=6), Listed
]


def _with_added_kinds(schema: dict[str, Any]) -> None:
    """Names other packages' kinds in the documentation of the setting."""
    for name, source in ADDED.items():
        schema["description"] += f" `{name}` is of package {source.package} ({source.place})."


class World(Section):
    """The simulated worlds; `world: KIND` is short for `world: {kind: KIND}`."""

    shorthand = "kind"

    kind: Annotated[
        Text, AfterValidator(check_kind), Field(json_schema_extra=_with_added_kinds)
    ] = "native"
    """Which simulator: `native` is C MuJoCo on CPU cores, `mjx` runs on a GPU with the learner,
    `official` is sai_mujoco itself, slow; `gym:ENV_ID`, `brax:NAME` (or `brax:NAME/BACKEND`) and
    `metaworld:MT10` (or `metaworld:TASK,TASK`) are other environments than the game."""
    kwargs: Annotated[dict[str, Any], AfterValidator(plain)] = Field(default_factory=PlainDict)
    """Keyword arguments of the environment, as `gymnasium.make` takes them (gym)."""
    num_envs: Count = 64
    """Worlds stepped together; at least one per task."""
    threads: Natural = 0
    """Stepping threads; 0: one per CPU given to the run (native)."""
    processes: Natural | None = None
    """Processes beside the run's own that the environments are divided among; 0: none. An
    environment that crashes takes its own process with it, not the run's. null: 0 for gym; for
    metaworld one per CPU given to the run, of several (gym, metaworld)."""
    episode_seconds: Annotated[float, Field(gt=0, le=10)] = 10.0
    """Longest episode, s (native, mjx)."""
    time_limit: Literal["auto", "terminates", "truncates"] = "auto"
    """What the end of its time is to an episode. `terminates`: nothing follows, as in the official
    game, which pays its score then (observe `time_left` with it); `truncates`: a limit of training,
    beyond which values are bootstrapped. `auto`: terminates where rewards.official is paid."""
    near_ball: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of training episodes in which the robot begins nearer to the ball, on its way to it, so
    that kicks are practised without the walk before them (native, mjx). Evaluation never does."""
    impl: Literal["auto", "jax", "warp"] = "auto"
    """MJX's physics; `auto`: warp where CUDA and warp-lang are, else jax (mjx)."""
    steps_per_dispatch: Count = 16
    """Control steps made on the device between two looks of the host (mjx, brax)."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            ("kwargs", "kind"),
            lambda kwargs, kind: not kwargs or kind_of(kind)[0].kwargs,
            "kwargs {0} with kind {1}, expected {{}} (only gym takes some)",
        ),
        Rule(
            ("processes", "kind"),
            lambda processes, kind: processes is None or kind_of(kind)[0].foreign,
            "processes {0} with kind {1}, expected null (only gym and metaworld take some)",
        ),
        Rule(
            ("num_envs", "kind"),
            lambda worlds, kind: worlds >= len(task_names(kind)),
            "num_envs {0} leaves a task of {1} without a world, expected at least one per task",
        ),
    )

    @property
    def is_soccer(self) -> bool:
        """Whether tasks, rewards, control and randomization mean anything here."""
        return kind_of(self.kind)[0].soccer

    @property
    def task_names(self) -> tuple[str, ...]:
        """The tasks of worlds that are not the game and have several, by their numbers."""
        return task_names(self.kind)

    def process_count(self, cpus: int) -> int:
        """Processes that the environments are divided among, of a run that has so many CPUs."""
        kind = kind_of(self.kind)[0]
        if self.processes is not None or not kind.foreign:
            return self.processes or 0
        return cpus if kind.tasks and cpus > 1 else 0

    @property
    def on_device(self) -> bool:
        """Whether worlds step where the learner computes."""
        return _on_device(self.kind)


def _on_device(kind: str) -> bool:
    return kind_of(kind)[0].on_device


class Control(Section):
    """From action to torque. Per leg: hip pitch, hip roll, hip yaw, knee, ankle pitch, roll."""

    mode: Literal["pd", "torque"] = "pd"
    """`pd`: actions are joint offsets that a PD law tracks; `torque`: actions are torques."""
    decimation: Annotated[int, Field(ge=1, le=50)] = 10
    """500 Hz physics steps per policy action."""
    action_scale: Annotated[float, Field(gt=0, le=3)] = 0.5
    """Joint offset at |action| = 1, rad; of `joint_limits` a share (mode pd)."""
    action_bounds: Literal["uniform", "joint_limits"] = "uniform"
    """`uniform`: the same for every joint; `joint_limits`: from the default pose to each joint's
    farther limit, times `action_scale` (mode pd)."""
    default_pose: Leg = (-0.2, 0.0, 0.0, 0.4, -0.25, 0.0)
    """Joint angles at action 0, rad, one leg; both legs share it."""
    kp: Gains = (200.0, 200.0, 200.0, 200.0, 50.0, 50.0)
    """PD stiffness, N·m/rad, one leg."""
    kd: Gains = (5.0, 5.0, 5.0, 5.0, 1.0, 1.0)
    """PD damping, N·m·s/rad, one leg."""


class Observation(Section):
    """What the policy sees."""

    features: Annotated[
        tuple[Feature, ...],
        Listed,
        AfterValidator(distinct),
        Field(description=f"Appended to the {size()} official numbers: {describe_features()}."),
    ] = ()
    gait_frequency: Annotated[float, Field(gt=0, le=5)] = 1.5
    """Of the gait clock, Hz."""


class _Rewards(Section):
    @model_serializer(mode="wrap")
    def _others_where_they_weigh(self, handler: SerializerFunctionWrapHandler) -> dict[str, float]:
        # So that a run is the same, and can be read, where another package is not installed.
        weights: dict[str, float] = handler(self)
        return {
            name: weight
            for name, weight in weights.items()
            if weight or not isinstance(TERMS[name], AddedTerm)
        }


def _weights() -> dict[str, Any]:
    """The fields of Rewards; what is no name of a field is taken out of the terms."""
    fields: dict[str, Any] = {}
    for name, term in list(TERMS.items()):
        if not isinstance(term, AddedTerm):
            fields[name] = (float, Field(term.weight, description=term.about))
        elif hasattr(Section, name) or name.startswith("model_"):
            text = f"package {term.source.package} adds the reward term '{name}'"
            PROBLEMS.append(f"{text}, which means something else in a section, expected another")
            del TERMS[name]
        else:
            about = f"A term of package {term.source.package} ({term.source.place})."
            checked = Annotated[float, AfterValidator(_usable(term))]
            fields[name] = (checked, Field(0.0, description=about))
    return fields


def _usable(term: AddedTerm) -> Callable[[float], float]:
    """Sees that a term that counts can be computed."""

    def check(weight: float) -> float:
        try:
            if weight:
                _ = term.term
            return weight
        except Exception as error:  # the package is not ours
            text = f"is of package {term.source.package}, which cannot be used: {blame(error)}"
            raise PydanticCustomError("kind", "{text}", {"text": text}) from None

    return check


if TYPE_CHECKING:

    class Rewards(_Rewards):
        """Weights of the dense reward terms; 0 leaves a term out."""

        def __getattr__(self, name: str) -> float: ...

else:
    Rewards = create_model(
        "Rewards",
        __base__=_Rewards,
        __module__=__name__,
        __doc__="Weights of the dense reward terms; 0 leaves a term out.",
        **_weights(),
    )


_RELEASE_0_1 = (
    "alive upright height approach ball_velocity ball_contact pose torque smoothness "
    "joint_velocity joint_limits foot_slip vertical_velocity official fall facing_ball "
    "behind_ball ball_speed goal gait stepping feet_air_time feet_distance "
    "angular_velocity"
)
RELEASE_0_1 = frozenset(_RELEASE_0_1.split(" "))
"""The reward terms of that release; only what it wrote itself weighs them all."""

COSTS = "costs"
"""In a lesson: every reward term whose weight is negative."""


def _term(name: str) -> str:
    if name != COSTS and name not in Rewards.model_fields:
        advice = hint(name, [COSTS, *Rewards.model_fields])
        text = f"has '{name}', expected reward terms or {COSTS}{advice}"
        raise PydanticCustomError("kind", "{text}", {"text": text})
    return name


class RewardSchedule(Section):
    """What some rewards weigh in the course of training."""

    terms: Annotated[
        tuple[Annotated[Text, AfterValidator(_term)], ...],
        Field(min_length=1),
        Listed,
        AfterValidator(distinct),
    ]
    """Reward terms, or `costs`: all of negative weight."""
    factor: Schedule
    """[when, factor of the weights] points; when: a fraction of the budget up to 1, env steps
    above."""


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
    lr_factor: Schedule = ((0.0, 1.0),)
    """Factor of actor_lr and critic_lr over the run: a late decay quiets the policy."""
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
    num_atoms: Annotated[int, Field(ge=2), AfterValidator(fits)] = 101
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
    task_temperature: bool = False
    """A temperature of its own for each task, as in multi-task SAC (Yu et al. 2020) (metaworld)."""
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
        *REPLAY_RULES,
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


class Offline(Section):
    """Demonstrations to learn from (docs/data.md)."""

    demonstrations: Annotated[Text, Field(min_length=1)] | None = None
    """Folder of a Minari dataset: part of what SAC's batches hold, and all that `stage: clone`
    learns from; null: none."""
    demonstration_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Part of each of SAC's batches that is demonstrations (RLPD: 0.5)."""


class Training(Section):
    """How long to train; a control step of one world is one env step."""

    env_steps: Count = 500_000
    """Budget, control steps summed over worlds."""
    report_every: Count = 20_000
    """Env steps between reports."""
    reward_weights: Literal["per_second", "per_step"] = "per_second"
    """What `rewards` weigh: a term's pay in a second, whatever the control step, or in each control
    step, as up to release 0.1. Events (`fall`, `goal`, `official`, `score_change`, `feet_air_time`)
    are paid by the occasion in both."""


class Evaluation(Section):
    """Episodes in the official environment, for the official score."""

    episodes_per_task: Count = 2
    """Episodes of each task per evaluation."""
    every: Count = 100_000
    """Env steps between evaluations."""
    max_steps: Count = 10_000
    """Control steps after which an episode is cut, where the environment sets no limit (gym)."""


class Checkpoint(Section):
    """When to save, and how much to keep."""

    every_env_steps: Count = 200_000
    """Env steps between checkpoints."""
    every_minutes: Positive | None = None
    """Minutes between checkpoints, besides the steps; null: by steps alone."""
    keep: Count = 2
    """Newest checkpoints kept, besides the best."""
    keep_replay: bool = False
    """Keep the replay of a sweep's trial that has spent its budget, to train on or to finetune
    with (ddpg.pretrain_share); a single run always keeps it."""


class Trainer(Section):
    """Where a trial's loop runs."""

    workers: Natural = 0
    """0: in the trial's own process; 1: under a Ray Train worker; more: finetuned by a team."""
    cpus: Count = 1
    """CPUs of each trial, or of each of its workers."""
    use_gpu: bool = False
    """Give the process that trains a GPU, or as many as `sac.devices` says."""
    gpu_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of a GPU that a trial gets; below 1, small trials of workers 0 share one (use_gpu)."""
    preemption_notice: Literal["auto", "none"] = "auto"
    """`auto`: watch for Ray's notice of preemption and, on machines of Google, AWS and Azure, for
    theirs."""
    grace_seconds: Positive = 25.0
    """Seconds between a notice of preemption and the end, in which a checkpoint must be saved."""
    stall_minutes: Annotated[float, Field(ge=0)] = 15.0
    """Minutes without progress after which an attempt is ended and made again; 0: never. Its
    beginning, with compilation, may take an hour."""


class Tune(Section):
    """The sweep."""

    trials: Count = 6
    """Trials in the sweep; where it lists them (experiments, search: grid), as many as it lists."""
    seeds: Count = 1
    """Policies of each trial, which differ in the seed alone; its value is the mean of theirs."""
    max_concurrent: Natural = 0
    """Trials at a time; 0: as many as fit."""
    sampler: Literal["tpe", "random"] = "tpe"
    """How Optuna picks the next trial's settings, where none are listed."""
    scheduler: Literal["asha", "pbt", "none"] = "asha"
    """Stop weak trials early (`asha`), train all as one population (`pbt`), or neither."""
    grace_env_steps: Count = 100_000
    """Env steps before a trial may be stopped early (asha)."""
    reduction_factor: Annotated[int, Field(ge=2), AfterValidator(fits)] = 2
    """ASHA keeps one in this many at each rung."""
    perturb_env_steps: Count = 100_000
    """Env steps between generations, a multiple of evaluation.every (pbt)."""
    objectives: Annotated[
        tuple[Objective, ...], Field(min_length=1), Listed, AfterValidator(distinct)
    ] = ("score",)
    """What is maximized; `robustness` is the score under randomization level 3."""
    study_url: Annotated[Text, AfterValidator(no_password)] | None = None
    """Database of the Optuna study, e.g. `postgresql://…`; null: SQLite in the sweep's folder."""
    gate_trials: Natural = 1
    """Best trials that go through gates 2 and 3 at the end; the very best becomes the package."""
    gate_episodes: Count = 512
    """Episodes of each task that gate 3 plays at most in each world; below 14 it cannot pass."""
    films: bool = True
    """Film the best policy in each task at the end, for the report, where something can draw."""
    max_failures: Natural = 2
    """Retries of a trial that fails by itself; what a lost machine cuts short is not counted."""
    max_hours: Positive | None = None
    """The sweep stops after so many hours, over all resumes; null: never."""
    max_cost: Positive | None = None
    """The sweep stops when it has cost so much, over all resumes; null: never."""
    price_per_hour: Annotated[float, Field(ge=0)] | None = None
    """Price of what one trial occupies, per hour; null: unknown."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            ("objectives", "scheduler"),
            lambda objectives, scheduler: len(objectives) == 1 or scheduler == "none",
            "{0} are two objectives with scheduler {1}, expected scheduler none",
        ),
        Rule(
            ("seeds", "scheduler"),
            lambda seeds, scheduler: seeds == 1 or scheduler != "pbt",
            "seeds {0} with scheduler pbt, expected 1 (members copy one another's policies)",
        ),
        Rule(
            ("max_cost", "price_per_hour"),
            lambda cost, price: cost is None or bool(price),
            "max_cost is {0} with price_per_hour {1}, expected a price",
        ),
    )


class Runtime(Section):
    """What must be set before JAX loads.

    A setting that differs from its default goes before the environment variable of its name; at
    its default it leaves a variable that is set as it is.
    """

    mem_fraction: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Share of GPU memory JAX may take (XLA_PYTHON_CLIENT_MEM_FRACTION)."""
    preallocate: bool = False
    """Take that share at the start (XLA_PYTHON_CLIENT_PREALLOCATE)."""
    xla_flags: Text = ""
    """XLA_FLAGS, added to those of the environment; of a flag set twice this one counts."""
    jax_platforms: Text = ""
    """JAX_PLATFORMS, e.g. `cpu` or `cuda,cpu`; empty: left alone."""
    cuda_visible_devices: Text | None = None
    """CUDA_VISIBLE_DEVICES; null: left alone, empty: no GPU is seen."""
    mujoco_gl: Literal["egl", "osmesa", "disabled"] | None = None
    """MuJoCo's render back end (MUJOCO_GL); null: left alone."""
    compilation_cache: Text | None = "~/.cache/booster_ray/jax"
    """Folder of JAX's compilation cache (JAX_COMPILATION_CACHE_DIR), and of Warp's kernels below
    it; machines may share one. null: none."""
    prefer_pip_cuda: bool = False
    """Look for CUDA's libraries where pip put them before LD_LIBRARY_PATH, in workers too."""

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
    """Folder that holds the runs, or remote storage: `s3://…`, `gs://…`, `/Volumes/…`. In paths,
    `~` and `$NAME` are replaced, and relative ones begin where the command is typed."""
    stage: Literal["pretrain", "clone", "finetune"] = "pretrain"
    """`pretrain`: SAC in JAX (settings under sac); `clone`: its actor alone, from a dataset
    (replay.demonstrations); `finetune`: DDPG in torch (ddpg)."""
    start_from: Annotated[Text, Field(min_length=1)] | None = None
    """Checkpoint, folder of a run or sweep, or model in a registry (`models:/NAME@ALIAS`,
    `wandb:ENTITY/PROJECT/NAME:ALIAS`) whose policy is finetuned; null: from scratch."""
    tasks: Annotated[tuple[Task, ...], Field(min_length=1), Listed, AfterValidator(distinct)] = (
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
    curriculum: Annotated[tuple[RewardSchedule, ...], Listed] = ()
    """Rewards whose weights change in the course of training."""
    randomization: Randomization = Randomization()
    """Domain randomization."""
    sac: SAC = SAC()
    """The learner of pretraining; the actor's network in both stages."""
    replay: Offline = Offline()
    """Demonstrations from a dataset."""
    imitation: Imitation = Imitation()
    """Whose demonstrations the actor learns in pretraining, in place of SAC's updates."""
    ddpg: DDPG = DDPG()
    """The learner of finetuning."""
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
    tracking: Tracking = Tracking()
    """Who is told of the reports."""
    models: Models = Models()
    """Versions of policies in a registry."""
    monitor: Monitor = Monitor()
    """What is read of GPUs."""
    runtime: Runtime = Runtime()
    """What must be set before JAX loads."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            ("world.num_envs", "tasks", "world.kind"),
            lambda worlds, tasks, kind: worlds >= len(tasks) or kind not in SOCCER,
            "num_envs {0} leaves a task without a world, expected at least one world per task",
        ),
        Rule(
            ("trainer.gpu_fraction", "sac.devices", "trainer.use_gpu"),
            lambda fraction, devices, gpu: fraction == 1 or devices == 1 or not gpu,
            "gpu_fraction {0} with {1} devices, expected 1 (each device is a whole GPU)",
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
            ("trainer.workers", "stage"),
            lambda workers, stage: workers <= 1 or stage == "finetune",
            "workers {0} with stage {1}, expected 0 or 1 (only finetuning has a team)",
        ),
        Rule(
            ("trainer.workers", "world.num_envs", "tasks", "world.kind"),
            lambda workers, worlds, tasks, kind: (
                workers <= 1
                or (
                    worlds % workers == 0
                    and worlds // workers
                    >= (len(tasks) if kind in SOCCER else max(1, len(task_names(kind))))
                )
            ),
            "num_envs {1} does not divide among {0} workers with a world for each task",
        ),
        Rule(
            ("trainer.workers", "ddpg.batch_size"),
            lambda workers, batch: workers <= 1 or batch % workers == 0,
            "batch_size {1} does not divide among {0} workers, expected a multiple of {0}",
        ),
        Rule(
            ("tune.perturb_env_steps", "evaluation.every", "tune.scheduler"),
            lambda steps, every, scheduler: scheduler != "pbt" or steps % every == 0,
            "perturb_env_steps {0} is no multiple of evaluation.every {1}, expected one (pbt)",
        ),
        Rule(
            ("tune.objectives", "world.kind"),
            lambda objectives, kind: "robustness" not in objectives or kind in SOCCER,
            "objectives {0} with world.kind {1}, expected score (only the game is randomized)",
        ),
        Rule(
            ("curriculum", "world.kind"),
            lambda lessons, kind: not lessons or kind in SOCCER,
            "curriculum is of the game's rewards, expected [] with world.kind {1}",
        ),
        Rule(
            ("sac.symmetry", "world.kind"),
            lambda symmetry, kind: symmetry == "none" or kind in SOCCER,
            "symmetry {0} is the game's, expected none with world.kind {1}",
        ),
        Rule(
            ("sac.task_temperature", "world.kind"),
            lambda each, kind: not each or len(task_names(kind)) > 1,
            "task_temperature with world.kind {1}, expected false (of metaworld's several tasks)",
        ),
        Rule(
            ("randomization.level", "world.kind"),
            lambda level, kind: level == 0 or kind != "official",
            "level {0} with world.kind {1}, expected 0 (sai_mujoco randomizes nothing)",
        ),
        Rule(
            ("world.near_ball", "world.kind"),
            lambda share, kind: share == 0 or kind in ("native", "mjx"),
            "near_ball {0} with world.kind {1}, expected 0 (native and mjx worlds place the robot)",
        ),
        Rule(
            ("start_from", "stage"),
            lambda start, stage: start is None or stage == "finetune",
            "start_from is set with stage {1}, expected stage finetune",
        ),
        Rule(
            ("stage", "world.kind"),
            lambda stage, kind: stage == "pretrain" or not _on_device(kind),
            "stage {0} with world.kind {1}, expected worlds on the host (native, official, gym, "
            "metaworld)",
        ),
        Rule(
            ("imitation.demonstrator", "world.kind", "control.mode"),
            lambda who, kind, mode: who is None or (kind == "native" and mode == "pd"),
            "demonstrator {0} with world.kind {1} and control.mode {2}, expected native and pd",
        ),
        Rule(
            ("imitation.demonstrator", "sac.n_step"),
            lambda who, steps: who is None or steps == 1,
            "demonstrator {0} with n_step {1}, expected n_step 1",
        ),
        Rule(
            ("ddpg.pretrain_share", "imitation.demonstrator", "stage"),
            lambda share, who, stage: not share or who is None or stage != "finetune",
            "pretrain_share {0} with demonstrator {1}, expected 0 (what was kept does not tell "
            "what it would have done)",
        ),
        Rule(
            ("ddpg.replay_size", "world.num_envs"),
            lambda size, worlds: size >= worlds,
            "replay_size {0} cannot hold one step of {1} worlds, expected more",
        ),
        Rule(
            ("replay.demonstrations", "stage"),
            lambda path, stage: stage == "pretrain" or (path is None) == (stage == "finetune"),
            "demonstrations {0} with stage {1}, expected a dataset to clone, null to finetune",
        ),
        Rule(
            ("replay.demonstrations", "imitation.demonstrator", "stage"),
            lambda path, who, stage: path is None or who is None or stage == "finetune",
            "demonstrations {0} with imitation.demonstrator {1}, expected one of the two",
        ),
        *SCHEDULE_RULES,
    )

    @model_validator(mode="before")
    @classmethod
    def _of_release_0_1(cls, raw: Any) -> Any:
        """What a run of that release did, which tells every weight and neither setting, it does."""
        told = raw if isinstance(raw, dict) else {}
        training, world = told.get("training"), told.get("world")
        whole = isinstance(told.get("rewards"), dict) and set(told["rewards"]) >= RELEASE_0_1
        if not whole or not isinstance(training, dict) or "reward_weights" in training:
            return raw
        told = told | {"training": training | {"reward_weights": "per_step"}}
        if isinstance(world, dict) and "time_limit" not in world:
            told |= {"world": world | {"time_limit": "truncates"}}
        return told

    def gpus(self) -> float:
        """GPUs of a trial, or of each of its workers; 0: it is given none."""
        if not self.trainer.use_gpu:
            return 0.0
        # A team's workers have a GPU each.
        devices = self.sac.devices if self.stage != "finetune" else 1
        return devices * self.trainer.gpu_fraction

    def trains_like(self, other: Config) -> bool:
        """Whether both train the same; where a run is kept and what executes it may differ."""
        where = {"storage", "trainer", "tune", "tracking", "models", "monitor", "runtime"}
        exclude: Any = {**dict.fromkeys(where, True), "checkpoint": {"keep_replay"}}
        return self.model_dump(exclude=exclude) == other.model_dump(exclude=exclude)

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
