"""Settings that may change on ``--resume``."""

from __future__ import annotations

from pathlib import Path

import pytest

from booster_ray.cli import run_parser
from booster_ray.config import ConfigError, load
from booster_ray.train.resuming import changed, changes


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.yaml"
    path.write_text(load("debug").complete().to_yaml())
    return path


def test_arguments_after_the_name_are_changes() -> None:
    parser = run_parser("tune", "")
    args = parser.parse_intermixed_args(["--resume", "x", "tune.trials=9", "trainer.cpus=2"])
    assert changes(args) == ["tune.trials=9", "trainer.cpus=2"]
    assert args.config is None and args.overrides == []
    assert changes(parser.parse_intermixed_args(["debug", "tune.trials=9"])) == []


def test_limits_and_places_change_and_stay_changed(marker: Path) -> None:
    sweep = load(marker)
    after = changed(sweep, marker, ["tune.max_hours=3", "trainer.workers=1"])
    assert after.base().tune.max_hours == 3 and after.base().trainer.workers == 1
    assert load(marker).base() == after.base() and load(marker).space == sweep.space


@pytest.mark.parametrize("override", ["sac.discount=0.9", "name=y", "tune.sampler=random"])
def test_what_is_trained_stays(marker: Path, override: str) -> None:
    before = marker.read_bytes()
    with pytest.raises(ConfigError, match="cannot change with --resume, expected tune"):
        changed(load(marker), marker, [override])
    assert marker.read_bytes() == before


def test_a_wrong_value_changes_nothing(marker: Path) -> None:
    before = marker.read_bytes()
    with pytest.raises(ConfigError, match=r"command line: tune\.max_hours"):
        changed(load(marker), marker, ["tune.max_hours=-1"])
    assert marker.read_bytes() == before
