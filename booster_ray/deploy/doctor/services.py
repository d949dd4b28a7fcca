"""What a run talks to: a Ray cluster, and trackers."""

from __future__ import annotations

import email.utils
import os
import socket
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from booster_ray.config import Config, ConfigError
from booster_ray.config.tracking import without_passwords
from booster_ray.deploy.doctor.findings import Finding
from booster_ray.deploy.doctor.storage import skewed
from booster_ray.track.where import mlflow_uri

SECONDS = 5.0
"""How long a service may take to answer."""
WANDB = "https://api.wandb.ai"
TOKEN = "RAY_AUTH_TOKEN"
SQLITE = b"SQLite format 3\0"
"""What such a file begins with, unless it is empty."""
SERVERS = ("postgresql", "mysql", "mssql")
"""Databases that MLflow's clients may be given."""


class Answer(NamedTuple):
    """Of an HTTP request."""

    status: int
    """0: there was none."""
    text: str
    skew: float | None
    """Seconds between its clock and ours."""


def ask(url: str, token: str | None = None) -> Answer:
    """GET a URL, with a bearer token if there is one."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    began = time.time()
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=SECONDS) as reply:
            return Answer(reply.status, "", _skew(reply.headers.get("Date"), began))
    except urllib.error.HTTPError as error:
        return Answer(error.code, str(error.reason), _skew(error.headers.get("Date"), began))
    except (OSError, ValueError) as error:
        return Answer(0, str(getattr(error, "reason", error)), None)


def _skew(date: str | None, began: float) -> float | None:
    """A reply's Date, which has whole seconds, against the time in which it was made."""
    if date is None:
        return None
    stamp = email.utils.parsedate_to_datetime(date).timestamp()
    return max(0.0, began - stamp - 1.0, stamp - time.time())


# -- Ray -------------------------------------------------------------------------------------


def ray(config: Config) -> list[Finding]:
    """The cluster that RAY_ADDRESS names: whether it answers, and whether it asks for a token."""
    address = os.environ.get("RAY_ADDRESS", "")
    if address in ("", "local"):
        text = "RAY_ADDRESS is not set: a run starts a cluster of its own, with its own token"
        return [Finding("ray", "ok", text)]
    if address.startswith(("http://", "https://")):
        return _job_server(address)
    if address == "auto":
        return [Finding("ray", "ok", "RAY_ADDRESS is auto: the cluster of this machine")]
    return [_gcs(address.removeprefix("ray://")), _token()]


def _job_server(address: str) -> list[Finding]:
    url = f"{address.rstrip('/')}/api/version"
    without, answer = ask(url), ask(url, _own_token())
    if not answer.status:
        fix = "start the cluster, or open the tunnel to its dashboard (port 8265)"
        return [Finding("ray", "fail", f"{address}: {answer.text}", fix)]
    clock = [skewed(address, answer.skew)] if answer.skew is not None else []
    if without.status == 200:
        text = f"{address} answers without a token: who reaches it can run anything there"
        fix = "start the cluster with RAY_AUTH_MODE=token (cluster/README.md)"
        return [Finding("ray", "warn", text, fix), *clock]
    if answer.status == 200:
        return [Finding("ray", "ok", f"{address} answers, and asks for the token"), *clock]
    text = f"{address} refuses this token: {answer.status} {answer.text}"
    fix = f"set {TOKEN} (or RAY_AUTH_TOKEN_PATH) to the cluster's token"
    return [Finding("ray", "fail", text, fix), *clock]


def _gcs(address: str) -> Finding:
    host, _, port = address.rpartition(":")
    try:
        with closing(socket.create_connection((host, int(port)), SECONDS)):
            return Finding("ray", "ok", f"{address} accepts connections")
    except (OSError, ValueError) as error:
        text = f"RAY_ADDRESS {address}: {error}"
        return Finding("ray", "fail", text, "start the cluster, or unset RAY_ADDRESS")


def _token() -> Finding:
    mode = os.environ.get("RAY_AUTH_MODE", "")
    if mode == "token" and not _own_token():
        fix = "ray get-auth-token --generate, or set RAY_AUTH_TOKEN"
        return Finding("ray", "fail", "RAY_AUTH_MODE is token, and there is no token", fix)
    if mode != "token" and not _own_token():
        fix = "start the cluster with RAY_AUTH_MODE=token (cluster/README.md)"
        return Finding("ray", "warn", "no token: the cluster seems to ask for none", fix)
    return Finding("ray", "ok", "there is a token")


def _own_token() -> str | None:
    """Where Ray looks for it, in its order; never shown."""
    if token := os.environ.get(TOKEN):
        return token
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
    try:
        return Path(path).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


# -- trackers --------------------------------------------------------------------------------


def trackers(config: Config) -> list[Finding]:
    """Those that the config sends its reports to."""
    tracking = config.tracking
    if not tracking.listeners:
        return [Finding("trackers", "ok", "none: reports are only kept in the runs")]
    found = []
    if "wandb" in tracking.listeners and tracking.wandb.mode != "disabled":
        found += wandb(tracking.wandb.mode == "offline")
    if "mlflow" in tracking.listeners:
        try:
            found += mlflow(mlflow_uri(config))
        except ConfigError as error:
            found.append(Finding("mlflow", "fail", str(error), "export it, or choose another URI"))
    return found or [Finding("trackers", "ok", "none that needs a check")]


def wandb(offline: bool) -> list[Finding]:
    """Weights & Biases: offline needs nothing, online a key and the network."""
    if offline or os.environ.get("WANDB_MODE") == "offline":
        return [Finding("wandb", "ok", "offline: runs are kept on disk, `wandb sync` uploads them")]
    server = os.environ.get("WANDB_BASE_URL") or WANDB
    answer = ask(server)
    if not answer.status:
        text = f"{server} does not answer ({answer.text}): runs will be kept offline"
        return [Finding("wandb", "warn", text, "check the network, or set WANDB_MODE=offline")]
    clock = [skewed(server, answer.skew)] if answer.skew is not None else []
    if not (os.environ.get("WANDB_API_KEY") or _in_netrc(urlsplit(server).hostname or "")):
        text = f"{server} answers, and there is no key: runs will be kept offline"
        return [Finding("wandb", "warn", text, "wandb login, or set WANDB_API_KEY"), *clock]
    return [Finding("wandb", "ok", f"{server} answers, and there is a key"), *clock]


def _in_netrc(host: str) -> bool:
    import netrc

    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def mlflow(uri: str) -> list[Finding]:
    """An MLflow tracking store: a database file, a server, or Databricks."""
    if uri.startswith(("http://", "https://")):
        answer = ask(f"{uri.rstrip('/')}/health")
        if answer.status == 200:
            return [Finding("mlflow", "ok", f"{uri} answers")]
        text = f"{uri}: {answer.text or answer.status}"
        return [Finding("mlflow", "fail", text, "start the server, or choose another URI")]
    if uri.startswith("databricks"):
        if os.environ.get("DATABRICKS_HOST") or Path("~/.databrickscfg").expanduser().exists():
            return [Finding("mlflow", "ok", f"{uri}: Databricks is configured")]
        fix = "set DATABRICKS_HOST and DATABRICKS_TOKEN, also for Ray's workers"
        return [Finding("mlflow", "fail", f"{uri}: Databricks is not configured", fix)]
    if uri.partition(":")[0].partition("+")[0] in SERVERS:
        return [Finding("mlflow", "ok", f"{without_passwords(uri)}: a database, asked by the runs")]
    why = _cannot_keep(uri)
    if not why:
        return [Finding("mlflow", "ok", f"{uri}: a file of this machine")]
    return [Finding("mlflow", "fail", f"{uri}: {why}", "choose another with tracking.mlflow.uri=…")]


def _cannot_keep(uri: str) -> str:
    """Why an SQLite file or a folder of MLflow's cannot be written; empty: it can."""
    if not uri.startswith("sqlite"):
        path = Path(url2pathname(urlsplit(uri).path) if uri.startswith("file:") else uri)
        return _cannot_write(path, folder=True)
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        database = make_url(uri).database or ""
    except ArgumentError:
        return "no URL of an SQLite file, expected sqlite:///FILE or sqlite:////FOLDER/FILE"
    if database.startswith("file:"):
        database = url2pathname(urlsplit(database).path)
    if database in ("", ":memory:"):
        return "is forgotten when a run ends, expected a file"
    return _cannot_write(Path(database), folder=False)


def _cannot_write(path: Path, folder: bool) -> str:
    """What is in the way of a folder, or of an SQLite file with its journals beside it."""
    there = path = path.absolute()
    try:
        if path.exists() and not folder:
            with path.open("r+b") as stream:
                if stream.read(len(SQLITE)) not in (b"", SQLITE):
                    return f"{path} is no SQLite database"
            return _cannot_write(path.parent, folder=True)
        if path.is_symlink() and not path.exists():
            return f"{path} is a link to nothing"
        there = next(p for p in (path, *path.parents) if p.exists())
        with tempfile.TemporaryFile(dir=there):
            return ""
    except OSError as error:
        return f"cannot write {there}: {error.strerror}"
