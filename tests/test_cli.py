"""Bad input: one line that names the place, exit code 2, nothing started or overwritten."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import driving
import pytest

from booster_ray.config import ConfigError, load
from booster_ray.store import folder
from booster_ray.store.files import SWEEP
from booster_ray.train import preflight

HEAVY = {"jax", "torch", "ray", "mujoco", "flax", "optuna", "gymnasium"}


@pytest.mark.parametrize(
    ("args", "place", "says"),
    [
        (["debug", "sac.batchsize=3"], "command line: sac.batchsize", "'batch_size'"),
        (["debug", "sac.tau=2"], "command line: sac.tau", "1"),
        (["debug", "sac.batch_size=many"], "command line: sac.batch_size", "integer"),
        (["debug", "tasks=[goal]"], "command line: tasks.0", "'goalie'"),
        (["debug", "name=../up"], "command line: name", "expected"),
        (["demoo"], "demoo", "demo.yaml"),
        (["--resume", "nothing", "storage=/dev/null"], "command line: --resume", "nothing"),
        (
            ["--resume", "x", "--storage=a", "storage=b"],
            "command line: storage",
            "--storage is 'a'",
        ),
        (["debug", "storage=$NO_SUCH_NAME/x"], "command line: storage", "$NO_SUCH_NAME"),
        (
            [
                "debug",
                "storage=/x",
                "tracking.listeners=[mlflow]",
                "tracking.mlflow.uri=$NO_SUCH_NAME",
            ],
            "tracking.mlflow.uri",
            "$NO_SUCH_NAME",
        ),
        (
            ["debug", "tune.study_url=postgresql://me:${NO_SUCH_NAME}@localhost/x"],
            "tune.study_url",
            "$NO_SUCH_NAME",
        ),
        (["debug", "--resume", "debug"], "command line: --resume", "only a name"),
        ([], "command line", "--resume NAME"),
        (["debug", "storage=/dev/null/x"], "tune_configs/debug.yaml: storage", "cannot write"),
        (["debug", "storage=/proc/x"], "tune_configs/debug.yaml: storage", "cannot write"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(args: list[str], place: str, says: str) -> None:
    done = driving.inside(*args)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"error: {place}: ") and says in done.stderr


def test_a_process_of_its_own_says_the_same() -> None:
    args = ("debug", "sac.batchsize=3")
    done = subprocess.run(
        driving.command(*args), cwd=driving.ROOT, capture_output=True, text=True, timeout=30
    )
    here = driving.inside(*args)
    assert done.returncode == here.returncode == 2
    assert (done.stdout, done.stderr) == (here.stdout, here.stderr)


@pytest.mark.parametrize("module", ["tune", "train", "data"])
@pytest.mark.parametrize("args", [["--help"], ["debug", "sac.tau=2"]])
def test_help_and_config_errors_import_nothing_heavy(module: str, args: list[str]) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['x', *{args!r}]\n"
        "try:\n"
        f"    runpy.run_module('booster_ray.{module}', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n"
        "    print(end.code)\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=driving.ROOT, capture_output=True, text=True, timeout=30
    )
    *_, exit_code, modules = done.stdout.splitlines()
    assert exit_code == ("0" if args == ["--help"] else "2"), done.stderr
    assert not HEAVY & set(modules.split())


def test_train_refuses_a_search_space(tmp_path: Path) -> None:
    code, output = driving.run("debug", f"storage={tmp_path}", module="train")
    assert code == 2 and "is searched" in output and output.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_full_storage_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = load(driving.ROOT / "tune_configs/debug.yaml", [f"storage={tmp_path}"])
    monkeypatch.setattr(folder.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    with pytest.raises(ConfigError, match="has 1 MiB free, expected at least 256"):
        preflight.begin(sweep)
    assert not list(tmp_path.iterdir())


def test_resume_lists_the_runs_there_are(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / SWEEP).write_text("name: x\n")
    with pytest.raises(ConfigError, match="first or second; did you mean 'second'"):
        folder.reopen("secnd", str(tmp_path), SWEEP)


def test_settings_of_the_whole_sweep_cannot_be_searched(tmp_path: Path) -> None:
    search = "tune.trials={search: int, low: 1, high: 3}"
    sweep = load(driving.ROOT / "tune_configs/debug.yaml", [f"storage={tmp_path}", search])
    with pytest.raises(ConfigError, match=r"tune\.trials: is searched"):
        preflight.begin(sweep)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    with folder.lock(tmp_path), pytest.raises(ConfigError, match="another process"):
        folder.lock(tmp_path)
    folder.lock(tmp_path).close()


def test_a_job_keeps_relative_storage_below_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert folder.storage_path("results") == Path("results")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert folder.storage_path("results") == tmp_path / "results"
    assert folder.storage_path("/abs") == Path("/abs")
