"""What binds a config of stage ``pretrain`` to a collector: SAC, or imitation of an expert."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from booster_ray.config import Config
from booster_ray.envs.make import make_dynamics, make_world
from booster_ray.rl.demonstrations import Demonstrations
from booster_ray.rl.replay import Replay
from booster_ray.rl.sac.host import HostSac, Shown
from booster_ray.runtime.memory import check_run
from booster_ray.runtime.seeding import stream_seed
from booster_ray.train.collector import Collector
from booster_ray.train.host_collector import HostCollector, Learner
from booster_ray.train.learner import learning_starts, make_learner, scheduled, task_shares

if TYPE_CHECKING:
    from booster_ray.envs.device import Dynamics


def make_collector(config: Config) -> Collector:
    """The collector that a config's worlds ask for.

    Raises:
        ConfigError: the config's environment cannot be made, or its expert, or memory is short.
        ValueError: the replay cannot hold one step of every world.
    """
    return _on_device(config) if config.world.on_device else _on_host(config)


def _on_host(config: Config) -> Collector:
    world = make_world(config, config.world.threads or config.trainer.cpus)
    sizes = world.observation_size, world.action_size
    check_run(config, *sizes)
    replay = Replay(config.sac.replay_size, world.task, *sizes, **_replay_options(config))
    seed = stream_seed(config.seed, "learner")
    learning = make_learner(config, *sizes), replay, learning_starts(config), seed
    sac = HostSac(*learning, shown=_shown(config))
    learner: Learner = sac
    expert = None
    if config.imitation.demonstrator is not None:
        from booster_ray.rl.imitation import Imitation
        from booster_ray.train.expert import Expert

        learner = Imitation(
            sac,
            own_share=scheduled(config, config.imitation.own_share),
            noise=scheduled(config, config.imitation.noise),
            lr=scheduled(config, config.imitation.lr),
        )
        expert = Expert(config, world)
    seed_at = partial(stream_seed, config.seed, "worlds", 0)
    return HostCollector(config, world, learner, expert=expert, seed_at=seed_at)


def _shown(config: Config) -> Shown | None:
    """The demonstrations of a config, as its own transitions."""
    if config.replay.demonstrations is None:
        return None
    from booster_ray.data.dataset import TRAIN
    from booster_ray.data.reading import demonstrations

    found = demonstrations(config, TRAIN)
    episodes = Demonstrations(
        found.observation, found.action, found.reward, found.steps, found.terminated, found.task,
        **_replay_options(config),
    )  # fmt: skip
    return Shown(episodes, config.replay.demonstration_share, found.digest)


def _on_device(config: Config) -> Collector:
    from booster_ray.rl.sac.device_replay import DeviceReplay
    from booster_ray.train.device_collector import DeviceCollector

    dynamics = _divided(config)
    sizes = dynamics.observation_size, dynamics.action_size
    check_run(config, *sizes)
    replay = DeviceReplay(
        config.sac.replay_size, dynamics.tasks, dynamics.num_envs, *sizes, **_replay_options(config)
    )
    # A transition of several steps is in the replay only when the last of them is made.
    starts = learning_starts(config) + (config.sac.n_step - 1) * dynamics.num_envs
    learner = make_learner(config, *sizes)
    return DeviceCollector(config, learner, replay, dynamics, starts, _shown(config))


def _divided(config: Config) -> Dynamics[Any]:
    """The worlds, which the learner's devices share."""
    devices = config.sac.devices
    if devices == 1:
        return make_dynamics(config)
    from booster_ray.envs.divided import DividedDynamics

    part = make_dynamics(config, config.world.num_envs // devices)
    return DividedDynamics(make_dynamics(config), part, devices)


def _replay_options(config: Config) -> dict[str, Any]:
    sac = config.sac
    return {"n_step": sac.n_step, "discount": sac.discount, "shares": task_shares(config)}
