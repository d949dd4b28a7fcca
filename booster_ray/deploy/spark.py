"""``python -m booster_ray.spark STAGE …``: a stage of the pipeline on Ray, on a Spark cluster.

Ray's head starts beside Spark's driver, its workers in Spark's executors; the stage runs in a
process of its own that joins them, and when it ends, however it ends, Ray is shut down.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from booster_ray.config import ConfigError

DESCRIPTION = """Start Ray on a Spark cluster, run a stage of the pipeline there, and shut Ray down.
What follows STAGE is passed on to booster_ray.pipeline. On Databricks the session is the cluster's
own; elsewhere --master names one. Exit code: the stage's."""

TOKEN = "RAY_AUTH_TOKEN"
DATABRICKS = "DATABRICKS_RUNTIME_VERSION"
"""In the environment of every Databricks cluster."""
GB = 10**9


def main(argv: list[str]) -> int:
    """Run the stage; its exit code, or 2 for bad input."""
    args, stage = _parser().parse_known_args(argv)
    _prepare_environment()
    with _session(args.master) as spark, _ray(spark, args) as address:
        print(f"Ray on Spark is up at {address}", flush=True)
        code = _run([sys.executable, "-m", "booster_ray.pipeline", *stage])
    print("Ray on Spark is shut down", flush=True)
    return code


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m booster_ray.spark", description=DESCRIPTION, allow_abbrev=False,
        usage="%(prog)s [--workers N] [--cpus N] [--gpus N] [--memory GB] [--master URL] STAGE …",
    )  # fmt: skip
    p.add_argument("--workers", type=int, default=1, metavar="N", help="nodes of Ray's; 1")
    p.add_argument("--cpus", type=int, default=1, metavar="N", help="of each node; 1")
    p.add_argument("--gpus", type=int, default=0, metavar="N", help="of each node; 0")
    p.add_argument("--head-cpus", type=int, default=0, metavar="N", help="on the driver's machine")
    text = "of each node; without it, what Ray makes of the machine's"
    p.add_argument("--memory", type=float, metavar="GB", help=text)
    p.add_argument("--master", metavar="URL", help="such as spark://HOST:7077; not on Databricks")
    return p


def _prepare_environment() -> None:
    """What Ray's and Spark's processes inherit.

    Raises:
        ConfigError: on Databricks, the cluster has no token for Ray.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    # Ray on Spark looks for `ray`, which lies beside a virtual environment's Python.
    beside = os.path.dirname(sys.executable)
    os.environ["PATH"] = f"{beside}:{os.environ.get('PATH', os.defpath)}"
    # A sweep may think for longer than a notebook's user.
    os.environ.setdefault("DATABRICKS_RAY_ON_SPARK_AUTOSHUTDOWN_MINUTES", "0")
    if DATABRICKS in os.environ and TOKEN not in os.environ:
        # Executors run elsewhere: they have what the cluster was started with, and no more.
        text = "is not set, expected it in the cluster's spark_env_vars, as in cluster/databricks"
        raise ConfigError(TOKEN, text)
    os.environ.setdefault(TOKEN, secrets.token_hex(32))


@contextmanager
def _session(master: str | None) -> Iterator[Any]:
    """Spark's session; one that was begun here also ends here.

    Raises:
        ConfigError: there is no pyspark, or no cluster.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        text = "is not installed: pip install 'booster_ray[databricks]'"
        raise ConfigError("pyspark", text) from None
    found = SparkSession.getActiveSession()
    if found is None and master is None and DATABRICKS not in os.environ:
        raise ConfigError("command line", "--master", "is missing, expected Spark's address")
    builder = SparkSession.builder.appName("booster_ray")
    if master is not None:
        builder = builder.master(master)
    try:
        spark = found or builder.getOrCreate()
    except Exception as error:  # of py4j, Java and Spark
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError("command line", "--master", f"{master}: {text}") from None
    try:
        yield spark
    finally:
        if found is None and DATABRICKS not in os.environ:
            spark.stop()


@contextmanager
def _ray(spark: Any, args: argparse.Namespace) -> Iterator[str]:
    """Ray's address, while it lasts."""
    from ray.util.spark import setup_ray_cluster, shutdown_ray_cluster

    memory: dict[str, int] = {}
    if args.memory:
        # A third for objects, as Ray would divide it.
        objects = int(args.memory * GB * 0.3)
        memory = {
            "memory_worker_node": int(args.memory * GB) - objects,
            "object_store_memory_worker_node": objects,
        }
    address, _ = setup_ray_cluster(
        max_worker_nodes=args.workers,
        min_worker_nodes=args.workers,
        num_cpus_worker_node=args.cpus,
        num_gpus_worker_node=args.gpus,
        num_cpus_head_node=args.head_cpus,
        num_gpus_head_node=0,
        **memory,
    )
    try:
        yield os.environ.get("RAY_ADDRESS", address)
    finally:
        shutdown_ray_cluster()


def _run(command: list[str]) -> int:
    """Run a command to its end; signals are passed on, so that it can save."""
    from booster_ray.runtime.signals import heard

    process: subprocess.Popen[bytes] | None = None

    def forward(signum: int, _frame: Any) -> None:
        if process is not None and signum != signal.SIGINT:  # a Ctrl-C has reached it already
            process.send_signal(signum)

    before = {s: signal.signal(s, forward) for s in heard()}
    try:
        process = subprocess.Popen(command)
        code = process.wait()
        return code if code >= 0 else 128 - code
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
