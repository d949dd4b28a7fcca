"""``cluster/submit CONFIG [key=value …]``: a sweep on a running Ray cluster, from any machine."""

from __future__ import annotations

import argparse
import os
import shlex
import tempfile
import time
from pathlib import Path
from typing import Any

from booster_ray.config import ConfigError, load
from booster_ray.config.errors import choices
from booster_ray.deploy.jobs import package
from booster_ray.deploy.jobs.cluster import PORT, Cluster, Job
from booster_ray.deploy.jobs.package import MB

DESCRIPTION = """Submit a sweep to a running Ray cluster and follow it. The job takes along this
package and the config, nothing else. Its token is read from RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or
~/.ray/auth_token. Exit code: 0 succeeded, 1 failed, 2 bad input, 130 stopped."""

COMMANDS = ("tune", "train")
CODES = {"SUCCEEDED": 0, "FAILED": 1, "STOPPED": 130}


def main(argv: list[str]) -> int:
    """Submit, resume, follow, stop or list."""
    args = _parser().parse_intermixed_args(argv)
    wanted = [bool(args.resume), bool(args.follow), bool(args.stop), args.status]
    if sum(wanted) > 1 or (any(wanted[1:]) and args.config):
        raise ConfigError(
            "command line", "expected one of CONFIG, --resume, --follow, --stop, --status"
        )
    if args.resume or not any(wanted):
        return _submit(args)
    cluster = Cluster(args.address, args.token)
    if args.status:
        return _list(cluster)
    job = cluster.find(args.follow or args.stop)
    if args.stop:
        cluster.stop(job.job_id)
        print(f"{job.job_id} is stopped. Go on with:\n  {_resume_line(job)}")
        return 0
    return _follow(cluster, job)


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="cluster/submit", description=DESCRIPTION)
    p.add_argument("config", nargs="?", help="YAML file or preset name, for example demo")
    p.add_argument("overrides", nargs="*", metavar="key=value", help="replace a setting")
    p.add_argument("--resume", metavar="NAME", help="go on with the run NAME, wherever it stopped")
    p.add_argument("--follow", metavar="NAME", help="print what its newest job prints")
    p.add_argument("--stop", metavar="NAME", help="let its trials save, and end its newest job")
    p.add_argument("--status", action="store_true", help="list the jobs")
    default = os.environ.get("RAY_API_SERVER_ADDRESS") or f"http://127.0.0.1:{PORT}"
    p.add_argument("--address", default=default, help=f"of Ray's dashboard; {default}")
    p.add_argument("--no-token", dest="token", action="store_false", help="of a cluster without")
    p.add_argument("--command", choices=COMMANDS, help="what runs there; tune")
    p.add_argument("--storage", help="with --resume: where the run is, if not in its job's storage")
    p.add_argument("--include", action="append", default=[], metavar="PATH", help="take along too")
    p.add_argument("--max-mb", type=float, default=20.0, metavar="N", help="limit of it all; 20")
    installer = p.add_mutually_exclusive_group()
    installer.add_argument("--pip", type=Path, metavar="FILE", help="requirements to install there")
    installer.add_argument("--uv", type=Path, metavar="FILE", help="likewise, with uv")
    p.add_argument("--detach", action="store_true", help="submit, and do not follow")
    return p


def _submit(args: argparse.Namespace) -> int:
    overrides = _resume_overrides(args) if args.resume else args.overrides
    sweep = None if args.resume else _checked(args)
    run = args.resume or sweep.base().name  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory(prefix="booster_ray-job-") as scratch:
        packed = package.build(
            Path(scratch, "job.zip"),
            sweep.to_yaml() if sweep else None,
            args.include,
            args.pip or args.uv,
            args.max_mb,
        )
        cluster = Cluster(args.address, args.token)
        about = _about(args, cluster, run, sweep.base().storage if sweep else None)
        entrypoint = _entrypoint(about, run if args.resume else None, overrides)
        print(
            f"Submitting {packed.files} files, {packed.bytes / MB:.2f} MB: {entrypoint}", flush=True
        )
        environment = {"working_dir": str(packed.path), **_installer(args)}
        job = cluster.submit(run, entrypoint, environment, **about)
    print(f"Job {job.job_id} on {cluster.address}", flush=True)
    if args.detach:
        print(f"Follow it with:\n  cluster/submit --follow {run}")
        return 0
    return _follow(cluster, job)


def _checked(args: argparse.Namespace) -> Any:
    if not args.config:
        raise ConfigError("command line", "", "expected a config, or --resume NAME")
    return load(args.config, args.overrides)


def _resume_overrides(args: argparse.Namespace) -> list[str]:
    """``key=value`` arguments beside --resume; argparse took the first for a config."""
    given = [args.config, *args.overrides] if args.config else []
    for one in given:
        if "=" not in one:
            raise ConfigError("command line", "--resume", "takes no config, expected only a name")
    return given


def _about(
    args: argparse.Namespace, cluster: Cluster, run: str, storage: str | None
) -> dict[str, str]:
    """Which command runs on which storage; of a run that is resumed its last job knows."""
    if not args.resume:
        return {"command": args.command or "tune", "storage": storage or "results"}
    jobs = cluster.jobs(run)
    known = jobs[-1].metadata if jobs else {}
    return {
        "command": args.command or known.get("command", "tune"),
        "storage": args.storage or known.get("storage", "results"),
    }


def _entrypoint(about: dict[str, str], resume: str | None, overrides: list[str]) -> str:
    module = ["python", "-m", f"booster_ray.{about['command']}"]
    if resume is None:  # the overrides are in the config
        return shlex.join([*module, package.CONFIG])
    return shlex.join([*module, "--resume", resume, "--storage", about["storage"], *overrides])


def _installer(args: argparse.Namespace) -> dict[str, Any]:
    """Ray's runtime_env fields; the file of requirements is in the package, hashes and all."""
    line = f"-r ${{RAY_RUNTIME_ENV_CREATE_WORKING_DIR}}/{package.REQUIREMENTS}"
    if args.pip:
        return {"pip": {"packages": [line], "pip_check": False}}
    return {"uv": {"packages": [line]}} if args.uv else {}


def _follow(cluster: Cluster, job: Job) -> int:
    try:
        status = cluster.follow(job.job_id)
    except KeyboardInterrupt:
        print(f"\nThe job goes on. Come back with:\n  cluster/submit --follow {job.run}")
        return 130
    print(f"Job {job.job_id}: {status}")
    if status == "FAILED":
        print(f"Ray says: {cluster.message(job.job_id)[:500]}")
    if status != "SUCCEEDED":
        print(f"Go on with:\n  {_resume_line(job)}")
    return CODES.get(status, 1)


def _resume_line(job: Job) -> str:
    return f"cluster/submit --resume {job.run}"


def _list(cluster: Cluster) -> int:
    jobs = cluster.jobs()
    for job in jobs:
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.began))
        print(f"{job.job_id:30} {job.status:10} {began}  {job.metadata.get('command', '')}")
    if not jobs:
        print(f"No jobs on {cluster.address}; expected {choices(COMMANDS)} runs of cluster/submit")
    return 0
