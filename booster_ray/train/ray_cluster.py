"""Whether there is a Ray cluster to run on, asked within seconds and before anything is begun.

Ray itself tries for a quarter of an hour to reach a cluster that is not there.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from booster_ray.config import ConfigError
from booster_ray.store.failure import one_line

ADDRESS = "RAY_ADDRESS"
EXPECTED = "expected HOST:PORT of a running head (6379), auto, ray://HOST:PORT, or no RAY_ADDRESS"
CONNECT_SECONDS = 5.0
"""Within which a head must take up a connection, and say its first bytes."""
PROBE_SECONDS = 45.0
"""Within which another process, which first loads Ray, must have heard from it."""
LONGEST_SOCKET = 107
"""Bytes in the path of a Unix socket."""
FALLBACK = Path("/tmp")
"""Where Ray works if the folder for temporary files does not serve: Ray's own default."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""How HTTP/2, on which gRPC is built, begins; the second part are settings, none."""
_SETTINGS = 4
"""Type of the frame that an HTTP/2 server sends first."""
_PROBE = """
import sys
try:
    import ray
    from ray._private.services import canonicalize_bootstrap_address
    address = canonicalize_bootstrap_address(sys.argv[1])
    from booster_ray.train.ray_cluster import unreachable
    why = unreachable(address)
    if not why:
        from ray._raylet import GcsClient
        GcsClient(address=address).internal_kv_get(b"session_name", b"session", timeout=10)
except Exception as error:
    why = f"{type(error).__name__}: {error}"
print("RESULT " + " ".join((why or "").split()))
"""


def cluster_address() -> str | None:
    """The running cluster that RAY_ADDRESS names; None: a run starts one of its own."""
    named = os.environ.get(ADDRESS, "").strip()
    return None if named in ("", "local") else named


def check_cluster() -> None:
    """See that a run will have a cluster: that the one named answers, or one can be started.

    Raises:
        ConfigError: it has none; the line says which part is missing and what was expected.
    """
    address = cluster_address()
    if address is None:
        temporary_folder()
        return
    client = address.startswith("ray://")
    if address.startswith(("http://", "https://")):
        text = f"is {address}, where jobs are submitted (cluster/submit), {EXPECTED}"
        raise ConfigError("environment", ADDRESS, text)
    if address != "auto":
        if why := unreachable(address.removeprefix("ray://")):
            raise ConfigError("environment", ADDRESS, f"{why}, {EXPECTED}")
        if client:
            return
    if why := _refusal(address):
        raise ConfigError("environment", ADDRESS, f"is {address}: {why}")


def unreachable(address: str) -> str:
    """Why nothing that could be Ray's head is at ``HOST:PORT``; empty: something is."""
    found = re.fullmatch(
        r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s/:@?#]+)):(?P<port>\d+)", address
    )
    if found is None or not 0 < int(found["port"]) < 2**16:
        return f"is '{address}', which is no HOST:PORT"
    host, port = found["six"] or found["host"], int(found["port"])
    try:
        with socket.create_connection((host, port), CONNECT_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return ""  # it begins otherwise
            connection.settimeout(CONNECT_SECONDS)
            connection.sendall(_PREFACE)
            head = connection.recv(9, socket.MSG_WAITALL)
    except OSError as error:
        return f"is {address}, where nothing answers ({error.strerror or error})"
    if len(head) < 9 or head[3] != _SETTINGS:
        return f"is {address}, where something else than Ray's head answers"
    return ""


@functools.cache
def _refusal(address: str) -> str:
    """Why the head does not let this process in; empty: it does."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, address],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=PROBE_SECONDS, env={**os.environ, "PYTHONPATH": _path()},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no head of Ray has answered within {PROBE_SECONDS:g} s, {EXPECTED}"
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    why = lines[-1].removeprefix("RESULT ").strip() if lines else ""
    if not lines and done.returncode:
        why = f"asking for it ended with exit code {done.returncode}"
    if "AuthenticationError" in why:
        token = "another token" if os.environ.get("RAY_AUTH_TOKEN") else "a token"
        return (
            f"it refuses this process, expected {token} in RAY_AUTH_TOKEN, and RAY_AUTH_MODE=token"
        )
    if "Could not find any running Ray instance" in why:
        return f"no cluster runs on this machine, {EXPECTED}"
    return f"{why[:300]}, {EXPECTED}" if why else ""


def _path() -> str:
    """PYTHONPATH with this package, which need not be installed."""
    here = str(Path(__file__).parents[2])
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])


# -- a cluster of one's own ------------------------------------------------------------------


def temporary_folder() -> Path | None:
    """Where a cluster of this process's own works, if not where Ray would by itself.

    Ray's sockets lie below the folder for temporary files, and their paths may not be long; so may
    that of a scratch folder, which the trials go on to use.

    Raises:
        ConfigError: it is too long or cannot be written, and so is /tmp.
    """
    name = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    wanted = Path(os.environ.get(name, FALLBACK))
    why = _unfit(wanted)
    if not why:
        return None
    if _unfit(FALLBACK):
        text = (
            f"{why}, expected a short path of a folder to write to, for example RAY_TMPDIR=/dev/shm"
        )
        raise ConfigError("environment", name, text)
    return FALLBACK / "ray"


def _unfit(folder: Path) -> str:
    """Why Ray cannot work in a folder for temporary files; empty: it can."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S_%f")
    path = f"{folder}/ray/session_{stamp}_{os.getpid()}/sockets/plasma_store"
    over = len(os.fsencode(path)) - LONGEST_SOCKET
    if over > 0:
        return f"is {folder}, {over} bytes too long for Ray's sockets below it"
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            return ""
    except OSError:
        return f"is {folder}, which cannot be written"


@contextmanager
def given_back(root: Path) -> Iterator[None]:
    """A folder that this process has just begun is removed where what is done inside fails."""
    try:
        yield
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        raise


def begin_ray(address: str | None, cpus: int, **options: Any) -> None:
    """``ray.init``, whose failure is one line.

    Args:
        address: of the cluster to join; None: one begins here, and ends with this process.
        cpus: cores of a cluster that begins here.
        options: of ``ray.init``.

    Raises:
        ConfigError: the cluster is out of reach, or cannot be started.
    """
    check_cluster()
    import ray

    if address is None:
        options |= {"address": "local", "num_cpus": cpus, "include_dashboard": False}
        if folder := temporary_folder():
            options["_temp_dir"] = str(folder)
    else:
        options["address"] = address
        # Tries to connect, of 40 s each; that the head is there has been asked just now.
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")
    try:
        ray.init(**options)
    except Exception as error:
        ray.shutdown()
        what = f"cannot join the cluster at {address}" if address else "cannot start here"
        raise ConfigError("Ray", f"{what}: {one_line(error)[:400]}") from error
