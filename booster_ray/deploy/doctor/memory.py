"""What memory a run needs, by what needs it, on the host and on its GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from booster_ray.config import Config, ConfigError, Sweep
from booster_ray.config.finetune import DDPG
from booster_ray.runtime.memory import row_bytes, transitions
from booster_ray.soccer import game

MB = 1e6

NATIVE = {"goalie": 0.022, "obstacle": 0.153, "kick_to_target": 0.021}
RANDOMIZED = {"goalie": 1.08, "obstacle": 8.55, "kick_to_target": 0.70}
"""MB of a native world; from randomization level 1 on each has a model of its own."""
OFFICIAL = 170.0
"""MB of an environment of sai_mujoco's."""
METAWORLD, PROCESS = 27.0, 100.0
"""MB of an environment of Meta-World's, and of a process that holds some, without them."""
MJX_STATE, MJX_TEMPORARY = 0.044, 0.062
"""MB of an MJX world between steps, and besides within one (impl jax, on a CPU).

All of these are benchmarks/worlds.py --memory, see benchmarks/README.md.
"""
WARP = 0.36
"""MB of an MJX world of impl warp, all of it; on an H100 0.78 were measured when each world had 64
slots for convex collisions of 8.8 kB, and it has 16."""
CONTEXT = 800.0
"""MB that CUDA, its libraries and Warp's kernels take of a GPU; from the same measurement."""
MJX_COMPILATION = 1500.0
"""MB of host memory in which XLA compiles the step of MJX worlds; likewise."""
RAY = 1000.0
"""MB of Ray's own processes and of a sweep's driver."""
TRACKERS = 500.0
"""MB of the process beside a sweep that tells its trackers."""


COMPILATION = "compilation"
"""Name of the part that a run does without whose programs are in the cache."""


class Measured(NamedTuple):
    """MB that a process of a run takes before anything has the config's size; and two sizes."""

    process: float
    """Python with all that the run imports."""
    game: float
    """The first world of each task, and what plays an evaluation."""
    compilation: float
    """The update's compiled program, and what was needed to make it."""
    state: float
    """Networks, targets and optimizers."""
    temporary: float
    """Batches on their way, activations and gradients."""
    observation: int
    """Numbers in an observation."""
    action: int
    """Numbers in an action."""


@dataclass(frozen=True)
class Part:
    """What one thing takes, in MB."""

    name: str
    host: float = 0.0
    device: float = 0.0
    how: str = ""
    """What it is the product of."""


@dataclass(frozen=True)
class MemoryPlan:
    """The peak of one run: a trial, or one of its workers."""

    parts: tuple[Part, ...]
    resume: float
    """MB of host memory that a resumed run needs besides: nothing, unless it has several workers,
    whose replays the first reads and sends to them."""
    jax_on_device: bool
    """Whether the device's part is JAX's, which gets a fixed share of the GPU."""

    @property
    def host(self) -> float:
        """MB of host memory."""
        return sum(part.host for part in self.parts)

    @property
    def resumed(self) -> float:
        """MB of host memory of a run that goes on where its programs are in the cache.

        On a machine that has to compile them anew, it is ``host + resume``.
        """
        compiled = sum(part.host for part in self.parts if part.name == COMPILATION)
        return self.host - compiled + self.resume

    @property
    def device(self) -> float:
        """MB of GPU memory; 0 where no GPU is used."""
        return sum(part.device for part in self.parts)


def plan_memory(config: Config, measured: Measured, gpu: bool) -> MemoryPlan:
    """The peak of a run of ``config``.

    Args:
        config: a resolved config.
        measured: what the process takes by itself.
        gpu: whether the run has a GPU; MJX worlds and the learner live there.
    """
    on_gpu = gpu and (config.trainer.use_gpu or config.world.on_device)
    parts = [
        Part("process", measured.process, how="Python and all that it imports"),
        Part("first worlds", measured.game, how="one of each task, and an evaluation"),
        _compilation(config, measured, on_gpu),
        *_worlds(config, on_gpu),
        _evaluation(config),
        *_learner(config, measured, on_gpu),
        *_replay(config, measured, on_gpu),
    ]
    if on_gpu:
        parts.append(Part("CUDA", device=CONTEXT, how="context and libraries"))
    kept = tuple(part for part in parts if part.host or part.device)
    workers = config.trainer.workers
    sent = workers * transitions(config) if workers > 1 else 0
    resume = sent * _row(config, measured) / MB
    return MemoryPlan(kept, resume, on_gpu and config.stage == "pretrain")


def checkpoint_mb(config: Config, measured: Measured) -> float:
    """What the checkpoints of one trial take while it trains: they share the replay's segments."""
    workers = max(1, config.trainer.workers) if config.stage == "finetune" else 1
    replay = workers * transitions(config) * _row(config, measured) / MB
    return replay + (config.checkpoint.keep + 1) * measured.state


def sweep_mb(config: Config, measured: Measured, trials: int, at_once: int) -> float:
    """What the checkpoints of a sweep take at most, with so many trials under way at once.

    A run that has ended, one for each seed of a trial, keeps its best and its newest checkpoint,
    without replay unless ``checkpoint.keep_replay``; a population's members all go on to the end.
    """
    training, population = checkpoint_mb(config, measured), config.tune.scheduler == "pbt"
    runs, under_way = trials * config.tune.seeds, min(trials, max(1, at_once))
    if config.checkpoint.keep_replay or population:
        return runs * training
    return under_way * training + (runs - under_way) * 2 * measured.state


def _row(config: Config, measured: Measured) -> int:
    return row_bytes(config, measured.observation, measured.action)


def _compilation(config: Config, measured: Measured, on_gpu: bool) -> Part:
    made = measured.compilation
    if config.world.kind == "mjx":
        return Part(COMPILATION, made + MJX_COMPILATION, how="MJX's step and the update")
    return Part(COMPILATION, made, how="the update" if made else "")


def _worlds(config: Config, on_gpu: bool) -> Iterator[Part]:
    """All but the first world of each task; those of other kinds than the game's are not known."""
    kind = config.world.kind
    count = config.world.num_envs // max(1, config.trainer.workers)
    if kind == "mjx":
        warp = config.world.impl == "warp" or (on_gpu and config.world.impl == "auto")
        each = WARP if warp else MJX_STATE + MJX_TEMPORARY
        size = count * each / config.sac.devices
        how = f"{count} MJX worlds of {each:.2f} MB"
        yield Part("worlds", device=size, how=how) if on_gpu else Part("worlds", size, how=how)
    elif kind == "native":
        table = RANDOMIZED if config.randomization.level else NATIVE
        more = {task: _playing(config, count, i) - 1 for i, task in enumerate(config.tasks)}
        size = sum(max(0, n) * table[task] for task, n in more.items())
        how = f"{count} native worlds, randomization level {config.randomization.level}"
        yield Part("worlds", size, how=how)
    elif config.world.task_names:
        yield _metaworld(config, "worlds", count)
    elif kind == "official":
        yield Part("worlds", count * OFFICIAL, how=f"{count} of sai_mujoco's environments")


def _metaworld(config: Config, name: str, count: int) -> Part:
    """Environments of Meta-World's, but those that the first worlds are where all is one process.

    A process is not begun of which there is no environment.
    """
    processes = config.world.process_count(config.world.threads or config.trainer.cpus)
    if processes:
        processes = min(processes, count)
        how = f"{count} of Meta-World's environments in {processes} processes"
        return Part(name, count * METAWORLD + processes * PROCESS, how=how)
    size = max(0, count - len(config.world.task_names)) * METAWORLD
    return Part(name, size, how=f"{count} of Meta-World's environments")


def _playing(config: Config, count: int, index: int) -> int:
    """Worlds of ``count`` that play the task at ``index``: they take turns."""
    return len(range(index, count, len(config.tasks)))


def _evaluation(config: Config) -> Part:
    episodes = config.evaluation.episodes_per_task
    if tasks := config.world.task_names:
        return _metaworld(config, "evaluation", episodes * len(tasks))
    if not config.world.is_soccer:
        return Part("evaluation")
    size = (episodes - 1) * sum(NATIVE.values())
    return Part("evaluation", size, how=f"{episodes * len(game.TASKS)} native worlds")


def _learner(config: Config, measured: Measured, on_gpu: bool) -> Iterator[Part]:
    sizes = {"networks": measured.state, "batch": measured.temporary}
    ddpg: DDPG | Any = config.ddpg if config.stage == "finetune" else config.sac
    text = {
        "networks": "parameters, targets, optimizers",
        "batch": f"{ddpg.updates_per_step} x {ddpg.batch_size} transitions, activations",
    }
    for name, size in sizes.items():
        host, device = (0.0, size) if on_gpu else (size, 0.0)
        yield Part(name, host, device, text[name])


def _replay(config: Config, measured: Measured, on_gpu: bool) -> Iterator[Part]:
    """The ring, and the copy of what is new in it while a checkpoint is written."""
    row, capacity = _row(config, measured), transitions(config)
    on_device = config.world.on_device and on_gpu
    size = capacity * row / MB
    how = f"{capacity:,} transitions of {row} B"
    yield Part("replay", 0.0 if on_device else size, size if on_device else 0.0, how)
    new = min(capacity, config.checkpoint.every_env_steps // max(1, config.trainer.workers))
    new = min(new, config.training.env_steps)
    size = new * row / MB + measured.state
    yield Part("checkpoint", size, how=f"a copy of {new:,} new transitions and the networks")


# -- sweeps ----------------------------------------------------------------------------------


def heaviest(sweep: Sweep, measured: Measured, gpu: bool) -> Config:
    """The config of a sweep that needs the most memory.

    Each searched setting is taken at the end of its range that costs most, the others being at
    their first.
    """
    first = {key: next(iter(found.ends().values())) for key, found in sweep.space.items()}
    chosen = dict(first)
    for key, found in sweep.space.items():
        tried = [(_total(sweep, {**first, key: end}, measured, gpu), i, end)
                 for i, end in enumerate(found.ends().values())]  # fmt: skip
        chosen[key] = max(tried, key=lambda one: (one[0], -one[1]))[2]
    try:
        return sweep.resolve(chosen)
    except ConfigError:  # the ends do not go together
        return sweep.resolve(first)


def _total(sweep: Sweep, values: dict[str, Any], measured: Measured, gpu: bool) -> float:
    try:
        planned = plan_memory(sweep.resolve(values), measured, gpu)
    except ConfigError:
        return 0.0
    return planned.host + planned.device
