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
from booster_ray.soccer import game, spawn
from booster_ray.soccer.frame import Frame
from booster_ray.soccer.scoring import WEIGHTS, raw_terms, worst_terms

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
    lost: bool = False
    """Whether its physics was lost, so that it counts as the worst outcome, see :func:`lost`."""
    goal_speed: float = 0.0
    """m/s of the ball's centre towards the line of the goal, at the end: an honest kick's, where
    the score reads a point of the rolling ball's surface."""

    def to_dict(self) -> dict[str, Any]:
        """JSON, without the torques."""
        return {k: v for k, v in vars(self).items() if k != "torques"}


def lost(task: str, seed: int, measured: dict[str, Any]) -> Episode:
    """An episode whose physics was no longer finite: the worst outcome, from then on.

    Were it left out, a policy that breaks the simulation would be judged by the rest.

    Args:
        task: of ``game.TASKS``.
        seed: the episode's.
        measured: what :meth:`Measures.of` told until then.
    """
    terms = worst_terms(task)
    worst = {"score": sum(terms.values()), "fallen": 1.0, "success": 0.0, "lost": True}
    return Episode(task, seed, terms=terms, **(measured | worst))


class Instant(NamedTuple):
    """What is measured after each physics step, arrays (n,)."""

    touching: np.ndarray
    ball_speed: np.ndarray
    goal_speed: np.ndarray
    height: np.ndarray
    contact: np.ndarray
    torque: np.ndarray


class Measures:
    """Sums over the steps of a batch of episodes."""

    def __init__(self, n: int) -> None:
        self.steps = np.zeros(n, np.int64)
        self.first_touch = np.zeros(n, np.int64)
        self.ball_speed = np.zeros(n)
        self.goal_speed = np.zeros(n)
        self._sums = np.zeros((3, n))

    def add(self, now: Instant, alive: np.ndarray) -> None:
        """One step of the worlds that still play, bool (n,)."""
        self.steps += alive
        new = now.touching & (self.first_touch == 0) & alive
        self.first_touch = np.where(new, self.steps, self.first_touch)
        self.ball_speed = np.where(alive, np.fmax(self.ball_speed, now.ball_speed), self.ball_speed)
        self.goal_speed = np.where(alive, np.nan_to_num(now.goal_speed), self.goal_speed)
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
            "goal_speed": float(self.goal_speed[i]),
            "height": height,
            "contact": contact,
            "torque": torque,
        }


Progress = Callable[[int, int], object]
"""Told the physics steps made, and how many there are at most."""


def silent(steps: int, of: int) -> None:
    """No progress to show."""


def wanted(
    seeds: Sequence[int], tasks: Sequence[str], stochastic: bool = False
) -> list[tuple[str, int]]:
    """The episodes to play, (task, seed): all seeds of a task, one where nothing is drawn."""
    return [
        (task, int(seed))
        for task in tasks
        for seed in (seeds if stochastic or task not in spawn.DETERMINISTIC else seeds[:1])
    ]


def play_native(
    seeds: Sequence[int],
    make_player: Callable[[], Player],
    *,
    tasks: Sequence[str] = game.TASKS,
    stochastic: bool = False,
    threads: int = 1,
    keep_torques: bool = False,
    progress: Progress = silent,
) -> list[Episode]:
    """Play one episode of each task a seed in native worlds, all at once.

    Args:
        seeds: as ``env.reset(seed=…)`` takes them.
        make_player: called for each task.
        tasks: see ``game.TASKS``.
        stochastic: whether players draw random numbers of their own; else a task whose spawn
            draws nothing is played on the first seed alone, because all its episodes are equal.
        threads: of physics.
        keep_torques: keep what was played, up to 480 kB an episode.
        progress: shown as it goes.

    Returns:
        Episodes by task, in the order of the seeds; one that was lost counts as the worst outcome.

    Raises:
        BadAction: a player gave something that is no action.
    """
    episodes = wanted(seeds, tasks, stochastic)
    n, played_tasks = len(episodes), [task for task, _ in episodes]
    world = NativeWorld(
        played_tasks,
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
        world.reset(0, env_seeds=[seed for _, seed in episodes])
        frame = world.frame()
        while not over.all():
            torque = _torques(players, played_tasks, frame, ~over)
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
        _native_episode(i, told, ended.get(i), frame, measures, kept)
        for i, told in enumerate(episodes)
    ]


def _torques(
    players: dict[str, Player], tasks: Sequence[str], frame: Frame, alive: np.ndarray
) -> np.ndarray:
    """Of each task's worlds by its player (n, 12) N·m; ``tasks`` (n) are the worlds', in a row."""
    torque = np.zeros((len(alive), game.ACTION_SIZE))
    for task, player in players.items():
        first = tasks.index(task)
        mine = slice(first, first + tasks.count(task))
        if alive[mine].any():
            view = official_view(Frame(*(part[mine] for part in frame)), task)
            torque[mine] = checked(player(*view), alive[mine])
    return torque


def _native_episode(
    i: int,
    wanted: tuple[str, int],
    ended: dict[str, float] | None,
    frame: Frame,
    measures: Measures,
    kept: list[np.ndarray],
) -> Episode:
    """What became of world ``i``; ``frame`` is the last of all worlds, ``ended`` its record."""
    task, seed = wanted
    torques = np.stack([t[i] for t in kept[: measures.steps[i]]]) if kept else None
    if ended is None:
        return lost(task, seed, measures.of(i) | {"torques": torques})
    terms = raw_terms(Frame(*(part[i : i + 1] for part in frame)))
    told: dict[str, Any] = {n: ended[n] for n in ("score", "fallen", "success")}
    told["terms"] = weighted({n: float(terms[n][0]) for n in WEIGHTS[task]}, task)
    return Episode(task, seed, **told, torques=torques, **measures.of(i))


def weighted(raw: dict[str, float], task: str) -> dict[str, float]:
    """What each raw term gives of the official score."""
    return {name: weight * raw.get(name, 1.0) for name, weight in WEIGHTS[task].items()}


def _native_instant(frame: Frame) -> Instant:
    return Instant(
        touching=frame.ball_contact,
        ball_speed=np.linalg.norm(frame.ball_vel, axis=-1),
        goal_speed=-frame.ball_center_vel[:, 0],
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
    stochastic: bool = False,
    keep_torques: bool = False,
    progress: Progress = silent,
) -> list[Episode]:
    """The same in sai_mujoco itself, one episode after the other, each with a new player."""
    episodes: list[Episode] = []
    every = wanted(seeds, tasks, stochastic)
    whole = len(every) * game.EPISODE_STEPS
    for task in tasks:
        env = make_official(task)
        try:
            for seed in (seed for other, seed in every if other == task):
                done = len(episodes) * game.EPISODE_STEPS
                tell = partial(_tell, progress, done, whole)
                episodes.append(_one_official(env, task, seed, make_player(), keep_torques, tell))
        finally:
            env.close()
    return episodes


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
    torques = np.stack(kept) if kept else None
    if not np.isfinite(sum(terms.values())):
        return lost(task, int(seed), measures.of(0) | {"torques": torques})
    return Episode(
        task,
        int(seed),
        score=sum(terms.values()),
        terms=terms,
        fallen=float(not height > game.FALL_HEIGHT),
        success=float(info["success"]),
        torques=torques,
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
        turned = data.geom(self._ball).xmat.reshape(3, 3)
        center = data.qvel[0:3] + turned @ np.cross(data.qvel[3:6], game.BALL_CENTER)
        touching = ((pairs == self._ball) & self._robot[pairs[:, ::-1]]).any()
        return Instant(
            touching=np.array([touching]),
            ball_speed=np.array([np.linalg.norm(data.qvel[0:3])]),
            goal_speed=-center[0:1],
            height=np.array([self.height()]),
            contact=np.array([np.mean([foot[pairs].any() for foot in self._feet])]),
            torque=_effort(torque),
        )
