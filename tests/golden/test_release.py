"""What an earlier release wrote is loaded, acts as it did, and goes on.

`release/` was written by the code of commit 687436e: the runs and the package of SAC that
`tests/golden/runs.py OUT.json --folder DIR` leaves behind, each run without its last checkpoint, as
if it had been cut short; `actions.json` holds what they acted then. None of it is written anew: a
format that changes gets another folder beside it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from golden import runs
from golden.comparing import RECORDED, assert_golden

from booster_ray.evaluate.play import play_native
from booster_ray.evaluate.target import load_target
from booster_ray.train.policy import load_policy

RELEASE = runs.RELEASE
ACTIONS = json.loads((RELEASE / "actions.json").read_text(encoding="utf-8"))
RUNS = runs.RESUMED
BOUND = 1e-5


def newest(run: str) -> Path:
    (path,) = (RELEASE / run).glob("step_*")
    return path


@pytest.mark.parametrize("run", RUNS)
def test_a_checkpoint_acts_as_it_did(run: str) -> None:
    recorded = np.array(ACTIONS[run], np.float32)
    _, policy = load_policy(newest(run))
    size = runs.OBSERVED
    np.testing.assert_allclose(policy(runs.wave(len(recorded), size, 0.0)), recorded, atol=BOUND)
    assert np.ptp(recorded) > 0.01


@pytest.mark.parametrize("run", RUNS)
def test_a_checkpoint_plays_an_episode(run: str) -> None:
    (episode,) = play_native([0], load_target(str(newest(run))).make_player, tasks=["goalie"])
    assert episode.seconds == pytest.approx(ACTIONS[f"{run} seconds"], abs=0.3)


def test_a_package_acts_as_it_did() -> None:
    package = RELEASE / "package"
    recorded = np.array(ACTIONS["package"], np.float32)
    # Torques reach 100 N·m; float32 holds seven digits of that.
    player = load_target(str(package)).make_player()
    played = np.stack([player(*runs.official(step)) for step in range(runs.PLAYED)])
    np.testing.assert_allclose(played, recorded, rtol=BOUND, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_a_run_goes_on_to_its_end(run: str, tmp_path: Path) -> None:
    """It keeps its own random streams, whatever a run of today would begin with."""
    digest = runs.resumed(tmp_path, run)
    steps = len(list((RELEASE / run).glob("step_*")))
    assert len(list((tmp_path / runs.RUNS / run).glob("step_*"))) == steps + 1
    assert_golden(RECORDED["resumed"][run], digest)
