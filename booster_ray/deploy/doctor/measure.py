"""What a process of a run takes before anything has the config's size: measured, or typical."""

from __future__ import annotations

import gc
import importlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from booster_ray.config import Config
from booster_ray.deploy.doctor.findings import Finding
from booster_ray.deploy.doctor.memory import MB, Measured, plan_memory
from booster_ray.envs.make import sizes
from booster_ray.runtime.memory import FLOAT

TYPICAL = {
    "pretrain": (265.0, 585.0, 130.0),
    "clone": (265.0, 585.0, 130.0),
    "finetune": (455.0, 585.0, 0.0),
}
"""MB of process, first worlds and compilation, as measured in November 2026 on Linux (x86-64)."""


def typical(config: Config) -> Measured:
    """Without a measurement: earlier numbers, and what the networks' widths say."""
    observation, action = sizes(config)
    state, temporary = _counted(config, observation, action)
    return Measured(*TYPICAL[config.stage], state, temporary, observation, action)


def _counted(config: Config, observation: int, action: int) -> tuple[float, float]:
    """MB of networks and of a batch: an upper bound that needs neither JAX nor torch."""
    finetune = config.stage == "finetune"
    settings: Any = config.ddpg if finetune else config.sac
    critics = config.ddpg.critics if finetune else 2
    atoms = config.sac.num_atoms if not finetune and config.sac.critic == "c51" else 1
    actor = _parameters((observation, *config.sac.actor_hidden, 2 * action))
    critic = critics * _parameters((observation + action, *settings.critic_hidden, atoms))
    # Parameters, two moments and a gradient; critics and DDPG's actor have a target besides.
    state = FLOAT * (5 * actor + 5 * critic) / MB
    # Per layer: before and after LayerNorm and activation, and the gradient of each.
    wide = 4 * (sum(config.sac.actor_hidden) + critics * (sum(settings.critic_hidden) + atoms))
    rows = settings.updates_per_step * (2 * observation + action + 3) * 2
    mirrored = 2 if not finetune and config.sac.symmetry == "augment" else 1
    share = max(1, config.trainer.workers) if finetune else config.sac.devices
    batch = mirrored * settings.batch_size / share
    return state, FLOAT * batch * (wide + rows) / MB


def _parameters(widths: tuple[int, ...]) -> int:
    return sum((a + 1) * b + 2 * b for a, b in pairwise(widths))


# -- in a process of its own -----------------------------------------------------------------


def check(config: Config) -> list[Finding]:
    """Measure, and plan the config's memory; the finding's details are a :class:`Measured`."""
    measured = measure(config)
    total = plan_memory(config, measured, gpu=False).host
    text = (
        f"a process of this run takes {measured.process:.0f} MB, with all on the host {total:.0f}"
    )
    return [Finding("memory", "ok", text, details=measured._asdict())]


def measure(config: Config) -> Measured:
    """Import what the run imports, play the smallest game, and make one update.

    To be called in a fresh process: memory is the growth of its peak. The update is compiled
    anew, as in the first run on a machine.
    """
    importlib.import_module("booster_ray.train.runner")
    importlib.import_module(f"booster_ray.train.{config.stage}")
    import jax

    jax.config.update("jax_enable_compilation_cache", False)
    jax.local_devices()
    process = _peak()
    observation, action = sizes(config)
    played = _play(config)
    game = _peak() - process
    update = _update_ddpg if config.stage == "finetune" else _update_sac
    state, temporary = update(config, observation, action)
    grown = _peak() - process - game
    del played
    compilation = max(0.0, grown - state - temporary)
    return Measured(process, game, compilation, state, temporary, observation, action)


def _peak() -> float:
    """MB: the most that this process has had in memory."""
    gc.collect()
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / MB


def _play(config: Config) -> list[Any]:
    """A world of each task, a step of it, and an evaluator; what an MJX run steps it compiles."""
    from booster_ray.envs.make import make_world
    from booster_ray.evaluate.scores import make_evaluator

    small = config.evaluation.model_copy(update={"episodes_per_task": 1})
    config = config.model_copy(update={"evaluation": small})
    threads = config.world.threads or config.trainer.cpus
    evaluator = make_evaluator(config, threads)
    action = sizes(config)[1]
    evaluator(lambda seen: np.zeros((len(seen), action), np.float32))
    if config.world.on_device:
        return [evaluator]
    count = len(config.tasks if config.world.is_soccer else config.world.task_names) or 1
    world = make_world(config, threads, num_envs=count)
    world.reset(config.seed)
    world.step(np.zeros((count, action), np.float32))
    return [evaluator, world]


def _batch(settings: Any, size: int, observation: int, action: int, discounts: bool) -> Any:
    """As many transitions as an update is given, each array (updates, size, ...)."""
    from booster_ray.rl.sac.losses import Batch

    lead = settings.updates_per_step, size
    shapes = [(observation,), (action,), (), (observation,), ()]
    fields = [np.zeros((*lead, *shape), np.float32) for shape in shapes]
    fields += [np.zeros(lead, np.float32)] if discounts else []
    return Batch(*fields)


def _update_sac(config: Config, observation: int, action: int) -> tuple[float, float]:
    """One call of the learner's update; MB of its state, and of what it needs besides."""
    import jax

    from booster_ray.train.learner import make_learner

    sac = make_learner(config, observation, action)
    state = sac.init(config.seed)
    batch = _batch(config.sac, config.sac.batch_size, observation, action, config.sac.n_step > 1)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    seen = np.zeros((config.world.num_envs, observation), np.float32)
    state, _ = sac.act(state, seen)
    sac.act_mean(state, seen[: max(1, 3 * config.evaluation.episodes_per_task)])
    compiled = sac.functions.update.lower(sac.numbers, state, batch).compile()
    analysis = compiled.memory_analysis()
    given = sum(leaf.nbytes for leaf in jax.tree.leaves(batch))
    jax.block_until_ready(compiled(sac.numbers, state, batch))
    return held / MB, (analysis.temp_size_in_bytes + 2 * given) / MB


def _update_ddpg(config: Config, observation: int, action: int) -> tuple[float, float]:
    """The same for finetuning; the network alone counts, not what it begins with."""
    from booster_ray.rl.ddpg.learner import Ddpg
    from booster_ray.rl.ddpg.team import own_device
    from booster_ray.train.finetune_start import from_nothing

    fresh = config.model_copy(update={"start_from": None})
    start = from_nothing(fresh)
    ddpg = Ddpg(config.ddpg, start.actor, config.seed, adapt=start.adapt, device=own_device())
    size = config.ddpg.batch_size // max(1, config.trainer.workers)
    batch = _batch(config.ddpg, size, observation, action, discounts=True)
    before = _peak()
    ddpg.learn(batch, config.ddpg.thawing[-1], 0.0)
    leaves = ddpg.state().values()
    held = sum(leaf.nbytes for leaf in leaves if isinstance(leaf, np.ndarray)) / MB
    return held, max(0.0, _peak() - before)


def as_measured(finding: Finding) -> Measured:
    """What :func:`check` measured, from its finding."""
    return Measured(**finding.details)
