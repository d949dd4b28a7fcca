"""Gate 2 refuses every package that would act unlike the policy, and passes the true one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from evaluate.gates.mutants import Mutant, mutants

from booster_ray.config import Config
from booster_ray.envs.native import NativeWorld
from booster_ray.envs.official_view import official_view
from booster_ray.evaluate.gates.conversion import jax_policy, judge
from booster_ray.evaluate.target import checkpoint_actor
from booster_ray.policy import package
from booster_ray.policy.sai import Rejected
from booster_ray.policy.settings import Settings, settings_of
from booster_ray.soccer import game
from booster_ray.soccer.observation import FEATURES
from policies import save_checkpoint, tiny_config

STEPS = 150
"""Of each episode; most mutants are found in the first instant."""
TORQUE = 1e-3
"""N·m: a mutant that changes none by more may pass."""
FEW = (
    "ball mirrored", "clock a physics step early", "memory a control step old", "kp times 1.01",
    "torques 0.1 % low", "never a first step", "torques that are no numbers",
)  # fmt: skip
"""Of every kind, for each run of the tests."""


class Subject(NamedTuple):
    """A policy and its true package."""

    config: Config
    policy: Callable[[np.ndarray], np.ndarray]
    package: Path
    mutants: dict[str, Mutant]


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    root = tmp_path_factory.mktemp("mutants")
    config = tiny_config(tuple(FEATURES))
    actor = checkpoint_actor(save_checkpoint(root / "c", config))
    other = checkpoint_actor(save_checkpoint(root / "d", config.model_copy(update={"seed": 7})))
    with torch.no_grad():
        other.module.mean.add_(0.1)
    settings = settings_of(config)
    package.write(root / "true", actor.module, settings)
    found = {mutant.name: mutant for mutant in mutants(actor.module, other.module, settings)}
    return Subject(config, jax_policy(actor), root / "true", found)


def verdict(subject: Subject, made: Path) -> Any:
    return judge(subject.config, subject.policy, made, steps=STEPS)


def spoiled(subject: Subject, mutant: Mutant, folder: Path) -> Path:
    made = Path(shutil.copytree(subject.package, folder))
    mutant.spoil(made)
    about = json.loads((made / package.MANIFEST).read_text())
    about["sha256"] = {name: package.sha256(made / name) for name in about["sha256"]}
    (made / package.MANIFEST).write_text(json.dumps(about))
    return made


def change(true: Path, mutant: Path) -> float:
    """Largest |Δ torque|, N·m, in worlds that the true package plays, not all for equally long.

    Infinite where the mutant gives no torques at all.
    """
    largest = 0.0
    for task in game.TASKS:
        options: dict[str, Any] = {"mode": "newton_metres", "decimation": 1, "episode_steps": 70}
        world = NativeWorld([task], 2, Settings().gains(), **options)
        players = [package.load(path).make_player() for path in (true, mutant)]
        world.reset(3)
        rng = np.random.default_rng(0)
        for _ in range(100):
            view = official_view(world.frame(), task)
            try:
                ours, theirs = (np.asarray(player(*view)) for player in players)
            except Rejected:
                world.close()
                return float("inf")
            gap = float(np.abs(ours - theirs).max())
            largest = max(largest, gap if np.isfinite(gap) else float("inf"))
            world.step(ours + rng.uniform(-9, 9, ours.shape))
        world.close()
    return largest


@pytest.mark.parametrize("name", FEW)
def test_some_mutants_are_refused(subject: Subject, tmp_path: Path, name: str) -> None:
    found = verdict(subject, spoiled(subject, subject.mutants[name], tmp_path / "m"))
    assert not found.passed and found.advice, found.numbers


def test_the_true_package_passes(subject: Subject) -> None:
    found = verdict(subject, subject.package)
    assert found.passed, found.numbers
    assert found.numbers["resets"] > 0


@pytest.mark.slow
def test_every_mutant_that_changes_a_torque_is_refused(
    subject: Subject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, missed = [], []
    for number, mutant in enumerate(subject.mutants.values()):
        made = spoiled(subject, mutant, tmp_path / str(number))
        changed, found = change(subject.package, made), verdict(subject, made)
        refused = not found.passed
        where = found.numbers.get("differs", [found.numbers.get("error", "")])
        rows.append((mutant.name, changed, refused, ", ".join(where[:3])[:60]))
        missed += [mutant.name] if changed > TORQUE and not refused else []
    with capsys.disabled():
        print(f"\n{'mutant':40} {'Δ torque':>9}  verdict  differs first in")
        for name, changed, refused, where in rows:
            print(f"{name:40} {changed:9.1e}  {'refused' if refused else 'passed ':7}  {where}")
    harmful = [row for row in rows if row[1] > TORQUE]
    assert len(harmful) >= 40
    assert not missed
