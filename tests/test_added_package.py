"""Worlds and reward terms of other packages: the example as it installs, and broken ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import driving
import pytest

EXAMPLE = driving.ROOT / "examples/package"
BOTH = {"world": "pushed_point", "term": "turning"}
TURNING = ("rewards.turning=-0.5", "rewards.height=1.0", "randomization.level=0",
           "sac.critic_lr=3e-4", "world.episode_seconds=0.2")  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example installed, without a network."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(EXAMPLE, folder / "source")  # pip builds in it
    install = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [sys.executable, "-m", "pip", *install, "--target", folder / "site", folder / "source"],
        check=True, timeout=300,
    )  # fmt: skip
    return folder / "site"


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    yield
    driving.clean_up()


def beside(site: Path) -> dict[str, str]:
    """The environment of a process that finds a package there."""
    paths = [str(site), str(driving.ROOT), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def python(site: Path, code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=driving.ROOT, env={**os.environ, **beside(site)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(site: Path, *args: str, module: str = "train") -> tuple[int, str]:
    return driving.finish(driving.start(*args, module=module, **beside(site)))


def test_the_help_names_both_and_imports_neither(site: Path) -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['x', '--help']\n"
        "try:\n"
        "    runpy.run_module('booster_ray.train', run_name='__main__', alter_sys=True)\n"
        "except SystemExit:\n"
        "    print(sorted(m for m in sys.modules if m.startswith('booster_ray_example')))\n"
    )
    *shown, imported = python(site, code).splitlines()
    text = " ".join(" ".join(shown).split())
    assert "world: pushed_point (booster-ray-example 0.1.0)" in text
    assert "rewards.turning (booster-ray-example 0.1.0)" in text
    assert imported == "[]"


def test_the_documentation_of_settings_and_of_rewards_names_both(site: Path) -> None:
    code = (
        "import json, runpy\n"
        "from booster_ray.config import Config\n"
        "told = Config.model_json_schema()['$defs']\n"
        "page = runpy.run_path('docs/rewards.py')['page']()\n"
        "print(json.dumps([told['World']['properties']['kind']['description'],\n"
        "    told['Rewards']['properties']['turning']['description'], page]))\n"
    )
    world, term, page = json.loads(python(site, code))
    assert "`pushed_point` is of package booster-ray-example" in world
    assert term == "A term of package booster-ray-example (booster_ray_example.rewards:turning)."
    ours, _, added = page.partition("## Added by packages")
    assert ours.rstrip() == (driving.ROOT / "docs/rewards.md").read_text().rstrip()
    row = "| `turning` | booster-ray-example 0.1.0, `booster_ray_example.rewards:turning` |"
    assert f"{row} Squared yaw rate, rad²/s²; a cost. |" in added


def test_to_install_a_package_changes_no_config(site: Path) -> None:
    code = (
        "from booster_ray.config import Config, load\n"
        "print(Config().digest(), 'turning' in Config().to_yaml())\n"
        "weighed = load('debug', ['rewards.turning=-0.5']).base()\n"
        "print(weighed.rewards.turning, 'turning: -0.5' in weighed.to_yaml())\n"
        "from booster_ray.train.nodes import added_versions\n"
        "print(added_versions(Config()), added_versions(weighed))\n"
    )
    from booster_ray.config import Config

    plain, weighed, versions = python(site, code).splitlines()
    assert plain == f"{Config().digest()} False" and weighed == "-0.5 True"
    assert versions == "{} {'booster-ray-example': '0.1.0'}"


def test_the_world_is_run_and_its_state_is_all_that_changes(site: Path, tmp_path: Path) -> None:
    small = ("world.num_envs=4", "sac.learning_starts=2000", "training.env_steps=400",
             "evaluation.every=200", f"storage={tmp_path}")  # fmt: skip
    plain = ("rewards.height=1.0", "randomization.level=0", "sac.critic_lr=3e-4")
    code, output = run(site, "debug", *plain, *small, "world=pushed_point")
    assert code == 0, output
    reports = [json.loads(line) for line in (tmp_path / "debug/progress.jsonl").open()]
    assert reports[-1]["env_steps"] == 400 and 0 < reports[-1]["score"] < 50
    again = python(
        site,
        "import numpy as np\n"
        "from booster_ray_example.world import PushedPoint\n"
        "one, other = PushedPoint(3), PushedPoint(3)\n"
        "one.reset(4)\n"
        "one.step(np.ones((3, 2)))\n"
        "other.restore(one.state())\n"
        "made = [[w.step(np.full((3, 2), 0.5)) for _ in range(60)] for w in (one, other)]\n"
        "print(all(np.array_equal(a.observation, b.observation) and a.episodes == b.episodes\n"
        "    for a, b in zip(*made)), sum(len(step.episodes) for step in made[0]))\n",
    )
    assert again == "True 3\n"


@pytest.mark.slow
def test_the_term_pays_in_native_worlds_of_a_ray_worker(site: Path, tmp_path: Path) -> None:
    one = ("tune.trials=1", "training.env_steps=300", f"storage={tmp_path}")
    code, output = run(site, "debug", *TURNING, *one, module="tune")
    assert code == 0, output
    reports = driving.progress(tmp_path / "debug", 0)
    paid = [report["reward/turning"] for report in reports if "reward/turning" in report]
    assert paid and all(value < 0 for value in paid)


@pytest.mark.slow
def test_the_term_is_the_same_in_numpy_jax_and_mjx(site: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "import jax, numpy as np\n"
        "from reward_inputs import reward_input\n"
        "from booster_ray.soccer.rewards import reward\n"
        "given = reward_input(gyro=np.array([0.0, 1.0, 3.0]))\n"
        "total, parts = reward(given, {'turning': -0.5}, 0.02)\n"
        "there = jax.jit(lambda m: reward(m, {'turning': -0.5}, 0.02)[0])(given)\n"
        "from booster_ray.config import load\n"
        "from booster_ray.envs.make import make_world\n"
        f"config = load('debug', [*{TURNING!r}, 'world.kind=mjx', 'world.impl=jax']).base()\n"
        "world = make_world(config, threads=1, num_envs=3)\n"
        "world.reset(0)\n"
        "rows = [row for _ in range(12) for row in world.step(np.ones((3, 12))).episodes]\n"
        "print(float(total), float(there), max(row['reward.turning'] for row in rows))\n"
    )
    *_, last = python(site, code).splitlines()
    numpy, jax, mjx = map(float, last.split())
    assert numpy == pytest.approx(-0.09) and jax == pytest.approx(-0.09, rel=1e-6) and mjx < 0


# -- broken packages -------------------------------------------------------------------------------


def package(site: Path, name: str, points: str, code: str = "") -> None:
    """Install a package by hand."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)
    (site / f"{name}.py").write_text(code)


@pytest.mark.parametrize(
    ("points", "code", "override", "line"),
    [
        ("[booster_ray.rewards]\nupright = broken:f\n", "", "seed=0",
         "entry points: package broken adds the reward term 'upright', which booster_ray has "
         "itself, expected another name"),
        ("[booster_ray.worlds]\nmjx = broken:KIND\n", "", "seed=0",
         "entry points: package broken adds the world 'mjx', which booster_ray has itself, "
         "expected another name"),
        ("[booster_ray.rewards]\ncopy = broken:f\n", "", "seed=0",
         "entry points: package broken adds the reward term 'copy', which means something else "
         "in a section, expected another"),
        ("[booster_ray.rewards]\nspin = broken:f\n", "import nowhere_to_be_found",
         "rewards.spin=1.0",
         "command line: rewards.spin: is of package broken, which cannot be used: "
         "ModuleNotFoundError: No module named 'nowhere_to_be_found' (broken.py:1)"),
        ("[booster_ray.rewards]\nspin = broken:f\n", "def f(m): ...", "rewards.spin=1.0",
         "command line: rewards.spin: is of package broken, which cannot be used: "
         "TypeError: broken:f is no function under @reward_term()"),
        ("[booster_ray.worlds]\nsea = broken:KIND\n", "KIND = 3", "world=sea",
         "command line: world.kind: is 'sea' of package broken, which cannot be used: "
         "TypeError: broken:KIND is no Kind('module:class')"),
        ("[booster_ray.worlds]\nsea = broken:KIND\n",
         "from booster_ray.config.kinds import Kind\nKIND = Kind('broken:Sea')\n"
         "class Sea:\n    @classmethod\n    def from_config(cls, *_, **__):\n"
         "        raise OSError('no water')\n", "world=sea",
         "world.kind: sea of package broken cannot be played: OSError: no water (broken.py:6)"),
    ],
    ids=["ours", "our world", "copy", "import", "no term", "no kind", "cannot be made"],
)  # fmt: skip
def test_a_broken_package_is_one_line_with_its_name(
    tmp_path: Path, points: str, code: str, override: str, line: str
) -> None:
    package(tmp_path / "site", "broken", points, code)
    single = ("rewards.height=1.0", "randomization.level=0", "sac.critic_lr=3e-4")
    found = run(tmp_path / "site", "debug", *single, override, f"storage={tmp_path / 'runs'}")
    assert found == (2, f"error: {line}\n")
    assert not (tmp_path / "runs/debug").exists()


def test_two_packages_of_one_name_are_told(tmp_path: Path) -> None:
    for name in ("one", "other"):
        package(tmp_path, name, f"[booster_ray.worlds]\nsea = {name}:KIND\n")
    code = (
        "from booster_ray.config.kinds import ADDED; from booster_ray.soccer.entry_points import *"
    )
    told = python(tmp_path, f"{code}; print(ADDED['sea'].package, *PROBLEMS)")
    said = "package other adds the world 'sea' as package one does, expected one of the two"
    assert told == f"one {said}\n"
