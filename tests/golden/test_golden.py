"""Today's code gives what it gave when `recorded.json` was written, bit for bit.

That is so on a machine with the recorded fingerprint. Another processor or another release of a
library rounds otherwise, and physics multiplies that: there, numbers that sum up a run must come
out near the recorded ones.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from golden import runs
from golden.comparing import RECORDED, assert_golden, far


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all scenarios run: the finetuning goes on from the SAC run."""
    return tmp_path_factory.mktemp("golden")


@pytest.mark.slow
@pytest.mark.parametrize("name", runs.SCENARIOS)
def test_a_scenario_comes_out_as_it_was_recorded(name: str, folder: Path) -> None:
    assert_golden(RECORDED["scenarios"][name], runs.SCENARIOS[name](folder))


def test_every_scenario_learns_and_is_scored() -> None:
    """Else equal digests would say little."""
    assert RECORDED["scenarios"].keys() == runs.SCENARIOS.keys()
    learns = {"sac": "critic_loss", "mjx": "critic_loss", "imitation": "action_error",
              "ddpg": "actor_loss", "pbt": "critic_loss", "sweep": "critic_loss"}  # fmt: skip
    for name, digest in RECORDED["scenarios"].items():
        for metric in (learns[name], "score"):
            values = [v for k, v in digest.items() if re.search(rf"progress/\d+/{metric}$", k)]
            assert len(set(values)) > 1, (name, metric)
        assert any("/state/learner/" in path for path in digest)


BEFORE = {
    "progress/1/score": 2.0,
    "progress/1/critic_loss": 40.0,
    "step_000000000360/state/learner/actor": "<f4[3] 0123456789abcdef",
    "config/seed": 0,
}


@pytest.mark.parametrize(
    ("change", "wrong", "new"),
    [
        ({}, 0, 0),
        ({"progress/1/score": 2.0000000001}, 1, 0),
        ({"config/seed": 0.0}, 1, 0),
        ({"step_000000000360/state/learner/actor": "<f4[3] 0123456789abcdee"}, 1, 0),
        ({"progress/1/score": None}, 1, 0),
        ({"progress/1/reward/alive": 1.0}, 0, 1),
        ({"step_000000000360/metadata/reward/fall": 1.0}, 0, 1),
        ({"step_000000000360/state/version": 2}, 0, 1),
        ({"progress/1/rewards": 1.0}, 1, 0),
        ({"config/another": 1}, 1, 0),
    ],
)
def test_what_counts_as_a_difference(change: dict[str, Any], wrong: int, new: int) -> None:
    found = runs.differences(BEFORE, {**BEFORE, **change})
    assert (len(found[0]), len(found[1])) == (wrong, new)


def test_a_leaf_that_is_gone_is_a_difference() -> None:
    for path in BEFORE:
        after = {k: v for k, v in BEFORE.items() if k != path}
        assert runs.differences(BEFORE, after) == ([f"{path}: missing (was {BEFORE[path]!r})"], [])


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"step_000000000360/state/learner/actor": "other"}, 0),
        ({"progress/1/score": 2.4, "progress/1/critic_loss": 35.0}, 0),
        ({"progress/1/score": 3.0}, 1),
        ({"progress/1/critic_loss": 20.0}, 1),
        ({"progress/1/critic_loss": "nan"}, 1),
    ],
)
def test_what_is_near_enough_on_another_machine(change: dict[str, Any], wrong: int) -> None:
    assert len(far(BEFORE, {**BEFORE, **change})) == wrong


def test_the_comparison_is_a_command(tmp_path: Path) -> None:
    files = []
    for name, score in (("a", 2.0), ("b", 2.5)):
        told = {"fingerprint": {}, "scenarios": {"sac": {**BEFORE, "progress/1/score": score}}}
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(told))
    assert runs.compare(files[0], files[0]) == 0
    assert runs.compare(*files) == 1
