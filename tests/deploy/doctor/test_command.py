"""The command itself: its exit codes, its JSON, and that it leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import driving
import pytest

from booster_ray.cli import guarded
from booster_ray.deploy.doctor import command

COMMAND = [sys.executable, "-m", "booster_ray.doctor"]
CHECKS = {"versions", "devices", "render", "wandb", "mlflow", "storage", "clock", "disk", "ray"}


def doctor(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *args], cwd=driving.ROOT, capture_output=True, text=True, timeout=900
    )


def test_a_config_is_planned_and_nothing_is_left(tmp_path: Path) -> None:
    done = doctor("debug", f"storage={tmp_path / 'runs'}", "--quick", "--json", "--rate=2")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["ok"] is True and {one["check"] for one in told["findings"]} >= CHECKS
    fits = {one["machine"]: one["fit"] for one in told["memory"]}
    assert fits["this machine"]["problem"] == ""
    costs = {one["machine"]: one for one in told["cost"]}
    assert costs["g2-standard-12"]["trial_hours"] == pytest.approx(2 * 600 / 2 / 3600)
    assert costs["g2-standard-12"]["on_demand"] > 0
    assert list(tmp_path.iterdir()) == []


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Leave these checks of the quick ones; each takes a process of its own."""
    monkeypatch.setattr(command, "QUICK", [one for one in command.QUICK if one.name in names])


def test_a_plan_for_another_machine_asks_no_gpu_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "devices")
    wanted = ("runtime.jax_platforms=cpu", f"storage={tmp_path}", "--quick", "--json")
    done = driving.inside("conservative", "--machine", "g2-standard-12", *wanted, module="doctor")
    told = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert [one["machine"] for one in told["memory"]] == ["g2-standard-12"]
    here = driving.inside("conservative", *wanted, module="doctor")
    assert here.returncode == 1 and "JAX sees no GPU" in here.stdout


def test_what_fails_is_exit_code_1_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "versions", "storage")
    done = driving.inside(
        "debug", "storage=/proc/x", "trainer.cpus=4096", "--quick", module="doctor"
    )
    assert done.returncode == 1
    assert "fail  storage  /proc/x: cannot write" in done.stdout
    assert "→ choose another with storage=" in done.stdout
    assert "a trial wants more cores or GPUs" in done.stdout
    assert "ok    versions" in done.stdout  # the others went on


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["debug", "sac.tau=2"], "error: command line: sac.tau"),
        (["demoo"], "error: demoo: no such file"),
        (["debug", "--machine", "g2-standard12"], "did you mean 'g2-standard-12'?"),
        (["debug", "--prices", "/nowhere.yaml"], "error: /nowhere.yaml: "),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(args: list[str], says: str) -> None:
    done = driving.inside(*args, module="doctor")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and says in done.stderr


@pytest.mark.parametrize("module", ["doctor", "jobs"])
def test_help_imports_nothing_heavy(module: str) -> None:
    code = (
        "import runpy, sys\nsys.argv = ['x', '--help']\n"
        f"try:\n    runpy.run_module('booster_ray.{module}', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n    print(end.code)\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=driving.ROOT, capture_output=True, text=True, timeout=120
    )
    *_, exit_code, modules = done.stdout.splitlines()
    assert exit_code == "0", done.stderr
    heavy = {"jax", "torch", "ray", "mujoco", "flax", "optuna", "gymnasium"}
    assert not heavy & set(modules.split())


@pytest.mark.slow
def test_the_whole_check_passes_here(tmp_path: Path) -> None:
    done = doctor("debug", f"storage={tmp_path}", "runtime.jax_platforms=cpu", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    findings = json.loads(done.stdout)["findings"]
    told = {one["check"]: one for one in findings}
    assert told["mjx"]["verdict"] == told["torch"]["verdict"] == told["memory"]["verdict"] == "ok"


@pytest.mark.slow
def test_what_a_run_compiles_is_kept_for_the_next(tmp_path: Path) -> None:
    """The second time nothing is new: all of it was there."""
    cache = tmp_path / "cache"
    asked = ("debug", f"runtime.compilation_cache={cache}", f"storage={tmp_path / 'runs'}")
    asked += ("randomization.level=0", "rewards.height=50", "sac.critic_lr=1e-3")
    found = []
    for _ in range(2):
        done = doctor(*asked, "--compile", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        (one,) = json.loads(done.stdout)["findings"]
        found.append(one["details"])
    assert found[0]["files"] > 5 and found[1]["files"] == 0
    assert not (tmp_path / "runs").exists()
    asked += ("training.env_steps=300", "tracking.listeners=[]")
    trained = subprocess.run(
        [sys.executable, "-m", "booster_ray.train", *asked],
        cwd=driving.ROOT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert len(list(cache.glob("*-cache"))) == found[0]["files"]


def test_what_cannot_be_compiled_for_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for args, says in (
        (["--compile"], "has no config"),
        (["debug", "runtime.compilation_cache=null", "--compile"], "compilation_cache"),
    ):
        assert guarded(lambda args=args: command.main(args)) == 2
        line = capsys.readouterr().err
        assert says in line and line.count("\n") == 1
