"""A batch of environments that is divided among processes.

Each process holds a :class:`~booster_ray.envs.gym_batch.GymBatch` of its own and is told what to do
through a pipe. What an environment does to its process, it does to that one: a crash is one line
that says so. The environments' seeds, results and states do not depend on how many processes there
are.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from booster_ray.envs.contract import StepResult, WorldError
from booster_ray.envs.gym_batch import GymBatch, joined, parted, seeds_of

Make = Callable[[Sequence[int]], GymBatch]
"""The environments at these places of the whole; it is pickled."""

GRACE_SECONDS = 5.0
"""For a process to end by itself."""

_BEGIN = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from booster_ray.envs.processes import serve
serve(int(sys.argv[2]))
"""


class ProcessWorld:
    """Implements :class:`booster_ray.envs.contract.World`.

    Args:
        name: what errors call it.
        make: see :data:`Make`.
        num_envs: environments in all.
        processes: how many to divide them among; of more than ``num_envs`` the rest is not begun.

    Raises:
        ValueError: as ``make`` does; a subclass of it is passed on.
        WorldError: a process died while it made its environments.
    """

    def __init__(self, name: str, make: Make, num_envs: int, processes: int) -> None:
        self.num_envs = num_envs
        self._places = dealt(num_envs, processes)
        self._workers: list[_Worker] = []
        try:
            for places in self._places:
                self._workers.append(_Worker(name, make, places))
            sizes = [worker.answer() for worker in self._workers]
        except BaseException:
            self.close()
            raise
        self.observation_size, self.action_size, _ = sizes[0]
        self.task = self._whole([task for *_, task in sizes])

    def _whole(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The processes' arrays (places, …) as one, (num_envs, …)."""
        whole = np.empty((self.num_envs, *parts[0].shape[1:]), parts[0].dtype)
        for places, part in zip(self._places, parts, strict=True):
            whole[places] = part
        return whole

    def _ask(self, what: str, given: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What each process answers to a call of ``what`` with its arguments."""
        for worker, arguments in zip(self._workers, given, strict=True):
            worker.ask(what, *arguments)
        return [worker.answer() for worker in self._workers]

    def reset(self, seed: int) -> np.ndarray:
        """Start every episode anew; float32 (num_envs, observation_size)."""
        seeds = np.array(seeds_of(seed, self.num_envs))
        return self._whole(self._ask("reset", [(seeds[p].tolist(),) for p in self._places]))

    def step(self, action: np.ndarray) -> StepResult:
        """Advance one control step; see :class:`booster_ray.envs.contract.World`."""
        if np.shape(action) != (self.num_envs, self.action_size):
            expected = self.num_envs, self.action_size
            raise ValueError(f"action has shape {np.shape(action)}; expected {expected}")
        results: list[StepResult] = self._ask("step", [(action[p],) for p in self._places])
        arrays: dict[str, Any] = {
            name: self._whole([getattr(result, name) for result in results])
            for name in StepResult._fields
            if name != "episodes"
        }
        episodes = [
            {**record, "env": int(places[int(record["env"])])}
            for places, result in zip(self._places, results, strict=True)
            for record in result.episodes
        ]
        episodes.sort(key=lambda record: record["env"])
        return StepResult(**arrays, episodes=episodes)

    def state(self) -> dict[str, Any]:
        """Every environment's state; empty where some of it cannot be read."""
        found = self._ask("captured", [()] * len(self._workers))
        if any(envs is None for envs, _ in found):
            return {}
        of = {
            int(place): env
            for places, (envs, _) in zip(self._places, found, strict=True)
            for place, env in zip(places, envs, strict=True)
        }
        kept = {name: self._whole([k[name] for _, k in found]) for name in found[0][1]}
        return joined([of[i] for i in range(self.num_envs)], kept)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken; raises ValueError when it does not fit."""
        envs, kept = parted(state, self.num_envs)
        shares = [
            ([envs[i] for i in places], {name: array[places] for name, array in kept.items()})
            for places in self._places
        ]
        self._ask("put_back", shares)

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.close()
        self._workers = []


def dealt(count: int, hands: int) -> list[np.ndarray]:
    """Places 0 to ``count`` dealt out, back and forth: tasks that take turns go to all hands."""
    hands = min(count, hands)
    order = [i if (place // hands) % 2 == 0 else hands - 1 - i
             for place in range(0, count, hands) for i in range(hands)][:count]  # fmt: skip
    return [np.flatnonzero(np.array(order) == hand) for hand in range(hands)]


class _Worker:
    """One process, as its parent sees it."""

    def __init__(self, name: str, make: Make, places: np.ndarray) -> None:
        self._name = name
        self._pipe, theirs = Pipe()
        with theirs:
            command = [sys.executable, "-c", _BEGIN, json.dumps(sys.path), str(theirs.fileno())]
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # Small matrices: threads of BLAS would only be in one another's way.
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        self._send((make, places.tolist()))

    def _send(self, message: Any) -> None:
        with suppress(BrokenPipeError, ConnectionError):  # it has died: the answer will tell
            self._pipe.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))

    def ask(self, what: str, *arguments: Any) -> None:
        """Begin a call, whose :meth:`answer` must be taken before the next."""
        self._send((what, arguments))

    def answer(self) -> Any:
        """What the call returned; raises what it raised, or WorldError where it died."""
        try:
            told, value = pickle.loads(self._pipe.recv_bytes())
        except (EOFError, ConnectionError):
            raise WorldError(f"{self._name}: its process died ({self._how()})") from None
        if told == "raised":
            raise value
        if told == "failed":
            raise RuntimeError(f"{self._name}: in its process: {value}")
        return value

    def _how(self) -> str:
        try:
            code = self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return "it answers no more"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def close(self) -> None:
        """Let it end by itself, for it closes its environments; else kill it."""
        self._pipe.close()
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


# -- in the process ------------------------------------------------------------------------------


def serve(descriptor: int) -> None:
    """Make environments, and do what the pipe says until it is closed."""
    # Whoever stops the run tells its own process, which then closes the pipe.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    pipe = Connection(descriptor)
    with suppress(EOFError, ConnectionError):
        make, places = pickle.loads(pipe.recv_bytes())
        batch: GymBatch | None = None

        def made() -> tuple[int, int, np.ndarray]:
            nonlocal batch
            batch = make(places)
            return batch.observation_size, batch.action_size, batch.task

        try:
            _answer(pipe, made)
            while batch is not None:
                what, arguments = pickle.loads(pipe.recv_bytes())
                _answer(pipe, partial(_done, batch, what, arguments))
        finally:
            if batch is not None:
                batch.close()


def _done(batch: GymBatch, what: str, arguments: tuple[Any, ...]) -> Any:
    if what == "reset":
        return batch.reset(0, env_seeds=arguments[0])
    return getattr(batch, what)(*arguments)


def _answer(pipe: Connection, call: Callable[[], Any]) -> None:
    try:
        answer: tuple[str, Any] = "done", call()
    except (ValueError, WorldError) as error:
        # Of other people's classes nobody knows what they are made of.
        own = type(error).__module__.startswith("booster_ray.")
        answer = "raised", (type(error) if own else ValueError)(str(error))
    except Exception as error:
        answer = "failed", "".join(traceback.format_exception(error))
    pipe.send_bytes(pickle.dumps(answer, pickle.HIGHEST_PROTOCOL))


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, also where an environment never returns."""
    while os.getppid() == parent:
        time.sleep(2.0)
    os._exit(1)
