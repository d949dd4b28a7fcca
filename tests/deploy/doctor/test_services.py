"""Ray and trackers, against real servers on this machine."""

from __future__ import annotations

import email.utils
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from booster_ray.config import load
from booster_ray.deploy.doctor import services

CONFIG = load("debug").base()
TOKEN = "secret-of-the-cluster"


class Server(BaseHTTPRequestHandler):
    """Asks for a token, as Ray's dashboard does in token mode."""

    asks = True
    late = 0.0
    """Seconds by which its clock is behind."""

    def do_GET(self) -> None:
        given = self.headers.get("Authorization")
        self.send_response(200 if given == f"Bearer {TOKEN}" or not self.asks else 401)
        self.end_headers()

    def date_time_string(self, timestamp: float | None = None) -> str:
        return email.utils.formatdate(time.time() - self.late, usegmt=True)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    url = f"http://127.0.0.1:{httpd.server_port}"
    monkeypatch.setenv("RAY_ADDRESS", url)
    yield url
    httpd.shutdown()
    httpd.server_close()


def test_a_cluster_that_asks_for_its_token(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = services.ray(CONFIG)[0]
    assert refused.verdict == "fail" and "refuses" in refused.text and "TOKEN" in refused.fix
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    found = services.ray(CONFIG)
    assert [one.verdict for one in found] == ["ok", "ok"] and "asks for the token" in found[0].text
    assert not any(TOKEN in f"{one}" for one in found)


def test_the_token_is_read_where_ray_reads_it(server: str, tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(TOKEN + "\n")
    assert services.ray(CONFIG)[0].verdict == "ok"


def test_an_open_cluster_is_warned_of(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "asks", False)
    found = services.ray(CONFIG)[0]
    assert found.verdict == "warn" and "without a token" in found.text


def test_a_clock_that_is_late_is_told(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "late", 60.0)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    clock = services.ray(CONFIG)[1]
    assert clock.check == "clock" and clock.verdict == "warn"
    assert 55 < clock.details["skew_seconds"] < 75


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "127.0.0.1:9", "nonsense"])
def test_a_cluster_that_is_not_there(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert services.ray(CONFIG)[0].verdict == "fail"


def test_token_mode_without_a_token(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", server.removeprefix("http://"))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert [one.verdict for one in services.ray(CONFIG)] == ["ok", "fail"]
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert [one.verdict for one in services.ray(CONFIG)] == ["ok", "warn"]


def test_wandb_is_offline_online_or_away(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert services.wandb(offline=True)[0].verdict == "ok"
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    away = services.wandb(offline=False)[0]
    assert away.verdict == "warn" and "does not answer" in away.text
    monkeypatch.setenv("WANDB_BASE_URL", server)
    assert "there is no key" in services.wandb(offline=False)[0].text
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    found = services.wandb(offline=False)[0]
    assert found.verdict == "ok" and "x" * 40 not in found.text


def test_mlflow_stores(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "asks", False)
    assert services.mlflow(server)[0].verdict == "ok"
    assert services.mlflow("http://127.0.0.1:9")[0].verdict == "fail"
    assert services.mlflow(f"sqlite:///{tmp_path / 'new' / 'runs.db'}")[0].verdict == "ok"
    assert services.mlflow("sqlite:////proc/runs.db")[0].verdict == "fail"
    monkeypatch.delenv("DATABRICKS_HOST", raising=False)
    assert "not configured" in services.mlflow("databricks")[0].text


def mlflow_kept(folder: Path) -> str:
    """A database as a sweep leaves it in the folder of the runs; its URI."""
    folder.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(folder / "mlflow.db") as connection:
        connection.execute("CREATE TABLE runs (name TEXT)")
    return f"sqlite:///{folder / 'mlflow.db'}"


def test_the_database_of_an_earlier_sweep_is_no_folder(tmp_path: Path) -> None:
    """What failed for everybody after the first sweep."""
    config = load("debug", [f"storage={tmp_path / 'runs'}"]).base()
    before = (tmp_path / "runs" / "mlflow.db", mlflow_kept(tmp_path / "runs"))
    kept = before[0].read_bytes()
    found = [one for one in services.trackers(config) if one.check == "mlflow"]
    assert [one.verdict for one in found] == ["ok"] and before[1] in found[0].text
    assert before[0].read_bytes() == kept and os.listdir(tmp_path / "runs") == ["mlflow.db"]


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("sqlite:///mlflow.db", ""),
        ("sqlite:///mlflow.db?timeout=5", ""),
        ("sqlite:///{here}/mlflow.db", ""),
        ("sqlite:///file:{here}/mlflow.db?uri=true", ""),
        ("sqlite:///new/other.db", ""),
        ("sqlite:///empty", ""),
        ("mlruns", ""),
        ("{here}/mlruns", ""),
        ("file:mlruns", ""),
        ("file://{here}/new/mlruns", ""),
        ("sqlite:///text", "{here}/text is no SQLite database"),
        ("sqlite:///text/mlflow.db", "cannot write {here}/text: Not a directory"),
        ("sqlite:///mlruns", "cannot write {here}/mlruns: Is a directory"),
        ("sqlite:///nowhere", "{here}/nowhere is a link to nothing"),
        ("sqlite:////proc/mlflow.db", "cannot write /proc: "),
        ("sqlite://", "is forgotten when a run ends, expected a file"),
        ("sqlite:mlflow.db", "no URL of an SQLite file, expected sqlite:///FILE"),
        ("text", "cannot write {here}/text: Not a directory"),
        ("file://{here}/text/mlruns", "cannot write {here}/text: Not a directory"),
        ("file:///proc/mlruns", "cannot write /proc: "),
    ],
)
def test_what_keeps_mlflows_runs_must_be_writable(
    uri: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mlflow_kept(tmp_path)
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "text").write_text("not a database")
    (tmp_path / "empty").touch()
    (tmp_path / "nowhere").symlink_to("/nowhere/at/all")
    before = sorted(tmp_path.rglob("*"))
    (found,) = services.mlflow(uri.format(here=tmp_path))
    assert found.verdict == ("fail" if why else "ok")
    assert f": {why.format(here=tmp_path)}" in found.text
    assert sorted(tmp_path.rglob("*")) == before


def test_a_databases_password_is_not_shown() -> None:
    (found,) = services.mlflow("postgresql+psycopg2://me:secret@host/runs")
    assert found.verdict == "ok" and "secret" not in found.text


def test_an_address_with_a_variable_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    config = load("debug", ["tracking.mlflow.uri=http://${NOT_SET}:5000"]).base()
    found = services.trackers(config)[-1]
    assert found.verdict == "fail" and "tracking.mlflow.uri: names $NOT_SET" in found.text
