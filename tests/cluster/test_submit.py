"""``cluster/submit``: what it takes along, and a sweep on a real cluster of two nodes."""

from __future__ import annotations

import os
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import driving
import pytest
from two_nodes import TwoNodes

from booster_ray.config import ConfigError, load
from booster_ray.deploy.jobs import package

SUBMIT = str(driving.ROOT / "cluster" / "submit")


def submit(
    *args: str, home: Path, timeout: float = 1500, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The command as a client of its own, with a home of its own."""
    return subprocess.run(
        [SUBMIT, *args], cwd=driving.ROOT, env=client(home, **environment),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout,
    )  # fmt: skip


def client(home: Path, **environment: str) -> dict[str, str]:
    home.mkdir(exist_ok=True)
    left = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**left, "HOME": str(home), **environment}


# -- what goes along -------------------------------------------------------------------------


def test_the_package_is_small_and_has_no_data(tmp_path: Path) -> None:
    packed = package.build(tmp_path / "job.zip", load("debug").to_yaml())
    with zipfile.ZipFile(packed.path) as archive:
        names = archive.namelist()
        written = archive.read(package.CONFIG).decode()
    assert packed.bytes < 1e6 and packed.files == len(names)
    assert "booster_ray/tune/command.py" in names and "tune_configs/default.yaml" in names
    assert "booster_ray/tune/report.html.j2" in names
    beginnings = {name.partition("/")[0] for name in names}
    assert beginnings == {"booster_ray", "tune_configs", package.CONFIG}
    assert not [name for name in names if name.endswith(".pyc")]
    (tmp_path / "again.yaml").write_text(written)
    assert load(tmp_path / "again.yaml").space == load("debug").space


def test_what_is_included_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "__pycache__").mkdir(parents=True)
    (tmp_path / "mine" / "envs.py").write_text("x = 1\n")
    (tmp_path / "mine" / "__pycache__" / "envs.pyc").write_bytes(b"x")
    (tmp_path / "needs.txt").write_text("six==1.17.0 --hash=sha256:00\n")
    packed = package.build(Path("job.zip"), None, ["mine"], Path("needs.txt"))
    with zipfile.ZipFile(packed.path) as archive:
        names = set(archive.namelist())
    assert {
        "mine/envs.py",
        package.REQUIREMENTS,
    } <= names and "mine/__pycache__/envs.pyc" not in names
    with pytest.raises(ConfigError, match="nothing: no such file"):
        package.build(Path("job.zip"), None, ["nothing"])
    with pytest.raises(ConfigError, match="not below the current folder"):
        package.build(Path("job.zip"), None, ["/etc"])


def test_a_large_package_is_refused_with_the_largest_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "replay.bin").write_bytes(os.urandom(3_000_000))
    with pytest.raises(
        ConfigError, match=r"3\.\d MB, expected at most 2.*data/replay\.bin 3\.0 MB"
    ):
        package.build(Path("job.zip"), None, ["data"], max_mb=2)


# -- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "expected a config, or --resume NAME"),
        (["debug", "sac.tau=2"], "command line: sac.tau"),
        (["debug", "--stop", "debug"], "expected one of CONFIG"),
        (["--resume", "x", "debug"], "takes no config"),
        (["debug", "--address", "ftp://x"], "expected http://HOST:8265"),
        (["debug", "--pip", "/nowhere.txt"], "/nowhere.txt: No such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(args: list[str], says: str) -> None:
    done = driving.inside(*args, module="jobs")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
    assert says in done.stderr


def test_without_a_token_nothing_is_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    done = driving.inside("debug", module="jobs")
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert "no token: RAY_AUTH_TOKEN is not set" in done.stderr


def test_a_cluster_out_of_reach_is_one_line_too(tmp_path: Path) -> None:
    """In a process of its own, for Ray keeps what it has read of tokens."""
    where = ("--no-token", "--address", "127.0.0.1:9")
    done = submit("debug", *where, home=tmp_path / "home", timeout=120)
    assert done.returncode == 2, done.stdout
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith("error: ") and "http://127.0.0.1:9: Failed to" in done.stdout


# -- a cluster -------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[TwoNodes]:
    home = tmp_path / "head"
    home.mkdir()
    nodes = TwoNodes(home)
    try:
        yield nodes
    finally:
        nodes.close()


@pytest.mark.slow
def test_a_sweep_is_followed_stopped_and_resumed_from_elsewhere(
    cluster: TwoNodes, tmp_path: Path
) -> None:
    first, second, stranger = tmp_path / "first", tmp_path / "second", tmp_path / "stranger"
    where = ("--address", cluster.address)
    refused = submit("debug", *where, home=stranger, RAY_AUTH_TOKEN="0" * 64)
    assert refused.returncode == 2 and "token" in refused.stdout
    assert submit("--status", *where, home=stranger).returncode == 2
    assert submit("--status", "--no-token", *where, home=stranger).returncode == 2

    storage = tmp_path / "runs"
    started = subprocess.Popen(
        [
            SUBMIT, "debug", *where, f"storage={storage}", "training.env_steps=3000",
            "evaluation.every=3000", "tune.scheduler=none", "sac.critic_lr=1e-3",
        ],
        cwd=driving.ROOT, env=client(first, RAY_AUTH_TOKEN=cluster.token),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    sweep = storage / "debug"
    driving.wait_for(
        lambda: started.poll() is not None or all(driving.checkpoints(sweep, n) for n in (0, 1))
    )
    assert started.poll() is None, started.communicate()
    # Both nodes work: one CPU each, two trials at a time.
    assert all(any("TrialProcess" in line for line in node) for node in cluster.processes())
    again = submit("debug", *where, home=first, RAY_AUTH_TOKEN=cluster.token)
    assert again.returncode == 2 and "job debug-1 of this run is RUNNING" in again.stdout
    # Another machine knows the name alone; its token is in its own home.
    (second / ".ray").mkdir(parents=True)
    (second / ".ray" / "auth_token").write_text(cluster.token)
    stopped = submit("--stop", "debug", *where, home=second)
    assert stopped.returncode == 0, stopped.stdout
    assert "cluster/submit --resume debug" in stopped.stdout
    code, output = driving.finish(started, timeout=300)
    assert code == 130 and "Job debug-1: STOPPED" in output, output
    assert "env steps" in output or "Sweep debug" in output  # it was followed
    reached = [driving.progress(sweep, n)[-1]["env_steps"] for n in (0, 1)]
    assert all(0 < steps < 3000 for steps in reached)

    resumed = submit("--resume", "debug", *where, home=second)
    assert resumed.returncode == 0, resumed.stdout + cluster.log()
    assert "Job debug-2: SUCCEEDED" in resumed.stdout and "Leaderboard" in resumed.stdout
    for number in (0, 1):
        steps = [report["env_steps"] for report in driving.progress(sweep, number)]
        assert steps == sorted(set(steps)) and steps[-1] >= 3000
    listed = submit("--status", *where, home=second)
    assert "debug-1" in listed.stdout and "STOPPED" in listed.stdout
    assert listed.stdout.index("debug-1") < listed.stdout.index("debug-2")
    told = submit("--follow", "debug-1", *where, home=first, RAY_AUTH_TOKEN=cluster.token)
    assert told.returncode == 130 and "Stopped. Go on with" in told.stdout
    nowhere = submit("--stop", "debugg", *where, home=second)
    assert nowhere.returncode == 2 and "did you mean 'debug'?" in nowhere.stdout
    assert cluster.token not in output + resumed.stdout + listed.stdout
    time.sleep(1)
