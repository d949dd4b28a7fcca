"""Notices of preemption: SIGTERM, Google's metadata server, Ray's drain, a file."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlparse

import driving
import pytest

from booster_ray.config import Config, Trainer, load
from booster_ray.store import checkpoint
from booster_ray.store.attempts import read_attempts
from booster_ray.store.files import read_progress
from booster_ray.train import preemption
from booster_ray.train.preemption import GoogleMetadata, Notice, NoticeFile, Preempted, Watch

LONG = ("training.env_steps=100_000", "checkpoint.every_env_steps=100_000")
SEEDED = ("randomization.level=0", "rewards.height=1.0", "sac.critic_lr=3e-4")


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    yield
    driving.clean_up()


class Metadata(BaseHTTPRequestHandler):
    """As much of Google's metadata server as the notice needs."""

    preempted = threading.Event()
    asked: ClassVar[list[dict[str, Any]]] = []
    broken = 0

    def do_GET(self) -> None:
        cls, url = type(self), urlparse(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        cls.asked.append({"path": url.path, "flavor": self.headers["Metadata-Flavor"], **query})
        if cls.broken > 0:
            cls.broken -= 1
            self.send_error(503)
            return
        if query.get("wait_for_change") == "true":
            cls.preempted.wait(5)
        self.send_response(200)
        self.send_header("ETag", "b" if cls.preempted.is_set() else "a")
        self.end_headers()
        self.wfile.write(b"TRUE" if cls.preempted.is_set() else b"FALSE")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Metadata]]:
    Metadata.preempted.clear()
    Metadata.asked.clear()
    Metadata.broken = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv(preemption.METADATA_HOST, f"127.0.0.1:{server.server_port}")
    yield Metadata
    Metadata.preempted.set()
    server.shutdown()
    server.server_close()


def test_googles_notice_arrives_through_a_long_poll(metadata: type[Metadata]) -> None:
    metadata.broken = 1  # as when the server is updated
    heard: list[Notice] = []
    host = preemption.metadata_host()
    assert host
    waiting = threading.Thread(target=GoogleMetadata(host), args=(heard.append, threading.Event()))
    waiting.start()
    driving.wait_for(lambda: any("wait_for_change" in one for one in metadata.asked))
    assert not heard
    metadata.preempted.set()
    waiting.join(timeout=20)
    assert [notice.source for notice in heard] == ["Google preempts the machine"]
    asked = metadata.asked[-1]
    assert asked["path"] == "/computeMetadata/v1/instance/preempted"
    assert asked["flavor"] == "Google" and asked["last_etag"] == "a"


def test_elsewhere_nobody_asks_google(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(preemption.METADATA_HOST, raising=False)
    for text, host in (
        ("Some Board", None),
        ("Google Compute Engine", "metadata.google.internal"),
    ):
        product = tmp_path / "product_name"
        product.write_text(text)
        monkeypatch.setattr(preemption, "PRODUCT", product)
        assert preemption.metadata_host() == host
    monkeypatch.setattr(preemption, "PRODUCT", tmp_path / "none")
    assert preemption.metadata_host() is None
    assert preemption.machine_sources(Trainer(preemption_notice="none")) == []


def test_a_deadline_far_off_leaves_the_run_alone_until_the_grace_begins() -> None:
    told = threading.Event()

    def soon(notify: preemption.Notify, _: threading.Event) -> None:
        notify(Notice("drain", deadline=time.time() + 11.0))

    with Watch(Trainer(grace_seconds=10.0), told.set, [soon]) as watch:
        driving.wait_for(lambda: watch.notice)
        assert not told.is_set()
        assert told.wait(10)


def test_only_the_first_notice_counts(tmp_path: Path) -> None:
    calls: list[int] = []
    (tmp_path / "notice").touch()
    sources: list[preemption.Source] = [NoticeFile(tmp_path / "notice")] * 3
    with Watch(Trainer(), lambda: calls.append(1), sources) as watch:
        driving.wait_for(lambda: watch.notice)
        time.sleep(1)
    assert calls == [1]


def debug(storage: Path, *more: str) -> Config:
    return load("debug", [f"storage={storage}", "name=one", *SEEDED, *more]).base()


def test_a_notice_saves_at_once_and_the_run_goes_on_from_there(
    tmp_path: Path, metadata: type[Metadata]
) -> None:
    """No checkpoint is due for long: what is there at the end, the notice has made."""
    run = tmp_path / "one"

    def report(metrics: dict[str, Any]) -> None:
        if metrics["env_steps"] >= 300:
            metadata.preempted.set()

    with pytest.raises(Preempted, match="Google preempts the machine: saved"):
        preemption.train_preemptibly(debug(tmp_path, *LONG), run, tmp_path / "no", report)
    (saved,) = run.glob("step_*")
    reached = read_progress(run)[-1]["env_steps"]
    assert checkpoint.load(saved)[1]["env_steps"] == reached
    (attempt,) = read_attempts(run)
    assert attempt["how"] == "preempted" and attempt["env_steps"] == reached
    assert attempt["seconds"] is not None

    metadata.preempted.clear()
    seen: list[float] = []

    def again(metrics: dict[str, Any]) -> None:
        seen.append(metrics["env_steps"])
        (run / preemption.NOTICE_FILE).touch()

    with pytest.raises(Preempted, match="preemption-notice"):
        preemption.train_preemptibly(debug(tmp_path, *LONG), run, tmp_path / "no", again)
    # Not one step was made again: done is what was saved, and what comes after it.
    assert seen[0] > reached


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("workers", "signum"),
    [
        (0, signal.SIGTERM),
        (0, signal.SIGHUP),
        (0, signal.SIGUSR1),
        *(
            pytest.param(1, signum, marks=SLOW)
            for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
        ),
    ],
)
def test_a_command_that_gets_a_signal_saves_and_loses_no_step(
    tmp_path: Path, workers: int, signum: signal.Signals
) -> None:
    bound = f"trainer.workers={workers}"
    process = driving.start(
        "debug", f"storage={tmp_path}", "name=one", *driving.QUICK, *LONG, bound,
        "evaluation.every=100_000", module="train",  # one that is cut short leaves no report
    )  # fmt: skip
    run = tmp_path / "one"
    driving.wait_for(lambda: len(read_progress(run)) >= 3 or process.poll() is not None)
    assert process.poll() is None, process.communicate()[0]
    known = read_progress(run)[-1]["env_steps"]
    process.send_signal(signum)
    code, output = driving.finish(process)
    assert code == 130, output
    assert "Traceback" not in output
    (saved,) = run.glob("step_*")
    assert int(saved.name.split("_")[1]) == read_progress(run)[-1]["env_steps"] >= known
