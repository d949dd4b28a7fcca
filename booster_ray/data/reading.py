"""Episodes of a dataset as a run's own transitions: its observation, its reward, its endings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

import numpy as np

from booster_ray.config import Config, ConfigError
from booster_ray.data.dataset import CLEAN, TERMS, Dataset, Episode
from booster_ray.envs.options import training_options
from booster_ray.policy.settings import settings_of
from booster_ray.soccer import game
from booster_ray.soccer.rewards import TERMS as REWARD_TERMS

PLACE = "replay.demonstrations"
"""The setting that errors name."""


class Demonstrated(NamedTuple):
    """Episodes, one after the other; each of T steps has T + 1 rows, the last of which no action.

    M is the number of all rows, E that of episodes.
    """

    observation: np.ndarray
    """float32 (M, obs)."""
    action: np.ndarray
    """float32 (M, act): as they were played."""
    wanted: np.ndarray
    """float32 (M, act): what the policy would have done without noise."""
    reward: np.ndarray
    """float32 (M,), as the run weighs it."""
    steps: np.ndarray
    """int (E,): T of each episode."""
    terminated: np.ndarray
    """bool (E,): nothing follows an episode's last step."""
    task: np.ndarray
    """int (E,): index into ``game.TASKS``; 0 outside the game."""
    digest: str
    """Of the dataset."""


@overload
def demonstrations(
    config: Config, split: str, *, rewards: bool = True, required: Literal[True] = True
) -> Demonstrated: ...
@overload
def demonstrations(
    config: Config, split: str, *, rewards: bool = True, required: bool
) -> Demonstrated | None: ...
def demonstrations(
    config: Config, split: str, *, rewards: bool = True, required: bool = True
) -> Demonstrated | None:
    """One part of ``replay.demonstrations``, of the tasks that a run plays.

    Args:
        config: a resolved config with demonstrations.
        split: ``train`` or ``validation``.
        rewards: whether they are needed.
        required: whether a part without an episode is refused; else it is None.

    Raises:
        ConfigError: no dataset, a damaged one, or one that does not fit the run; a line says what.
    """
    path = Path(config.replay.demonstrations or "")
    dataset = Dataset(path)
    check_layout(dataset, config, rewards=rewards)
    dataset.check()
    found = [e for e in dataset.episodes(split) if _wanted(e, config)]
    if not found and not required:
        return None
    if not found:
        raise ConfigError(PLACE, f"{path} holds no {split} episode of {', '.join(config.tasks)}")
    columns = _columns(dataset, config) if rewards else None
    size = sum(len(e.observations) for e in found)
    shape = size, found[0].actions.shape[1]
    made = Demonstrated(
        observation=np.concatenate([e.observations for e in found]),
        action=np.zeros(shape, np.float32),
        wanted=np.zeros(shape, np.float32),
        reward=np.zeros(size, np.float32),
        steps=np.array([len(e.rewards) for e in found]),
        terminated=np.array([e.terminated or closes(config) for e in found]),
        task=np.array([_task(e, config) for e in found]),
        digest=dataset.digest,
    )
    start = 0
    for episode in found:
        rows = slice(start, start + len(episode.rewards))
        made.action[rows] = episode.actions
        clean = episode.infos.get(CLEAN)
        made.wanted[rows] = episode.actions if clean is None else clean[: len(episode.rewards)]
        if rewards:
            made.reward[rows] = _rewards(episode, columns)
        start = rows.stop + 1
    return made


def _wanted(episode: Episode, config: Config) -> bool:
    """Whether an episode counts: of the run's tasks, and with a physics that was not lost."""
    task = episode.about.get("task")
    if config.world.is_soccer and task in game.TASKS and task not in config.tasks:
        return False
    return not episode.about.get("lost") and len(episode.rewards) > 0


def _task(episode: Episode, config: Config) -> int:
    if not config.world.is_soccer:
        return 0
    task = episode.about.get("task")
    if task not in game.TASKS:
        text = f"has an episode of task {task}, expected {', '.join(game.TASKS)}"
        raise ConfigError(PLACE, f"{config.replay.demonstrations} {text}")
    return game.TASKS.index(task)


def closes(config: Config) -> bool:
    """Whether time's end is an end of the game to a run."""
    return bool(config.world.is_soccer and training_options(config)["limit_terminates"])


# -- rewards ---------------------------------------------------------------------------------------


def _columns(dataset: Dataset, config: Config) -> np.ndarray | None:
    """What each column of the recorded terms pays in a step; None: rewards are told as they are.

    A curriculum's factors do not count: they belong to moments of the run.
    """
    names = dataset.about.get("terms") or []
    if not config.world.is_soccer or not names:
        return None
    options = training_options(config)
    paid = {
        name: weight * (1.0 if REWARD_TERMS[name].event else options["reward_seconds"])
        for name, weight in options["weights"].items()
        if weight
    }
    if lost := [name for name in paid if name not in names]:
        text = f"was recorded without the reward term {lost[0]}, which rewards.{lost[0]} weighs"
        raise ConfigError(PLACE, f"{dataset.folder} {text}; record it again")
    return np.array([paid.get(name, 0.0) for name in names])


def _rewards(episode: Episode, columns: np.ndarray | None) -> np.ndarray:
    if columns is None:
        return episode.rewards
    terms = np.asarray(episode.infos[TERMS], np.float64)[1:]
    return (terms @ columns).astype(np.float32)


# -- whether it fits -------------------------------------------------------------------------------


def check_demonstrations(config: Config) -> None:
    """See that ``replay.demonstrations`` is there, whole and fits, without loading JAX.

    Raises:
        ConfigError: it is not; a line says what.
    """
    dataset = Dataset(Path(config.replay.demonstrations or ""))
    check_layout(dataset, config, rewards=config.stage != "clone")
    dataset.check()


def check_layout(dataset: Dataset, config: Config, *, rewards: bool) -> None:
    """Refuse episodes that mean something else than the run's.

    Raises:
        ConfigError: one line that names what differs.
    """
    path = dataset.folder
    if rewards and dataset.about and not dataset.about.get("rewards", True):
        raise ConfigError(PLACE, f"{path} has no rewards: it can be cloned, not replayed")
    told = dataset.about.get("settings")
    if config.world.is_soccer and told:
        _check_settings(path, told, settings_of(config).to_dict())
    from booster_ray.envs.make import sizes

    view = dataset.opened()
    spaces = {"observations": view.observation_space, "actions": view.action_space}
    for (what, space), ours in zip(spaces.items(), sizes(config), strict=True):
        theirs = int(np.prod(space.shape)) if space.shape else 0
        if theirs != ours:
            raise ConfigError(
                PLACE, f"{path} has {what} of {theirs} numbers; this run's have {ours}"
            )


def _check_settings(path: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    for name, section in (
        ("features", "observation"),
        ("gait_frequency", "observation"),
        *((name, "control") for name in ("mode", "decimation", "action_scale", "action_bounds")),
        *((name, "control") for name in ("default_pose", "kp", "kd")),
    ):
        if name == "gait_frequency" and "clock" not in ours["features"]:
            continue
        if theirs[name] != ours[name]:
            text = f"{path} was recorded with {section}.{name} {theirs[name]}"
            raise ConfigError(PLACE, f"{text}; this run has {ours[name]}, expected the same")
