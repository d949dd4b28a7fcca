import re
from pathlib import Path

import numpy as np
import pytest

from booster_ray.cli import guarded
from booster_ray.evaluate import expert_search as search
from booster_ray.policy.experts.striker import LAWS, Law, Striker


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A walking policy that does nothing."""
    sizes = (47, 256, 128, 128, 12)
    arrays = {f"layer{i}.weight": np.zeros(sizes[i : i + 2][::-1]) for i in range(4)}
    arrays |= {f"layer{i}.bias": np.zeros(sizes[i + 1]) for i in range(4)}
    np.savez(tmp_path / "walk.npz", **arrays)
    monkeypatch.setenv("BOOSTER_GYM_T1_WALK", str(tmp_path / "walk.npz"))
    return tmp_path / "walk.npz"


def test_every_law_is_within_its_range() -> None:
    laws, low, high = np.array(LAWS), np.array(search.LOW), np.array(search.HIGH)
    assert (laws >= low - 1e-4).all() and (laws <= high + 1e-4).all()


def test_candidates_play_the_same_seeds(weights: Path) -> None:
    twice = np.array([LAWS[2], LAWS[2]])
    scores = search.play(Striker(), "kick_to_target", twice, 3, 0.0, 1)
    np.testing.assert_array_equal(scores[0], scores[1])
    assert scores.shape == (2, 3) and np.isfinite(scores).all()


def test_it_prints_the_best_law_and_never_gets_worse(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["goalie", "--generations", "3", "--candidates", "5", "--seeds", "1"]
    assert search.main([*arguments, "--noise", "0", "--threads", "1"]) == 0
    told = capsys.readouterr().out
    best = [float(number) for number in re.findall(r"best (-?[\d.]+)", told)]
    assert len(best) == 3 and best == sorted(best)
    assert all(len(law.split(",")) == len(Law._fields) for law in re.findall(r"Law\((.*)\)", told))


def test_without_the_walking_policy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in ("", "/no/such/walk.npz"):
        monkeypatch.setenv("BOOSTER_GYM_T1_WALK", value)
        assert guarded(lambda: search.main(["goalie"])) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: environment: ")
