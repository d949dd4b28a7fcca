"""The process beside a sweep or run that tells its trackers: started, watched and ended.

It reads the runs' own files, so that training knows nothing of it and waits for nothing: a tracker
may be slow to load, hang or crash, and costs the processes that train neither time nor memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from booster_ray.config import Config
from booster_ray.store.files import RUN_ID, keep_run_id
from booster_ray.store.folder import publish
from booster_ray.track.sink import Say
from booster_ray.track.where import later_command

RESTARTS = 3
PAUSE_SECONDS = 5.0
"""Before it is started again, where it was killed."""
HURRIED_SECONDS = 3.0
"""Instead of ``tracking.close_seconds``, when the machine will be taken away."""
PARTING_SECONDS = 3.0
"""To say what is left, after its time is over."""
LOG = "tracking.log"


class Tracker:
    """Context manager: reports of the runs in ``root`` are told while it lasts.

    Args:
        config: says to whom.
        root: folder of the sweep or run, with its config.
        say: shows a line to the user; called from another thread.
    """

    def __init__(self, config: Config, root: Path, say: Say) -> None:
        self._config, self._root, self._say = config, root.absolute(), say
        self.hurried = False
        """Set before the end where there is no time to wait for trackers."""
        self._process: subprocess.Popen[str] | None = None
        self._lock, self._ending = threading.Lock(), threading.Event()
        self._watch = threading.Thread(target=self._watched, name="tracker", daemon=True)

    def __enter__(self) -> Self:
        keep_run_id(self._root)
        publish(self._config, self._root / RUN_ID)
        if self._config.tracking.listeners:
            self._start()
            self._watch.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._ending.set()
            process = self._process
        if process is None:
            return
        assert process.stdin is not None
        hurried = self.hurried or kind is KeyboardInterrupt
        seconds = HURRIED_SECONDS if hurried else self._config.tracking.close_seconds
        with suppress(OSError):  # it has died
            process.stdin.write(f"{seconds}\n")
            process.stdin.close()
        self._watch.join(seconds + PARTING_SECONDS)
        if process.poll() is None:
            process.kill()
            self._watch.join(PARTING_SECONDS)

    def _start(self) -> None:
        arguments = [self._root.name, "--storage", str(self._root.parent), "--follow"]
        with self._lock, (self._root / LOG).open("ab") as log:
            if self._ending.is_set():
                return
            self._process = subprocess.Popen(
                [sys.executable, "-m", "booster_ray.track", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
                text=True,
                # A Ctrl-C is for the sweep. A session of its own could void its niceness.
                process_group=0,
            )

    def _watched(self) -> None:
        for restart in range(RESTARTS + 1):
            process = self._process
            assert process is not None and process.stdout is not None
            for line in process.stdout:
                self._say(line.rstrip("\n"))
            code = process.wait()
            if code == 0:  # it has said how that ended
                return
            if restart == RESTARTS or self._ending.wait(PAUSE_SECONDS):
                break
            self._start()
        self._say(f"Trackers have not got all reports (see {LOG}); tell them later with:")
        self._say(f"  {later_command(self._config, self._root)}")
