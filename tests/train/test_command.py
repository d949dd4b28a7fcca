"""``python -m booster_ray.train``: one run, without a sweep."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import driving

SEEDED = ("randomization.level=0", "rewards.height=1.0", "sac.critic_lr=3e-4")


def arguments(storage: Path, *more: str) -> list[str]:
    return ["debug", f"storage={storage}", "name=one", *SEEDED, *more]


def test_a_run_ends_and_says_where_it_is(tmp_path: Path) -> None:
    code, output = driving.run(*arguments(tmp_path), module="train")
    assert code == 0, output
    assert "600/600 env steps (100%)" in output and "official score" in output
    assert str(tmp_path / "one") in output
    assert (tmp_path / "one" / "progress.jsonl").is_file()


def test_ctrl_c_prints_the_line_that_goes_on(tmp_path: Path) -> None:
    process = driving.start(
        *arguments(tmp_path, *driving.QUICK, "training.env_steps=100_000"), module="train"
    )
    progress = tmp_path / "one" / "progress.jsonl"
    deadline = time.monotonic() + 120
    while not progress.is_file() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    code, output = driving.finish(process)
    assert code == 130, output
    assert f"python -m booster_ray.train --resume one --storage {tmp_path}" in output
    before = progress.read_text().count("\n")

    again = driving.start("--resume", "one", "--storage", str(tmp_path), module="train")
    while progress.read_text().count("\n") <= before and time.monotonic() < deadline + 120:
        time.sleep(0.2)
    again.send_signal(signal.SIGTERM)
    code, output = driving.finish(again)
    assert code == 130, output
    assert progress.read_text().count("\n") > before


def test_threads_are_set_before_a_start_is_looked_at() -> None:
    """Torch reads their number when it loads, so a run and its resumption must set it alike."""
    code = """
import os
from booster_ray.train import command, preflight

def begin(sweep, under_ray):
    print(os.environ["OMP_NUM_THREADS"])
    raise SystemExit(0)

preflight.begin = begin
command.main(["default", "trainer.cpus=3"])
"""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["3"]
