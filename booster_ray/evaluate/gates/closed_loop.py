"""A package plays whole episodes, and beside it stands what it should have done.

The package's own files play: the text of its preprocessor and action function, and its module as
it was saved. In every physics step the reference is computed anew from the state of the world that
the package is in: the rules' observation of it, a clock and a memory of its own, the JAX policy in
control steps and the PD law in all. So nothing that a package does between the official
environment and the motors goes unseen, and no difference can grow by chaos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from booster_ray.config import Config
from booster_ray.envs.native import NativeWorld
from booster_ray.envs.official_view import official_view
from booster_ray.envs.options import gains, soccer_options
from booster_ray.evaluate.play import Progress, silent
from booster_ray.policy import package
from booster_ray.policy.sai import Player
from booster_ray.policy.settings import Settings, settings_of
from booster_ray.soccer import game
from booster_ray.soccer.control import pd_target, pd_torque
from booster_ray.soccer.frame import Frame
from booster_ray.soccer.observation import (
    Clock,
    append,
    gait_phase,
    observe,
    places,
    remaining,
)

WORLDS = 6
"""Of each task: two undisturbed, two shoved, two that fall again and again."""
SHOVES = (0.0, 0.0, 0.1, 0.3, 0.6, 1.0)
"""Share of the torque limits that is added at random, for each of a task's worlds."""
SHOVE_STEPS = 25
"""Physics steps that such an addition lasts."""
RESETS_STEPS, RESETS_EPISODE, RESETS_APART = 500, 125, 20
"""Physics steps in which worlds begin anew beside others that go on: in all, of an episode there,
and between the ends of two worlds' first episodes."""

Policy = Callable[[np.ndarray], np.ndarray]
"""Observations (n, obs) float32 to actions (n, 12) in [-1, 1]."""


class Gaps:
    """Largest differences by what differed, over all worlds that played.

    ``torque`` N·m, of every physics step; ``action`` in control steps; the parts of an
    observation by name, over its magnitude where that is above 1; ``memory`` the previous action
    that the module remembers; ``network`` the actions of both networks on the package's own
    observation; ``pd`` N·m, its torques against the PD law on its own actions.
    """

    def __init__(self) -> None:
        self.largest: dict[str, float] = {}

    def add(self, name: str, ours: np.ndarray, theirs: np.ndarray, alive: np.ndarray) -> None:
        """Compare rows (n, …) of the worlds ``alive`` (n,); what is not finite differs by inf."""
        gap = np.abs(np.asarray(ours, float) - theirs)[alive]
        found = float(gap.max()) if gap.size and np.isfinite(gap).all() else 0.0
        found = float("inf") if gap.size and not np.isfinite(gap).all() else found
        self.largest[name] = max(self.largest.get(name, 0.0), found)


class Reference:
    """What a policy should do in a batch of worlds of one task, from the rules alone.

    Args:
        policy: the JAX policy, exact.
        config: of the policy.
        n: worlds.
    """

    def __init__(self, policy: Policy, config: Config, n: int) -> None:
        self._policy, self._gains = policy, gains(config)
        self._options = soccer_options(config)
        self.steps = np.zeros(n, np.int64)
        self.previous, self.action = (np.zeros((n, game.ACTION_SIZE)) for _ in range(2))
        size = places(self._options["features"]).values()
        self.observation = np.zeros((n, max(part.stop for part in size)), np.float32)

    def acts(self) -> np.ndarray:
        """Which worlds are in a control step. Bool (n,)."""
        return np.asarray(self.steps % self._options["decimation"] == 0)

    def torque(self, frame: Frame) -> np.ndarray:
        """N·m (n, 12) in this physics step; ``frame`` is the state before it."""
        acts = self.acts()
        if acts.any():
            self.previous = np.where(acts[:, None], self.action, self.previous)
            phase = gait_phase(self.steps, self._options["gait_frequency"])
            kept = Clock(phase, self.previous, remaining(self.steps))
            seen = append(observe(frame), frame, kept, self._options["features"])
            self.observation = np.where(acts[:, None], seen, self.observation)
            action = np.clip(self._policy(self.observation), -1, 1)
            self.action = np.where(acts[:, None], action, self.action)
        return self.law(self.action, frame)

    def law(self, action: np.ndarray, frame: Frame) -> np.ndarray:
        """Torques (n, 12) N·m of actions (n, 12), in the state of ``frame``."""
        if self._options["mode"] == "torque":
            return np.asarray(action * self._gains.torque_limit)
        target = pd_target(action, self._gains)
        return np.asarray(pd_torque(target, frame.joint_pos, frame.joint_vel, self._gains))

    def begin(self, which: np.ndarray) -> None:
        """Episodes of the worlds ``which`` (bool, n) begin anew; in the others a step passed."""
        self.steps = np.where(which, 0, self.steps + 1)
        self.previous[which] = self.action[which] = 0.0


class Watched:
    """A package's player of one task, with its reference; compares in every step."""

    def __init__(self, player: Player, reference: Reference, policy: Policy, s: Settings) -> None:
        self._player, self._reference, self._policy = player, reference, policy
        self._places = places(s.features)
        self._remembers = s.remembers
        self._own = np.zeros_like(reference.action)
        self.compared = 0
        """Control steps so far."""

    def torque(self, frame: Frame, task: str, alive: np.ndarray, gaps: Gaps) -> np.ndarray:
        """The package's torques (n, 12) N·m, compared with what they should be."""
        reference = self._reference
        torque = self._player(*official_view(frame, task))
        gaps.add("torque", torque, reference.torque(frame), alive)
        acts = reference.acts() & alive
        self.compared += int(acts.sum())
        for name, part in self._places.items() if acts.any() else ():
            if name != "previous_action":  # which the module fills in
                theirs = reference.observation[:, part]
                size = np.maximum(1.0, np.abs(theirs))
                gaps.add(name, self._player.seen[:, part] / size, theirs / size, acts)
        self._inside(acts, alive, gaps)
        gaps.add("pd", torque, reference.law(self._own, frame), alive)
        # What is no number is written down as a difference; the world goes on.
        return np.where(alive[:, None], np.nan_to_num(torque), 0.0)

    def _inside(self, acts: np.ndarray, alive: np.ndarray, gaps: Gaps) -> None:
        """What the parts of the module say, to name the one that differs."""
        import torch

        reference, module = self._reference, self._player.model
        seen = self._player.seen[:, : reference.observation.shape[1]].copy()
        if self._remembers:
            seen[:, self._places["previous_action"]] = module.previous.numpy()
            gaps.add("memory", module.previous.numpy(), reference.previous, alive)
        if acts.any():
            with torch.no_grad():
                own = module.actor(torch.from_numpy(seen).double()).clamp(-1, 1).float().numpy()
            self._own = np.where(reference.acts()[:, None], own, self._own)
            gaps.add("action", own, reference.action, acts)
            gaps.add("network", own, np.clip(self._policy(seen), -1, 1), acts)

    def begin(self, which: np.ndarray) -> None:
        """Episodes of the worlds ``which`` (bool, n) begin anew; in the others a step passed."""
        self._reference.begin(which)


def play(
    directory: Path,
    config: Config,
    policy: Policy,
    *,
    steps: int = game.EPISODE_STEPS,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Play a package beside its reference in all tasks.

    First all worlds to their ends, dead ones in the batch among others; then for 1 s at most in
    worlds that begin anew, one after the other.

    Args:
        directory: the package.
        config: of the policy.
        policy: the JAX policy, exact.
        steps: physics steps of 2 ms, at most.
        progress: shown as it goes.

    Returns:
        JSON: ``largest`` differences (see :class:`Gaps`), ``episodes``, ``resets`` in the midst
        of a batch, and ``control_steps`` compared.

    Raises:
        Rejected: the package's code fails, or gives something of another shape.
    """
    made, settings = package.load(directory).make_player, settings_of(config)
    gaps, counted = Gaps(), dict.fromkeys(("episodes", "resets", "control_steps"), 0)
    resets = min(steps, RESETS_STEPS)
    for auto_reset, length, before in ((False, steps, 0), (True, resets, steps)):
        watched = [
            Watched(made(), Reference(policy, config, WORLDS), policy, settings) for _ in game.TASKS
        ]
        world = NativeWorld(
            game.TASKS, WORLDS * len(game.TASKS), gains(config), mode="newton_metres",
            decimation=1, auto_reset=auto_reset,
            episode_steps=RESETS_EPISODE if auto_reset else game.EPISODE_STEPS,
        )  # fmt: skip
        try:
            for step, ended in enumerate(_steps(world, watched, gaps, length, auto_reset)):
                counted["episodes"] += ended
                counted["resets"] += ended * auto_reset
                progress(before + step + 1, steps + resets)
        finally:
            world.close()
        counted["control_steps"] += sum(one.compared for one in watched)
    return {"largest": gaps.largest, **counted}


def _steps(
    world: NativeWorld, watched: Sequence[Watched], gaps: Gaps, steps: int, auto_reset: bool
) -> Iterator[int]:
    """Play; gives the number of episodes that ended in each step."""
    tasks, rng = len(watched), np.random.default_rng(0)
    limits = np.repeat(SHOVES, tasks)[:, None] * np.array(game.TORQUE_LIMITS)
    over, shove = np.zeros(world.num_envs, bool), np.zeros_like(limits)
    world.reset(0)
    if auto_reset:
        _stagger(world)
    for step in range(steps):
        if step % SHOVE_STEPS == 0:
            shove = limits * rng.uniform(-1, 1, limits.shape)
        frame, torque = world.frame(), np.zeros_like(limits)
        for k, one in enumerate(watched):  # world i plays task i % tasks
            mine = slice(k, None, tasks)
            part = Frame(*(values[mine] for values in frame))
            torque[mine] = one.torque(part, game.TASKS[k], ~over[mine], gaps)
        result = world.step(torque + shove)
        ended = (result.terminated | result.truncated) & ~over
        over |= ended & (not auto_reset)
        for k, one in enumerate(watched):
            one.begin(ended[k::tasks] & auto_reset)
        yield int(ended.sum())
        if over.all():
            return


def _stagger(world: NativeWorld) -> None:
    """Let the first episodes end one after the other."""
    state = world.state()
    state["counters"]["steps"][:] = RESETS_APART * (np.arange(world.num_envs) // len(game.TASKS))
    world.restore(state)
