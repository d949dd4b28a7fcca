"""The whole pipeline, from one command, killed in the middle of every stage."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import driving
import pytest

from booster_ray.config import Config
from booster_ray.deploy.pipeline.definition import STAGES
from booster_ray.store.checkpoint.store import MANIFEST
from booster_ray.track.registry import open_registry

STEPS = 3000
"""Env steps of each stage: enough to be killed among them."""


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    driving.clean_up()


class Driven:
    """``booster_ray.pipeline all`` on a storage of its own, begun again after each kill."""

    def __init__(self, storage: Path) -> None:
        self.storage, self.root = storage, storage / "debug"
        self.arguments = [
            "all", "debug", f"storage={storage}", f"models.cache={storage / 'cache'}",
            f"training.env_steps={STEPS}", f"evaluation.every={STEPS}",
            "pretrain.tune.scheduler=none",
        ]  # fmt: skip
        self.process = self.start()

    def start(self) -> Any:
        return driving.start(*self.arguments, module="pipeline")

    def kill(self, when: Callable[[], Any]) -> None:
        """SIGKILL everything when it comes to something, and begin again."""

        def reached() -> bool:
            if not when():
                assert self.process.poll() is None, self.process.communicate()[0]
                return False
            return True

        driving.wait_for(reached, timeout=3000)
        driving.kill_all(self.process.pid)
        self.process.communicate()
        self.process = self.start()

    def finished(self, stage: str) -> bool:
        return (self.root / f"{stage}.json").exists()

    def checkpoints(self, run: Path) -> list[Path]:
        """Whole ones."""
        return [path.parent for path in run.glob(f"step_*/{MANIFEST}")]


def versions(storage: Path) -> list[Any]:
    config = Config.model_validate({"storage": str(storage)})
    return open_registry(config).versions("debug")


def untorn(directory: Path) -> None:
    lines = (directory / "progress.jsonl").read_text().splitlines()
    steps = [json.loads(line)["env_steps"] for line in lines]
    assert steps == sorted(set(steps)) and steps[-1] >= STEPS


@pytest.mark.slow
def test_a_pipeline_killed_in_every_stage_ends_as_one_that_was_not(tmp_path: Path) -> None:
    driven = Driven(tmp_path)
    root = driven.root
    driven.kill(lambda: (root / "finetune.yaml").exists())  # setup: checks are under way
    assert not driven.finished("setup")

    trials = [tmp_path / "debug-pretrain" / "trials" / f"{n:04d}" for n in (0, 1)]
    driven.kill(lambda: any(driven.checkpoints(trial) for trial in trials))
    assert driven.finished("setup") and not driven.finished("pretrain")

    driven.kill(lambda: list(root.glob("convert/v1/gates.json")))
    gates = root / "convert" / "v1" / "gates.json"
    made = {path: path.stat().st_mtime_ns for path in (gates, root / "pretrain.json")}
    for trial in trials:
        untorn(trial)
    reports = [(trial / "progress.jsonl").read_bytes() for trial in trials]

    run = tmp_path / "debug-finetune"
    driven.kill(lambda: driven.checkpoints(run))
    assert driven.finished("convert") and not driven.finished("finetune")

    driven.kill(lambda: (root / "package" / ".v2.new").exists() or driven.finished("submit"))
    untorn(run)
    assert driven.finished("finetune")
    made[run / "progress.jsonl"] = (run / "progress.jsonl").stat().st_mtime_ns

    code, output = driving.finish(driven.process, timeout=3000)
    assert code == 0, output
    for stage in STAGES[:-1]:
        assert f"{stage}: finished before" in output
    assert "submit: finished" in output and "python -m booster_ray.submit" in output
    assert (root / "package" / "v2" / "package.json").exists()
    assert not (root / "package" / ".v2.new").exists()
    # What had finished was not done again.
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert [(trial / "progress.jsonl").read_bytes() for trial in trials] == reports
    found = versions(tmp_path)
    assert [(v.number, v.tags["stage"]) for v in found] == [(2, "finetune"), (1, "pretrain")]
    assert "candidate-finetuned" in found[0].aliases and "candidate-pretrain" in found[1].aliases
    assert found[0].tags["parent"].startswith("models:/debug/1#")
    assert found[0].tags["gate_2"] == found[1].tags["gate_2"] == "passed"


@pytest.mark.slow
def test_a_stage_that_is_told_to_stop_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    arguments = [
        "debug", f"storage={tmp_path}", f"training.env_steps={STEPS}", "evaluation.every=3000",
        "pretrain.tune.trials=1", "pretrain.tune.scheduler=none",
    ]  # fmt: skip
    started = driving.start("all", *arguments, module="pipeline")
    trial = tmp_path / "debug-pretrain" / "trials" / "0000"
    driving.wait_for(lambda: list(trial.glob(f"step_*/{MANIFEST}")), timeout=3000)
    started.send_signal(signal.SIGTERM)
    code, output = driving.finish(started, timeout=3000)
    assert code == 130, output
    assert f"booster_ray.pipeline pretrain --resume debug --storage {tmp_path}" in output
    assert not (tmp_path / "debug" / "pretrain.json").exists()
    # From another folder, by its name alone.
    code, output = driving.run(
        "pretrain", "--resume", "debug", "--storage", str(tmp_path), module="pipeline", timeout=3000
    )
    assert code == 0 and "pretrain: finished, version 1" in output, output
    untorn(trial)
