"""Films of the best policy so far, by the clock: beside training, never in it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from booster_ray.config import Config
from booster_ray.store.files import best_checkpoint
from booster_ray.track.sink import Say
from booster_ray.track.tracked_runs import TrackedFolder
from booster_ray.track.uploader import VIDEOS, RunRows

LONGEST_SECONDS = 1800.0
"""With what training leaves of the CPU, a film may take long."""
KIND = "-median"
"""Of the films that an evaluation makes; of a single episode all are the same."""

_log = logging.getLogger(__name__)


class Films:
    """Makes one at a time, of the run with the best score, where it is better than the last.

    Args:
        config: says how often, and whether.
        root: folder of the sweep or run; films go to ``videos/`` of the run that is shown.
        say: told once when nothing can be drawn here.
    """

    def __init__(self, config: Config, root: Path, say: Say) -> None:
        self._minutes, self._soccer = config.tracking.video_every_minutes, config.world.is_soccer
        self._root, self._say = root, say
        self._closing = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._shown: Path | None = None

    def start(self) -> None:
        """Begin, on a thread of its own."""
        if self._minutes and self._soccer:
            threading.Thread(target=self._run, name="films", daemon=True).start()

    def close(self) -> None:
        """No more; the one being made is given up."""
        self._closing.set()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def _run(self) -> None:
        assert self._minutes is not None
        board = TrackedFolder(self._root)
        while not self._closing.wait(60 * self._minutes):
            try:
                best = _best(board)
                if best is not None and best != self._shown:
                    self._shown = best
                    self._make(best)
            except subprocess.SubprocessError as error:
                _log.warning("no film: %s", error)
            except Exception as error:
                self._say(f"No films: {error}")
                return

    def _make(self, checkpoint: Path) -> None:
        steps = int(checkpoint.name.rpartition("_")[2])
        with tempfile.TemporaryDirectory(prefix="booster_ray-") as scratch:
            arguments = [str(checkpoint), "--episodes", "1", "--video", "--output", scratch]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "booster_ray.evaluate", *arguments],
                env={**os.environ, "JAX_PLATFORMS": "cpu"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            try:
                output, _ = self._process.communicate(timeout=LONGEST_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                raise
            films = sorted(Path(scratch).glob(f"*{KIND}.mp4"))
            if not films and not self._closing.is_set():
                last = (output.strip().splitlines() or ["evaluation failed"])[-1]
                raise RuntimeError(last.removeprefix("No video: "))
            folder = checkpoint.parent / VIDEOS
            folder.mkdir(exist_ok=True)
            for film in films:
                temp = folder / f".{film.name}"
                temp.write_bytes(film.read_bytes())
                temp.rename(folder / f"{steps:012d}-{film.stem.removesuffix(KIND)}.mp4")


def _best(board: TrackedFolder) -> Path | None:
    """The best checkpoint of the run with the best score."""
    found: list[tuple[float, Path]] = []
    for subject in board.subjects():
        run_rows = RunRows(subject.directory)
        while run_rows.read():
            pass
        checkpoint = best_checkpoint(subject.directory)
        if run_rows.best_score is not None and checkpoint is not None:
            found.append((run_rows.best_score, checkpoint))
    return max(found, key=lambda one: one[0])[1] if found else None
