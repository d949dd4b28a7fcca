"""Settings that may change on ``--resume``."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from booster_ray.cli import changed, changes, config_or_resumed, resume_command, run_parser
from booster_ray.config import ConfigError, load
from booster_ray.store.files import SWEEP


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


# -- where the run is ------------------------------------------------------------------------


def parsed(*argv: str) -> argparse.Namespace:
    return run_parser("tune", "").parse_intermixed_args(argv)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep, begun in a relative folder that has been moved to `moved here` since."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "moved here" / "x"
    root.mkdir(parents=True)
    debug = Path(__file__).parents[1] / "tune_configs/debug.yaml"
    (root / SWEEP).write_text(load(debug, ["name=x"]).complete().to_yaml())
    return root


@pytest.mark.parametrize(
    "arguments",
    [
        ["storage=moved here"],
        ["tune.trials=9", "storage='moved here'"],
        ["--storage", "moved here"],
        ["--storage", "moved here", "storage=moved here"],
        ["storage=elsewhere", "storage=moved here"],  # the last one counts
    ],
)
def test_storage_says_where_the_run_is(arguments: list[str], run: Path) -> None:
    args = parsed("--resume", "x", *arguments)
    left = changes(args)
    assert left == [text for text in arguments if text.startswith("tune.")]
    sweep, root = config_or_resumed(args, SWEEP)
    assert root == Path("moved here/x")
    after = changed(sweep, root / SWEEP, left).base()
    assert after.storage == load(run / SWEEP).base().storage == "moved here"
    assert after.tune.trials == (9 if left else load(run / SWEEP).base().tune.trials)
    assert resume_command("tune", after).endswith("--resume x --storage 'moved here'")


def test_variables_in_storage_are_replaced_as_in_a_config(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERE", "moved here")
    args = parsed("--resume", "x", "storage=$HERE")
    assert changes(args) == []
    assert config_or_resumed(args, SWEEP)[0].base().storage == "moved here"
    monkeypatch.delenv("HERE")
    with pytest.raises(
        ConfigError, match=r"^command line: --storage: names \$HERE, expected a var"
    ):
        config_or_resumed(args, SWEEP)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--resume", "x", "--storage", "a", "storage=b"], "is 'b', and --storage is 'a'"),
        (["--resume", "x", "storage=3"], "is 3, expected a string"),
        (["--resume", "x", "storage="], "is null, expected a string"),
        (["--resume", "x", "storage=["], "expected YAML"),
        (["debug", "--storage", "a", "storage=b"], "is 'b', and --storage is 'a'"),
    ],
)
def test_two_storages_or_none_are_one_line(arguments: list[str], says: str) -> None:
    args = parsed(*arguments)
    with pytest.raises(ConfigError, match="command line: storage: ") as caught:
        changes(args)
        config_or_resumed(args, SWEEP)
    assert says in str(caught.value)


@pytest.mark.parametrize("typed", ["a", "1e3", "true", "{a: b}", "s3://bucket/runs", "a 'b' \"c\""])
def test_storage_of_a_new_run_may_be_an_option(typed: str) -> None:
    sweep, root = config_or_resumed(parsed("debug", "--storage", typed, "seed=3"), SWEEP)
    assert root is None and sweep.base().storage == typed and sweep.base().seed == 3
    again, _ = config_or_resumed(parsed("debug", "--storage", "a", "storage=a"), SWEEP)
    assert again.base().storage == "a"
