"""Remote storage, and a Ray Train worker on another machine, with a disk of its own."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import driving
import pytest
from chaos import Machines
from store import s3_server

from booster_ray.store.remote import RemoteFolder, local_path

URL = f"s3://{s3_server.BUCKET}/runs"
WORKER = ("trainer.workers=1", f"storage={URL}", "evaluation.every=1200",
          "training.report_every=300", "checkpoint.every_env_steps=600")  # fmt: skip
LIMP = ("control.kp=[20, 20, 20, 20, 10, 10]",)
"""No policy stands on such legs, so that the episodes of every evaluation are short."""
ONE = (*driving.QUICK, *WORKER)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The environment of a command on one machine of a cluster whose trials run on the other."""
    with s3_server.serving() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        cluster = Machines(nodes=0)
        there = {name: str(tmp_path / "there" / name) for name in ("TMPDIR", "HOME")}
        for folder in there.values():
            Path(folder).mkdir(parents=True)
        cluster.add(num_cpus=1, env_vars=there)
        here = {name: str(tmp_path / "here" / name) for name in ("TMPDIR", "HOME")}
        for folder in here.values():
            Path(folder).mkdir(parents=True)
        yield {**here, "RAY_ADDRESS": cluster.address}
        driving.clean_up()
        cluster.kill_everything()


def here(driver: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run on the driver's machine."""
    with monkeypatch.context() as context:
        context.setenv("TMPDIR", driver["TMPDIR"])
        return local_path(URL) / name


def reports(path: str) -> list[int]:
    text = RemoteFolder(URL).read(f"{path}/progress.jsonl") or b""
    return [json.loads(line)["env_steps"] for line in text.splitlines() if line.endswith(b"}")]


@pytest.mark.slow
def test_a_run_elsewhere_is_stopped_from_here_and_finished(
    driver: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = driving.start("debug", "name=far", *ONE, "training.env_steps=9000000",
                          module="train", **driver)  # fmt: skip
    driving.wait_for(lambda: first.poll() is not None or reports("far"), 900)
    first.send_signal(signal.SIGINT)
    code, output = driving.finish(first, 600)
    assert code == 130, output
    assert "--resume far --storage" in output
    root = here(driver, "far", monkeypatch)
    assert not list(root.glob("step_*"))  # the work was done elsewhere
    reached = reports("far")[-1]
    assert (
        json.loads((root / "progress.jsonl").read_text().splitlines()[-1])["env_steps"] == reached
    )


@pytest.mark.slow
def test_a_run_that_has_finished_elsewhere_has_finished(
    driver: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, output = driving.finish(
        driving.start("debug", "name=near", *ONE, "training.env_steps=1200",
                      module="train", **driver), 900)  # fmt: skip
    assert code == 0 and "Finished" in output, output
    assert reports("near")[-1] == 1200


@pytest.mark.slow
def test_robustness_is_measured_where_the_run_is(driver: dict[str, str]) -> None:
    sweep = ("name=strong", "tune.trials=1", "tune.scheduler=none",
             "tune.objectives=[score, robustness]", "training.env_steps=600",
             "evaluation.every=600", "training.report_every=300", "tune.gate_trials=0")  # fmt: skip
    code, output = driving.finish(
        driving.start("debug", *WORKER[:2], *sweep, *LIMP, **driver), 1500)  # fmt: skip
    assert code == 0, output
    told = RemoteFolder(URL).read("strong/trials/0000/robustness.json") or b"{}"
    assert isinstance(json.loads(told)["robustness"], float), output
