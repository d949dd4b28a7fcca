"""The package away from its checkout: a wheel, installed alone, used from another folder."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import driving
import pytest

from booster_ray.__main__ import commands

PARTS = ("booster_ray", "tune_configs", "pyproject.toml", "setup.py", "README.md", "LICENSE")
"""Of the checkout, all that a wheel is made of."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the wheel's files and nothing else."""
    root = tmp_path_factory.mktemp("wheel")
    for name in PARTS:
        source, target = driving.ROOT / name, root / "source" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copy(source, target)
    offline = ["--no-deps", "--no-index", "--disable-pip-version-check", "--quiet"]
    pip = [sys.executable, "-m", "pip"]
    wheel = [*pip, "wheel", *offline, "--no-build-isolation", "-w", str(root), str(root / "source")]
    subprocess.run(wheel, check=True)
    shutil.rmtree(root / "source")
    (built,) = root.glob("*.whl")
    install = [
        *pip,
        "install",
        *offline,
        "--no-compile",
        "--target",
        str(root / "site"),
        str(built),
    ]
    subprocess.run(install, check=True)
    return root / "site"


def run(site: Path, folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """The console script, where the dependencies are seen and the checkout is not."""
    script = site / "bin" / "booster-ray"
    return subprocess.run(
        [sys.executable, "-P", str(script), *args],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_what_is_in_it(site: Path) -> None:
    package = site / "booster_ray"
    shipped, kept = package / "tune_configs", driving.ROOT / "tune_configs"
    for folder in (shipped, kept):
        assert (folder / "default.yaml").is_file()
    names = [{p.relative_to(at).as_posix() for p in at.rglob("*.yaml")} for at in (shipped, kept)]
    assert names[0] == names[1]
    assert (package / "tune" / "report.html.j2").is_file()
    assert (package / "deploy" / "doctor" / "prices.yaml").is_file()
    assert {p.name for p in site.iterdir()} >= {"booster_ray", "bin"}
    assert not {"tests", "tune_configs", "cluster"} & {p.name for p in site.iterdir()}


def test_help_lists_the_commands_at_once(site: Path, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run(site, tmp_path, "--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0 and done.stderr == ""
    for name, text in commands().items():
        assert f"  {name} " in done.stdout and text and text in done.stdout
    # Of the processor: other tests run beside this one.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
    done = run(site, tmp_path, "trian")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: command line: 'trian' is no command, expected one ")
    assert done.stderr.endswith("; did you mean 'train'?\n")
    assert run(site, tmp_path, "--version").stdout.startswith("booster_ray ")
    assert run(site, tmp_path).returncode == 2


def test_every_door_is_a_command() -> None:
    package = driving.ROOT / "booster_ray"
    doors = {p.stem for p in package.glob("*.py") if "guarded(" in p.read_text()} - {"cli"}
    doors |= {p.parent.name for p in package.glob("*/__main__.py")}
    assert set(commands()) == doors


def test_presets_and_bases_are_found_elsewhere(site: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: debug\nname: mine\nsac: {batchsize: 3}\n")
    done = run(site, tmp_path, "train", "mine.yaml")
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        "error: mine.yaml: sac.batchsize: unknown key, expected a key of sac; "
        "did you mean 'batch_size'?\n"
    )
    done = run(site, tmp_path, "train", "debgu")
    assert done.stderr == ("error: debgu: no such file, expected a config; did you mean 'debug'?\n")


def test_a_dry_run_and_a_tiny_run(site: Path, tmp_path: Path) -> None:
    done = run(site, tmp_path, "tune", "debug", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "nothing is started or written" in done.stdout
    done = run(
        site, tmp_path, "train", "debug", "name=tiny", "training.env_steps=300",
        "training.report_every=150", "tracking.listeners=[]", "randomization.level=0",
        "rewards.height=50.0", "sac.critic_lr=3e-4",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "results" / "tiny").glob("step_*"))
    found = [line for line in done.stdout.splitlines() if str(driving.ROOT) in line]
    assert not found
