"""Two machines with disks of their own and one storage; both believe that a run is theirs."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import driving
import pytest
from store import s3_server

from booster_ray.store.remote import RemoteFolder

pytestmark = pytest.mark.slow

WORK = (
    "name=far", "world=gym:train.slow_env:Long-v0", "randomization.level=0", "rewards.height=1.0",
    "sac.critic_lr=3e-4", "sac.learning_starts=2000", "evaluation.max_steps=20",
    "training.env_steps=1980", "training.report_every=60", "checkpoint.every_env_steps=60",
)  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with s3_server.serving() as environment:
        yield environment


@pytest.fixture
def url(server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    return f"s3://{s3_server.BUCKET}/{tmp_path.name}"


class Machine:
    """A machine's scratch and home folders."""

    def __init__(self, folder: Path, url: str) -> None:
        (folder / "home").mkdir(parents=True)
        (folder / "tmp").mkdir()
        self.url = url
        self._own = {"TMPDIR": str(folder / "tmp"), "HOME": str(folder / "home")}

    def train(self, *args: str) -> subprocess.Popen[str]:
        where = ["--storage", self.url] if "--resume" in args else [f"storage={self.url}"]
        return driving.start(*args, *where, module="train", **self._own)


def steps(url: str) -> list[int]:
    """Env steps of the reports that the storage has of a run."""
    text = RemoteFolder(url).read("far/progress.jsonl") or b""
    return [json.loads(line)["env_steps"] for line in text.splitlines() if line.endswith(b"}")]


def test_one_that_was_cut_off_comes_back_and_destroys_nothing(tmp_path: Path, url: str) -> None:
    """A partition: the machine stands still while another takes the run over, and saves again."""
    lost, living, third = (Machine(tmp_path / name, url) for name in ("a", "b", "c"))
    first = lost.train("debug", *WORK)
    driving.wait_for(lambda: len(steps(url)) > 3, 120)
    first.send_signal(signal.SIGSTOP)
    try:
        second = living.train("--resume", "far", "--take-over")
        driving.wait_for(lambda: "e000002" in RemoteFolder(url).names("far"), 120)
    finally:
        first.send_signal(signal.SIGCONT)
    code, output = driving.finish(first)
    assert code == 2 and "far is in the hands of process" in output, output
    assert "Traceback" not in output
    code, output = driving.finish(second)
    assert code == 0 and "Finished" in output, output
    assert steps(url) == sorted(set(steps(url))) and steps(url)[-1] == 1980
    assert [n for n in RemoteFolder(url).names("far") if n.startswith("e")] == ["e000002"]
    # A machine that has nothing finds all of it, and nothing to do.
    code, output = driving.finish(third.train("--resume", "far"))
    assert code == 0 and "Finished" in output, output


def test_what_another_machine_drives_is_refused_in_one_line(tmp_path: Path, url: str) -> None:
    one, other = Machine(tmp_path / "a", url), Machine(tmp_path / "b", url)
    first = one.train("debug", *WORK, "training.env_steps=100000")
    driving.wait_for(lambda: bool(steps(url)), 120)
    code, output = driving.finish(other.train("--resume", "far"))
    assert code == 2, output
    assert "is driven by process" in output and "--resume far --take-over" in output
    code, output = driving.finish(other.train("debug", *WORK))
    assert code == 2 and "run 'far' exists in s3://" in output, output
    first.send_signal(signal.SIGTERM)
    code, output = driving.finish(first)
    assert code == 130, output  # and it noticed nothing of all that
    second = other.train("--resume", "far")  # it has said that it ended: nothing is waited for
    driving.wait_for(lambda: "e000002" in RemoteFolder(url).names("far"), 120)
    second.send_signal(signal.SIGTERM)
    code, output = driving.finish(second)
    assert code == 130 and "waiting" not in output, output
