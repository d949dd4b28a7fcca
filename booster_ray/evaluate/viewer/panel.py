"""The page in the browser: viser's panel and mjviser's scene around a match.

Thin: what is clicked becomes a call that the one thread of the match makes, in :meth:`Page.run`.
"""

from __future__ import annotations

import io
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import viser
from mjviser import ViserMujocoScene

from booster_ray.config import ConfigError
from booster_ray.evaluate.viewer.display import Display
from booster_ray.evaluate.viewer.match import STEP, Match
from booster_ray.evaluate.viewer.policies import Policy, checkpoints, load_policy, named
from booster_ray.evaluate.viewer.readout import note, status, terms
from booster_ray.soccer import game
from booster_ray.store.checkpoint import CheckpointError

FRAME = 1 / 30
"""Seconds between two pictures."""
UNSEEN = 1 / 4
"""The same while no browser looks."""
TOLD = 1 / 8
"""Seconds between two readings of the numbers."""
LOOKED = 2.0
"""Seconds between two looks at the folder of a run."""
AFTER_END = 1.0
"""Seconds for which the end of an episode is seen before the next begins."""
SPEEDS = {"1/8": 1 / 8, "1/4": 1 / 4, "1/2": 1 / 2, "1": 1.0, "2": 2.0, "4": 4.0}
CAMERAS = {1: ((3.4, 2.0, 1.4), (0.0, 0.4, 0.0)), 2: ((5.5, 1.4, 2.2), (-1.0, 1.0, 0.0))}
"""By the number of policies: where the camera is, and at what it looks, m from the focus. It looks
somewhat to the right, where the panel covers the scene."""
PUSHES = {"forward": (1.0, 0.0), "back": (-1.0, 0.0), "left": (0.0, 1.0), "right": (0.0, -1.0)}
KEYS = {"forward": "arrowup", "back": "arrowdown", "left": "arrowleft", "right": "arrowright"}


class Page:
    """What is seen and clicked.

    Args:
        match: the game; from now on this object's.
        host: address to listen at.
        port: the wanted one; another if it is taken.
        watched: folder of the run or sweep whose checkpoints may take over; None: nothing may.
    """

    def __init__(self, match: Match, host: str, port: int, watched: Path | None = None) -> None:
        self.match, self._watched = match, watched
        with redirect_stdout(io.StringIO()):  # its banner; the command prints its own lines
            self.server = viser.ViserServer(host, port, label="booster_ray", verbose=False)
        self._calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._loader = ThreadPoolExecutor(1, "load")
        self._loading: Future[Policy] | None = None
        self._waiting: Policy | None = None
        self._known: list[Path] = []
        self._scales: dict[str, float] = {}
        self._error, self._speed, self._budget = "", 1.0, 0.0
        self._ended_at: float | None = None
        self._looked = self._told = 0.0
        self._make_panel()
        self._make_scene()

    @property
    def url(self) -> str:
        """Where it is seen from this machine."""
        return f"http://{self.server.get_host()}:{self.port}"

    @property
    def port(self) -> int:
        """Which it has got."""
        return int(self.server.get_port())

    def do(self, call: Callable[[], object]) -> None:
        """Have the match's thread make a call; any thread may ask."""
        self._calls.put(call)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Play until ``until`` says so, or Ctrl-C."""
        last = time.perf_counter()
        while not until():
            began = time.perf_counter()
            self._answer()
            self._play(began - last)
            last = began
            self._draw()
            self._tell(began)
            self._look(began)
            rest = FRAME if self.server.get_clients() else UNSEEN
            time.sleep(max(0.001, rest - (time.perf_counter() - began)))

    def stop(self) -> None:
        """Close the page and free the match."""
        self._loader.shutdown(wait=False, cancel_futures=True)
        self.server.stop()
        self.match.close()

    # -- the match's thread ----------------------------------------------------------------------

    def _answer(self) -> None:
        while True:
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                return
            call()

    def _play(self, elapsed: float) -> None:
        """As much as the time that has gone by asks for, or as much as a picture has time for."""
        # Where nobody looks, nothing plays: it may stand open overnight beside a training run.
        if not self._playing.value or not self.server.get_clients():
            return
        if self.match.over:
            self._after_end()
            return
        self._budget += min(elapsed, 0.25) * self._speed
        deadline = time.perf_counter() + 2 * FRAME
        while self._budget >= STEP and not self.match.over:
            self._step()
            self._budget -= STEP
            if time.perf_counter() > deadline:
                self._budget = 0.0  # slower than asked for, and no debts

    def _step(self) -> None:
        try:
            self.match.advance()
        except ConfigError as error:  # the policy's fault, and told where it is looked at
            self._error, self._playing.value = str(error), False

    def _after_end(self) -> None:
        now = time.perf_counter()
        if self._ended_at is None:
            self._ended_at = now
        if now - self._ended_at < AFTER_END:
            return
        if self._waiting is not None:
            self._swap(self._waiting)
        elif self._go_on.value:
            self._begin(self.match.seed + 1)

    def _begin(self, seed: int | None = None) -> None:
        self._ended_at, self._budget, self._error = None, 0.0, ""
        self.match.reset(seed)
        if self._seed.value != self.match.seed:
            self._seed.value = self.match.seed

    def _choose(self, task: str) -> None:
        if task == self.match.task:
            return
        self.match.choose(task)
        self._begin()
        self._make_scene()

    def _swap(self, policy: Policy) -> None:
        self._waiting = None
        self.match.swap(0, policy)
        self._begin()
        self._tell(0.0, now=True)

    # -- checkpoints -----------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        """For checkpoints that have come, and for one that has been loaded."""
        if self._loading is not None and self._loading.done():
            done, self._loading = self._loading, None
            self._loaded(done)
        if self._watched is None or now - self._looked < LOOKED:
            return
        self._looked = now
        if (found := checkpoints(self._watched)) != self._known:
            newer = bool(self._known) and bool(found) and found[0] not in self._known
            self._known = found
            self._choices.options = tuple(named(path) for path in found) or ("none yet",)
            if newer and self._follow_newest.value:
                self._load(found[0], at_once=False)

    def _load(self, path: Path, *, at_once: bool = True) -> None:
        if self._loading is not None:
            return
        self._at_once = at_once
        self._news.content = note(f"loading {named(path)} …")
        self._loading = self._loader.submit(load_policy, str(path))

    def _loaded(self, done: Future[Policy]) -> None:
        try:
            policy = done.result()
        except (ConfigError, CheckpointError, OSError) as error:  # its run may have deleted it
            self._news.content = note(str(error))
            return
        self._news.content = note(f"loaded: {policy.name}")
        if self._at_once:
            self._swap(policy)
        else:
            self._waiting = policy
            self._news.content = note(f"{policy.name} plays from the next episode on")

    # -- the scene -------------------------------------------------------------------------------

    def _make_scene(self) -> None:
        """The scene of the match's task, in the place of another."""
        self.server.scene.reset()
        self._drawn = np.zeros(0)
        self._display = Display(self.match)
        self._scene = ViserMujocoScene(self.server, self._display.model, num_envs=1)
        camera = self.server.initial_camera
        camera.position, camera.look_at = CAMERAS[len(self.match.sides)]
        self._handles = [self._make_handle(place) for place in range(len(self.match.sides))]
        self._draw()

    def _make_handle(self, place: int) -> Any:
        """What the ball is dragged by: a faint shell around it."""
        shell = self.server.scene.add_icosphere(
            f"/fixed_bodies/handle{place}", radius=0.15, color=(255, 255, 255), opacity=0.08,
            cast_shadow=False, receive_shadow=False,
        )  # fmt: skip

        @shell.on_drag("left")
        async def _(event: Any) -> None:
            eye, at = np.array(event.client.camera.position), np.array(event.end_position)
            self.do(partial(self._drag, place, eye, at))

        return shell

    def _drag(self, place: int, eye: np.ndarray, at: np.ndarray) -> None:
        """Put the ball where the line from the eye through the pointer meets the ground."""
        center, height = self._display.center, game.BALL_CENTER[2]
        eye, at = eye + center, at + center
        if at[2] >= eye[2] - 1e-3:
            return
        ground = eye + (at - eye) * (eye[2] - height) / (eye[2] - at[2])
        ground[:2] = np.clip(ground[:2], (-13.5, -9.5), (13.5, 14.5))
        self.match.place_ball(place, ground - self._display.shift(place))

    def _draw(self) -> None:
        """Send what has moved; of a match that stands still nothing."""
        self._display.update(self.match, follow=self._follow.value)
        posed = np.concatenate([self._display.data.qpos, self._display.data.mocap_pos.ravel()])
        if np.array_equal(posed, self._drawn):
            return
        self._drawn = posed
        with self.server.atomic():
            for place, side in enumerate(self.match.sides):
                self._handles[place].position = side.ball() + self._display.shift(place)
            self._scene.update_from_mjdata(self._display.data)

    # -- the panel -------------------------------------------------------------------------------

    def _make_panel(self) -> None:
        gui = self.server.gui
        self._status = gui.add_html("")
        self._make_controls(gui)
        names = ["Terms"] if len(self.match.sides) == 1 else ["Terms, first", "Terms, second"]
        self._terms = []
        for name in names:
            with gui.add_folder(name):
                self._terms.append(gui.add_html(""))
        with gui.add_folder("Disturb"):
            self._strength = gui.add_slider("push, m/s", 0.1, 3.0, 0.1, 1.0)
            pushes = gui.add_button_group("push", tuple(PUSHES))
            pushes.on_click(lambda event: self.do(partial(self._push, event.target.value)))
            gui.add_markdown("Drag the ball in the scene to move it.")
        if self._watched is not None:
            self._make_checkpoints(gui)
        self._make_commands(gui)

    def _make_controls(self, gui: Any) -> None:
        self._playing = gui.add_checkbox("play", True, hint="space")
        step = gui.add_button_group("episode", ("step", "reset", "next"))
        calls: dict[str, Callable[[], object]] = {
            "step": self._single, "reset": self._begin, "next": self._next
        }  # fmt: skip
        step.on_click(lambda event: self.do(calls[event.target.value]))
        self._task = gui.add_dropdown("task", game.TASKS, initial_value=self.match.task)
        self._task.on_update(lambda event: self.do(partial(self._choose, event.target.value)))
        self._seed = gui.add_number("seed", self.match.seed, min=0, step=1)
        self._seed.on_update(lambda event: self.do(partial(self._chosen_seed, event)))
        speed = gui.add_dropdown("speed", tuple(SPEEDS), initial_value="1")
        speed.on_update(lambda event: setattr(self, "_speed", SPEEDS[event.target.value]))
        self._go_on = gui.add_checkbox("next seed at the end", True)
        self._follow = gui.add_checkbox("camera follows", True)

    def _make_checkpoints(self, gui: Any) -> None:
        with gui.add_folder("Checkpoints"):
            self._news = gui.add_html("")
            self._known = checkpoints(self._watched) if self._watched is not None else []
            names = tuple(named(path) for path in self._known) or ("none yet",)
            self._choices = gui.add_dropdown("checkpoint", names)
            load = gui.add_button("play this one")
            load.on_click(self._later(partial(self._load_named, self._choices)))
            newest = gui.add_button("play the newest")
            newest.on_click(self._later(self._load_newest))
            self._follow_newest = gui.add_checkbox("follow the run", True)

    def _make_commands(self, gui: Any) -> None:
        commands: list[tuple[str, Any, Callable[[], object]]] = [
            ("play or pause", "space", self._toggle),
            ("one step", "S", self._single),
            ("begin again", "R", self._begin),
            ("next seed", "N", self._next),
            *((f"push {name}", KEYS[name], partial(self._push, name)) for name in PUSHES),
        ]
        for label, key, call in commands:
            made = gui.add_command(label, hotkey=key)
            made.on_trigger(self._later(call))

    def _later(self, call: Callable[[], object]) -> Callable[[Any], None]:
        """A callback of viser's threads that has the match's thread make a call."""
        return lambda _: self.do(call)

    def _toggle(self) -> None:
        self._playing.value = not self._playing.value

    def _single(self) -> None:
        self._playing.value = False
        self._step()
        self._tell(0.0, now=True)

    def _next(self) -> None:
        self._begin(self.match.seed + 1)

    def _push(self, name: str) -> None:
        forward, left = PUSHES[name]
        self.match.push(forward * self._strength.value, left * self._strength.value)

    def _chosen_seed(self, event: Any) -> None:
        if int(event.target.value) != self.match.seed:
            self._begin(int(event.target.value))

    def _load_named(self, choices: Any) -> None:
        for path in self._known:
            if named(path) == choices.value:
                self._load(path)
                return

    def _load_newest(self) -> None:
        if self._watched is not None and (found := checkpoints(self._watched)):
            self._load(found[0])

    def _tell(self, began: float, *, now: bool = False) -> None:
        if not now and began - self._told < TOLD:
            return
        self._told = began or self._told
        self._status.content = status(self.match, self._error)
        for place, side in enumerate(self.match.sides):
            self._terms[place].content = terms(side, self._scales)
