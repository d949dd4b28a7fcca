"""Plays whole official episodes with something that answers official observations and infos.

The same episodes come out of native worlds and of sai_mujoco, bit for bit; native worlds are
faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from booster_ray.config import Config
from booster_ray.envs.native import NativeWorld
from booster_ray.envs.official import make_official
from booster_ray.envs.official_view import official_view
from booster_ray.envs.options import gains
from booster_ray.policy.player import Player, checked
from booster_ray.soccer import game
from booster_ray.soccer.frame import Frame
from booster_ray.soccer.scoring import WEIGHTS, raw_terms

TASK_INDEX = "task_index"
"""The info that sai_rl adds to sai_mujoco's: the task's one-hot."""


@dataclass
class Episode:
    """What one official episode came to."""

    task: str
    seed: int
    score: float
    """Official."""
    terms: dict[str, float]
    """What each raw term, times its weight, gave of the score."""
    seconds: float
    """Until its end, 10 at most."""
    fallen: float
    """1 or 0."""
    success: float
    touched: float
    first_touch: float | None
    """Seconds until the robot first touched the ball; None: never."""
    ball_speed: float
    """m/s, the fastest of the episode."""
    height: float
    """m: mean of the imu's."""
    contact: float
    """Mean share of the feet that touch anything."""
    torque: float
    """Mean share of the joints' torque limits."""
    torques: np.ndarray | None = field(default=None, repr=False, compare=False)
    """(steps, 12) N·m, where asked for: they play the episode again."""

    def to_dict(self) -> dict[str, Any]:
        """JSON, without the torques."""
        return {k: v for k, v in vars(self).items() if k != "torques"}


class Instant(NamedTuple):
    """What is measured after each physics step, arrays (n,)."""

    touching: np.ndarray
    ball_speed: np.ndarray
    height: np.ndarray
    contact: np.ndarray
    torque: np.ndarray


class Measures:
    """Sums over the steps of a batch of episodes."""

    def __init__(self, n: int) -> None:
        self.steps = np.zeros(n, np.int64)
        self.first_touch = np.zeros(n, np.int64)
        self.ball_speed = np.zeros(n)
        self._sums = np.zeros((3, n))

    def add(self, now: Instant, alive: np.ndarray) -> None:
        """One step of the worlds that still play, bool (n,)."""
        self.steps += alive
        new = now.touching & (self.first_touch == 0) & alive
        self.first_touch = np.where(new, self.steps, self.first_touch)
        self.ball_speed = np.where(alive, np.fmax(self.ball_speed, now.ball_speed), self.ball_speed)
        parts = np.stack([now.height, now.contact, now.torque])
        self._sums += np.where(alive, np.nan_to_num(parts), 0.0)

    def of(self, i: int) -> dict[str, Any]:
        """The fields of :class:`Episode` that are measured."""
        touch = int(self.first_touch[i])
        height, contact, torque = (self._sums[:, i] / max(1, int(self.steps[i]))).tolist()
        return {
            "seconds": float(self.steps[i] * game.TIMESTEP),
            "touched": float(touch > 0),
            "first_touch": touch * game.TIMESTEP if touch else None,
            "ball_speed": float(self.ball_speed[i]),
            "height": height,
            "contact": contact,
            "torque": torque,
        }


Progress = Callable[[int, int], object]
"""Told the physics steps made, and how many there are at most."""


def silent(steps: int, of: int) -> None:
    """No progress to show."""


def play_native(
    seeds: Sequence[int],
    make_player: Callable[[], Player],
    *,
    tasks: Sequence[str] = game.TASKS,
    threads: int = 1,
    keep_torques: bool = False,
    progress: Progress = silent,
) -> list[Episode]:
    """Play one episode of each task a seed in native worlds, all at once.

    Args:
        seeds: as ``env.reset(seed=…)`` takes them.
        make_player: called for each task.
        tasks: see ``game.TASKS``.
        threads: of physics.
        keep_torques: keep what was played, up to 480 kB an episode.
        progress: shown as it goes.

    Returns:
        Episodes by task, in the order of the seeds; one whose physics was lost is left out.

    Raises:
        BadAction: a player gave something that is no action.
    """
    n = len(seeds) * len(tasks)
    world = NativeWorld(
        tasks,
        n,
        gains(Config()),  # not used: actions are torques
        mode="newton_metres",
        decimation=1,
        auto_reset=False,
        threads=threads,
    )
    players = {task: make_player() for task in tasks}
    measures, over, kept = Measures(n), np.zeros(n, bool), []
    ended: dict[int, dict[str, float]] = {}
    try:
        world.reset(0, env_seeds=[seed for seed in seeds for _ in tasks])
        frame = world.frame()
        while not over.all():
            torque = _torques(players, frame, ~over)
            result = world.step(torque)
            frame = world.frame()
            measures.add(_native_instant(frame), ~over)
            kept += [torque] if keep_torques else []
            ended |= {int(e["env"]): e for e in result.episodes if not e["lost"]}
            over |= result.terminated | result.truncated
            progress(int(measures.steps.max()), game.EPISODE_STEPS)
    finally:
        world.close()
    return [
        _native_episode(i, tasks, seeds, ended[i], frame, measures, kept)
        for i in sorted(ended, key=lambda i: (i % len(tasks), i))
    ]


def _torques(players: dict[str, Player], frame: Frame, alive: np.ndarray) -> np.ndarray:
    """Of each task's worlds by its player (n, 12) N·m; world i plays task i % len(players)."""
    torque = np.zeros((len(alive), game.ACTION_SIZE))
    for k, (task, player) in enumerate(players.items()):
        mine = slice(k, None, len(players))
        if alive[mine].any():
            view = official_view(Frame(*(part[mine] for part in frame)), task)
            torque[mine] = checked(player(*view), alive[mine])
    return torque


def _native_episode(
    i: int,
    tasks: Sequence[str],
    seeds: Sequence[int],
    ended: dict[str, float],
    frame: Frame,
    measures: Measures,
    kept: list[np.ndarray],
) -> Episode:
    """What became of world ``i``; ``frame`` is the last of all worlds."""
    task = tasks[i % len(tasks)]
    terms = raw_terms(Frame(*(part[i : i + 1] for part in frame)))
    told: dict[str, Any] = {n: ended[n] for n in ("score", "fallen", "success")}
    told["terms"] = weighted({n: float(terms[n][0]) for n in WEIGHTS[task]}, task)
    told["torques"] = np.stack([t[i] for t in kept[: measures.steps[i]]]) if kept else None
    return Episode(task, int(seeds[i // len(tasks)]), **told, **measures.of(i))


def weighted(raw: dict[str, float], task: str) -> dict[str, float]:
    """What each raw term gives of the official score."""
    return {name: weight * raw.get(name, 1.0) for name, weight in WEIGHTS[task].items()}


def _native_instant(frame: Frame) -> Instant:
    return Instant(
        touching=frame.ball_contact,
        ball_speed=np.linalg.norm(frame.ball_vel, axis=-1),
        height=frame.imu_pos[:, 2],
        contact=frame.foot_contact.mean(axis=-1),
        torque=_effort(frame.torque),
    )


def _effort(torque: np.ndarray) -> np.ndarray:
    return np.mean(np.abs(torque) / np.array(game.TORQUE_LIMITS), axis=-1)


# -- sai_mujoco ------------------------------------------------------------------------------------


def play_official(
    seeds: Sequence[int],
    make_player: Callable[[], Player],
    *,
    tasks: Sequence[str] = game.TASKS,
    keep_torques: bool = False,
    progress: Progress = silent,
) -> list[Episode]:
    """The same in sai_mujoco itself, one episode after the other, each with a new player."""
    episodes: list[Episode] = []
    whole = len(seeds) * len(tasks) * game.EPISODE_STEPS
    for task in tasks:
        env = make_official(task)
        try:
            for seed in seeds:
                done = len(episodes) * game.EPISODE_STEPS
                tell = partial(_tell, progress, done, whole)
                episodes.append(_one_official(env, task, seed, make_player(), keep_torques, tell))
        finally:
            env.close()
    return [episode for episode in episodes if np.isfinite(episode.score)]


def _tell(progress: Progress, before: int, whole: int, step: int) -> None:
    progress(before + step, whole)


def _one_official(
    env: Any,
    task: str,
    seed: int,
    player: Player,
    keep_torques: bool,
    progress: Callable[[int], object],
) -> Episode:
    """One episode; ``progress`` is told its steps."""
    one_hot = (np.array(game.TASKS) == task).astype(np.float32)
    observation, info = env.reset(seed=int(seed))
    contacts = Contacts(env)
    measures, kept, alive = Measures(1), [], np.ones(1, bool)
    for step in range(1, game.EPISODE_STEPS + 1):
        told = {k: np.asarray(v)[None] for k, v in info.items() if k != "reward_terms"}
        torque = checked(player(observation[None], told | {TASK_INDEX: one_hot[None]}), alive)
        limits = np.array(game.TORQUE_LIMITS, torque.dtype)
        torque = np.clip(torque, -limits, limits)
        observation, _, terminated, truncated, info = env.step(torque[0])
        measures.add(contacts.instant(torque), alive)
        kept += [torque[0]] if keep_torques else []
        progress(step)
        if terminated or truncated:
            break
    raw = {name: float(value) for name, value in info["reward_terms"].items()}
    terms = weighted(raw, task)
    height = contacts.height()
    return Episode(
        task,
        int(seed),
        score=sum(terms.values()),
        terms=terms,
        fallen=float(not height > game.FALL_HEIGHT),
        success=float(info["success"]),
        torques=np.stack(kept) if kept else None,
        **measures.of(0),
    )


class Contacts:
    """What sai_mujoco's simulation shows besides observation and infos."""

    def __init__(self, env: Any) -> None:
        self._data = env.unwrapped.sim.data._data
        model = self._data.model
        owner = np.array([model.body(b).name for b in model.geom_bodyid])
        self._robot = np.array([name.startswith("robot_0:") for name in owner])
        self._ball = model.geom("ball").id
        self._feet = [owner == f"robot_0:{side}_foot_link" for side in ("left", "right")]

    def height(self) -> float:
        """Of the imu, m."""
        return float(self._data.site("robot_0:imu").xpos[2])

    def instant(self, torque: np.ndarray) -> Instant:
        """Of the last step, with its torques (1, 12)."""
        data = self._data
        pairs = data.contact.geom[: data.ncon]
        touching = ((pairs == self._ball) & self._robot[pairs[:, ::-1]]).any()
        return Instant(
            touching=np.array([touching]),
            ball_speed=np.array([np.linalg.norm(data.qvel[0:3])]),
            height=np.array([self.height()]),
            contact=np.array([np.mean([foot[pairs].any() for foot in self._feet])]),
            torque=_effort(torque),
        )
