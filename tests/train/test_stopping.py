"""The first signal asks, the second ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from booster_ray.train.stopping import on_signal, stop_signals


def test_the_first_asks_and_tells_runs_the_second_raises() -> None:
    asked: list[str] = []
    heard: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), stop_signals(asked.append), on_signal(heard.append):
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked == heard == ["SIGTERM"]
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


WORKER = """
import os, signal, sys
from booster_ray.train.stopping import forward_sigterm, on_signal
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))  # as Ray's handler would
forward_sigterm()
forward_sigterm()
with on_signal(lambda name: print("saving after", name, flush=True)):
    os.kill(os.getpid(), signal.SIGTERM)
    print("goes on", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_worker_lets_its_run_save_and_then_obeys() -> None:
    done = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["saving after SIGTERM", "goes on"], done.stderr
    assert done.returncode == 7
