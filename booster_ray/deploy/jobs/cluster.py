"""A cluster's job server: jobs by the name of their run."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from booster_ray.config import ConfigError
from booster_ray.config.errors import choices, hint

PORT = 8265
STOP_SECONDS = 90
"""Between SIGTERM and SIGKILL of a job that is stopped; its trials save meanwhile."""
POLL_SECONDS = 2.0
PATIENCE_SECONDS = 120.0
"""How long a cluster may be out of reach while a job is followed."""
KEY = "booster_ray"
"""In a job's metadata: the name of its run."""


class Job(NamedTuple):
    """A job of ours."""

    job_id: str
    run: str
    status: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    began: float
    metadata: dict[str, str]

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.status in ("SUCCEEDED", "FAILED", "STOPPED")


class Cluster:
    """Connection to a job server.

    Args:
        address: ``http://HOST:8265``; HOST alone is enough.
        token: whether to show the cluster's token, see :func:`require_token`.

    Raises:
        ConfigError: here and from every method, when the cluster cannot be reached or refuses.
    """

    def __init__(self, address: str, token: bool = True) -> None:
        self.address = _url(address)
        os.environ["RAY_AUTH_MODE"] = "token" if token else "disabled"
        if token:
            require_token()
        # Ray lets these two overrule the address that it is given.
        os.environ.pop("RAY_ADDRESS", None)
        os.environ["RAY_API_SERVER_ADDRESS"] = self.address
        with self._plainly():
            from ray.job_submission import JobSubmissionClient

            self._client = JobSubmissionClient(self.address)

    def submit(self, run: str, entrypoint: str, runtime_env: dict[str, Any], **about: str) -> Job:
        """Submit a job for the run; its id is the run's name and a number.

        Raises:
            ConfigError: a job of this run is under way.
        """
        earlier = self.jobs(run)
        if going := [job for job in earlier if not job.over]:
            text = (
                f"job {going[-1].job_id} of this run is {going[-1].status}; --follow or --stop it"
            )
            raise ConfigError("command line", "name", text)
        numbers = [job.job_id.rpartition("-")[2] for job in earlier]
        number = 1 + max((int(n) for n in numbers if n.isdigit()), default=0)
        environment = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}
        job_id = self._patiently(
            entrypoint=entrypoint,
            runtime_env={**runtime_env, "env_vars": environment},
            metadata={KEY: run, **about},
            submission_id=f"{run}-{number}",
        )
        return Job(job_id, run, "PENDING", time.time(), dict(about))

    def _patiently(self, **job: Any) -> str:
        """Submit; a cluster that has just begun answers, but takes no jobs for some seconds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with self._plainly():
                try:
                    return str(self._client.submit_job(**job))
                except RuntimeError as error:
                    if "try again later" not in str(error) or time.monotonic() > deadline:
                        raise
            time.sleep(POLL_SECONDS)

    def jobs(self, run: str | None = None) -> list[Job]:
        """Our jobs, the oldest first; of one run, or of all."""
        with self._plainly():
            listed = self._client.list_jobs()
        mine = [
            Job(
                str(one.submission_id),
                one.metadata[KEY],
                str(getattr(one.status, "value", one.status)),
                (one.start_time or 0) / 1000,
                dict(one.metadata),
            )
            for one in listed
            if KEY in (one.metadata or {})
        ]
        return sorted((j for j in mine if run in (None, j.run)), key=lambda job: job.began)

    def find(self, name: str) -> Job:
        """The newest job of a run, or the job of that id.

        Raises:
            ConfigError: there is none; the message lists the runs there are.
        """
        jobs = self.jobs()
        if found := [job for job in jobs if name in (job.run, job.job_id)]:
            return found[-1]
        runs = sorted({job.run for job in jobs})
        there = f"expected {choices(runs)}{hint(name, runs)}" if runs else "there are none"
        raise ConfigError("command line", name, f"no job of such a run on {self.address}, {there}")

    def message(self, job_id: str) -> str:
        """What Ray says of a job's state, on one line; of a failure its cause."""
        with self._plainly():
            return " ".join(str(self._client.get_job_info(job_id).message or "").split())

    def stop(self, job_id: str) -> None:
        """Ask a job to end; returns when it has, its trials having saved."""
        with self._plainly():
            self._client.stop_job(job_id)
            deadline = time.monotonic() + STOP_SECONDS + 30
            while not self._client.get_job_status(job_id).is_terminal():
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{job_id} does not stop")
                time.sleep(POLL_SECONDS)

    def follow(self, job_id: str, write: Callable[[str], object] = sys.stdout.write) -> str:
        """Pass on what a job prints, until it ends; returns its status.

        A connection that breaks is made anew; nothing is printed twice.
        """
        told, patience = 0, time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                told = asyncio.run(self._tail(job_id, told, write))
                status = self._client.get_job_status(job_id)
                patience = time.monotonic() + PATIENCE_SECONDS
                if status.is_terminal():
                    return str(status.value)
            except Exception as error:  # of aiohttp, requests or Ray
                if time.monotonic() > patience:
                    with self._plainly():
                        raise error
            time.sleep(POLL_SECONDS)

    async def _tail(self, job_id: str, told: int, write: Callable[[str], object]) -> int:
        """Write what comes after the first ``told`` characters; returns how many were told."""
        seen = 0
        async for lines in self._client.tail_job_logs(job_id):
            new = lines[max(0, told - seen) :]
            seen += len(lines)
            if new:
                write(new)
                sys.stdout.flush()
        return max(told, seen)

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """Whatever Ray and its libraries raise, as one line."""
        try:
            yield
        except ConfigError:
            raise
        except Exception as error:
            text = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(
                "command line", "--address", f"{self.address}: {text[:300]}"
            ) from None


def _url(address: str) -> str:
    if "://" not in address:
        address = f"http://{address}"
    scheme, _, host = address.rstrip("/").partition("://")
    if scheme not in ("http", "https") or not host:
        text = f"is '{address}', expected http://HOST:{PORT}, the address of Ray's dashboard"
        raise ConfigError("command line", "--address", text)
    return f"{scheme}://{host if ':' in host else f'{host}:{PORT}'}"


def require_token() -> None:
    """See that there is a token, where Ray looks for it.

    Raises:
        ConfigError: there is none.
    """
    if os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if not path.is_file():
        text = (
            f"no token: RAY_AUTH_TOKEN is not set and there is no {path}; copy the cluster's token "
            "there (on its head: ray get-auth-token), or pass --no-token to an open cluster"
        )
        raise ConfigError("command line", "", text)
