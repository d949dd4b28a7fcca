"""What binds a config of stage ``finetune`` to a collector: DDPG, on a group of workers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from booster_ray.config import Config
from booster_ray.envs.contract import StepResult
from booster_ray.envs.make import make_world
from booster_ray.rl.ddpg.host import HostDdpg
from booster_ray.rl.ddpg.learner import Ddpg
from booster_ray.rl.ddpg.replay import AnnealedReplay
from booster_ray.rl.ddpg.team import Team, own_device
from booster_ray.runtime.memory import check_run
from booster_ray.runtime.seeding import stream_seed
from booster_ray.soccer.observation import places
from booster_ray.soccer.rewards import RECORDED
from booster_ray.store.checkpoint import Tree
from booster_ray.train.expert import Expert
from booster_ray.train.finetune_start import Start, begin, from_nothing
from booster_ray.train.group import GroupCollector
from booster_ray.train.host_collector import HostCollector
from booster_ray.train.learner import scheduled, task_shares

_START = places()["velocimeter"].start
VELOCIMETER = slice(_START, _START + 2)
"""Where an observation has the trunk's velocity along its x and y axes, m/s."""


def make_collector(config: Config, restored: Tree | None, team: Team) -> GroupCollector:
    """A worker's collector as at the run's start.

    Args:
        config: a resolved config.
        restored: what the leader will fill in next, if anything; else None.
        team: workers that train together.

    Raises:
        ConfigError: the expert cannot be made; and see :func:`finetune_start.begin`.
        ValueError: worlds that cannot tell what an expert must see.
    """
    start = None
    if team.rank == 0:
        start = begin(config) if restored is None else from_nothing(config, restored["kept"])
    start = team.share(start)
    # The worlds do not pay the official score: the learner weighs it itself.
    unpaid: dict[str, Any] = {"rewards": config.rewards.model_copy(update={"official": 0.0})}
    if config.rewards.official and config.world.time_limit == "auto":
        unpaid["world"] = config.world.model_copy(update={"time_limit": "terminates"})
    world = make_world(
        config.model_copy(update=unpaid),
        config.world.threads or config.trainer.cpus,
        config.world.num_envs // team.size,
    )
    sizes = world.observation_size, world.action_size
    check_run(config, *sizes)
    collector = HostCollector(
        config,
        world,
        _learner(config, start, world.task, sizes, team),
        expert=Expert(config, world) if config.imitation.demonstrator else None,
        reward=partial(reward_parts, config),
        seed_at=partial(stream_seed, config.seed, "worlds", team.rank),
        rank=team.rank,
    )
    return GroupCollector(collector, team)


def _learner(
    config: Config, start: Start, task: np.ndarray, sizes: tuple[int, int], team: Team
) -> HostDdpg:
    ddpg, demonstrated = config.ddpg, config.imitation.demonstrator is not None
    replay = AnnealedReplay(
        ddpg.replay_size // team.size,
        task,
        *sizes,
        demonstrated=demonstrated,
        n_step=ddpg.n_step,
        discount=ddpg.discount,
        shares=task_shares(config),
    )
    return HostDdpg(
        Ddpg(
            ddpg,
            start.actor,
            stream_seed(config.seed, "critics"),
            adapt=start.adapt,
            demonstrated=demonstrated,
            team=team,
            device=own_device(),
        ),
        replay,
        max(ddpg.learning_starts, ddpg.batch_size) // team.size,
        {
            "dense_factor": scheduled(config, ddpg.dense),
            "official_factor": scheduled(config, ddpg.official),
            "noise": scheduled(config, ddpg.noise),
            "anchor": scheduled(config, ddpg.anchor),
        },
        own_share=scheduled(config, config.imitation.own_share),
        kept=start.kept,
        cores=config.trainer.cpus,
    )


def reward_parts(config: Config, result: StepResult) -> np.ndarray:
    """A step's reward in the parts of ``ddpg.replay.PARTS``, (n, 3).

    The weighted official score is paid in the step that ends an episode, and written into the
    episode's record, as the worlds write the other terms there. The penalty is the cost of standing
    still: all of it at rest, none from ``idle_speed`` on.
    """
    official, penalty = np.zeros((2, len(result.reward)), np.float32)
    ddpg = config.ddpg
    if config.world.is_soccer:
        for episode in result.episodes:
            # In a lost state nothing is paid, as the worlds pay nothing.
            paid = 0.0 if episode.get("lost") else config.rewards.official * episode["score"]
            official[int(episode["env"])] = paid
            if config.rewards.official:
                episode[f"{RECORDED}official"] = paid
        if ddpg.idle_penalty:
            speed = np.linalg.norm(result.final_observation[:, VELOCIMETER], axis=1)
            penalty = -ddpg.idle_penalty * np.maximum(1.0 - speed / ddpg.idle_speed, 0.0)
    return np.stack([result.reward, official, penalty], axis=-1)
