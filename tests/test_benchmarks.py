"""Benchmarks run, at sizes that show nothing but that."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import driving
import pytest


@pytest.mark.slow
def test_what_a_gpu_is_asked_runs_on_a_cpu(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    command = [sys.executable, "benchmarks/gpu.py", "--small", "--minutes", "20"]
    command += ["--parts", "run,learner,finetune", "--history", str(history)]
    done = subprocess.run(
        command, cwd=driving.ROOT, capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == json.loads(history.read_text())
    assert found["run"]["memory_planned_gb"] > 0
    assert found["run"]["memory_resumed_gb"] <= 1.15 * found["run"]["memory_fresh_gb"]
    assert found["run"]["kill_lost_env_steps"] <= 2 * 800  # a checkpoint every 800
    starts = {"start_cold_s", "start_warm_s", "start_after_kill_s"}
    assert starts | {"interrupt_s", "env_steps_per_second"} <= found["run"].keys()
    assert all(rates["updates_per_second"] > 0 for rates in found["learner"].values())
    assert found["finetune"]["env_steps_per_second"] > 0


@pytest.mark.slow
def test_many_trials_are_driven_at_a_small_size() -> None:
    command = [sys.executable, "benchmarks/tune.py", "--scale", "--size", "6", "10"]
    done = subprocess.run(
        [*command, "--running", "2"],
        cwd=driving.ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    wanted = {"driver_ms_per_report", "ask_ms", "report_mb", "report_seconds", "driver_mb"}
    assert wanted <= found.keys()
    assert found["reports"] == 2 * 10


def test_an_unknown_part_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/gpu.py", "--parts", "run,warmth"]
    done = subprocess.run(
        command, cwd=driving.ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "unknown part 'warmth'" in done.stderr


@pytest.mark.slow
def test_tasks_are_compared_at_a_small_size() -> None:
    pytest.importorskip("metaworld", reason="Meta-World is not installed (extra metaworld)")
    small = "--tasks reach-v3,push-v3 --envs 2 --processes 2 --steps 10 --rounds 1 --hidden 16"
    small += " --loop-steps 40 --loops 1 --starts 40 --batch 8"
    done = subprocess.run(
        [sys.executable, "benchmarks/tasks.py", *small.split()],
        cwd=driving.ROOT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["env_steps_vs_plain"] > 0
    assert found["end_to_end_vs_sbx"] is None or found["end_to_end_vs_sbx"] > 0
