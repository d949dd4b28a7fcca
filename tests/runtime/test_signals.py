"""The first signal asks, the second ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from booster_ray.runtime.signals import (
    forward_signals,
    keep_listening,
    on_signal,
    shielded,
    stop_signals,
)


def test_the_first_asks_and_tells_runs_the_second_raises() -> None:
    asked: list[str] = []
    heard: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), stop_signals(asked.append), on_signal(heard.append):
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked == heard == ["SIGTERM"]
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("notice", [signal.SIGHUP, signal.SIGUSR1])
def test_a_notice_asks_and_never_ends_at_once(notice: signal.Signals) -> None:
    """A lost terminal is told of by the kernel, and by the shell once more."""
    asked: list[str] = []
    before = signal.getsignal(notice)
    with stop_signals(asked.append):
        os.kill(os.getpid(), notice)
        os.kill(os.getpid(), notice)
        os.kill(os.getpid(), signal.SIGTERM)  # SLURM, when the time is over
        os.kill(os.getpid(), notice)
        assert asked == [notice.name]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(notice) is before


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    asked: list[str] = []
    try:
        with stop_signals(asked.append):
            os.kill(os.getpid(), signal.SIGHUP)
        forward_signals()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN and asked == []
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)


def test_a_library_that_takes_a_signal_gives_it_back() -> None:
    asked: list[str] = []
    keep_listening()  # nothing is held
    with stop_signals(asked.append):
        signal.signal(signal.SIGUSR1, lambda *_: asked.append("Ray Tune"))
        keep_listening()
        os.kill(os.getpid(), signal.SIGUSR1)
    assert asked == ["SIGUSR1"]


WORKER = """
import os, signal, sys
from booster_ray.runtime.signals import forward_signals, on_signal
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))  # as Ray's handler would
forward_signals()
forward_signals()
with on_signal(lambda name: print("saving after", name, flush=True)):
    os.kill(os.getpid(), int(sys.argv[1]))
    print("goes on", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_worker_lets_its_run_save_and_then_obeys(signum: signal.Signals) -> None:
    with shielded():  # as Ray is started
        done = subprocess.run(
            [sys.executable, "-c", WORKER, str(int(signum))], capture_output=True, text=True
        )
    assert done.stdout.split("\n")[:2] == [f"saving after {signum.name}", "goes on"], done.stderr
    assert done.returncode == 7


def test_what_is_started_under_the_shield_outlives_a_lost_terminal() -> None:
    code = "import os, signal; [os.kill(os.getpid(), s) for s in (1, 10)]; print('lives')"
    with shielded():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "lives\n"
    assert not {signal.SIGHUP, signal.SIGUSR1} & signal.pthread_sigmask(signal.SIG_BLOCK, [])
