"""``python -m booster_ray.evaluate``, and what it may be given."""

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from booster_ray.cli import guarded
from booster_ray.config import ConfigError
from booster_ray.evaluate import command
from booster_ray.evaluate.command import bar, main
from booster_ray.evaluate.target import checkpoint_actor, find_checkpoint, load_target
from booster_ray.policy.actor_files import save_actor
from booster_ray.store import checkpoint
from booster_ray.store.checkpoint import CheckpointError
from booster_ray.train.finetune_start import _locate
from policies import actor, save_checkpoint, tiny_config


def test_it_prints_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    output = tmp_path / "out"
    argv = ["policies:falling", "--episodes", "2", "--seed", "4", "--output", str(output)]
    assert main([*argv, "--video"]) == 0
    shown = capsys.readouterr().out
    for text in ("goalie", "kick_to_target", "robot_fallen", "fall rate", "No video: MUJOCO_GL"):
        assert text in shown
    told = json.loads((output / "evaluation.json").read_text())
    assert (told["target"], told["world"]) == ("policies:falling", "native")
    assert [e["seed"] for e in told["each"]] == [4, 5] * 3
    assert told["tasks"]["goalie"]["fallen"]["mean"] == 1.0
    assert told["tasks"]["goalie"]["terms"]["robot_fallen"]["mean"] == -1.5
    assert -2.6 < told["tasks"]["goalie"]["score"]["mean"] < -2.3
    assert "plotly" in (output / "evaluation.html").read_text()[:100_000].lower()
    assert sorted(p.name for p in output.iterdir()) == ["evaluation.html", "evaluation.json"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["nowhere"], "nowhere is not there"),
        (["policies:nobody"], "nobody"),
        (["no_such_module:x"], "no_such_module"),
        (["policies:SEVEN"], "has no attribute"),
        (["policies:__name__"], "expected something callable"),
        (["policies:falling", "--video"], "--output"),
    ],
)
def test_bad_targets_get_one_line(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(lambda: main(argv)) == 2
    line = capsys.readouterr().err
    assert says in line and line.count("\n") == 1


def test_bad_numbers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["x", "--episodes", "0"], ["x", "--seed", "-1"], ["x", "--world", "mars"]):
        with pytest.raises(SystemExit) as stopped:
            main(argv)
        assert stopped.value.code == 2


def test_the_best_of_a_folder(tmp_path: Path) -> None:
    config = tiny_config()
    run = tmp_path / "run"
    first = save_checkpoint(run / "step_000000000100", config)
    assert find_checkpoint(run) == first
    best = save_checkpoint(run / "best_000000000050", config)
    assert find_checkpoint(run) == best and find_checkpoint(best) == best
    kept = save_checkpoint(tmp_path / "sweep" / "best" / "checkpoint", config)
    assert find_checkpoint(tmp_path / "sweep") == kept == find_checkpoint(kept.parent)
    with pytest.raises(ConfigError, match="holds no checkpoint"):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize("damaged", [False, True])
def test_finetuning_begins_with_what_an_evaluation_plays(damaged: bool, tmp_path: Path) -> None:
    """One folder that is all at once; they disagreed on its order, and on what is whole."""
    config = tiny_config()
    for name in ("best/checkpoint", "checkpoint", "best_000000000050", "step_000000000100"):
        save_checkpoint(tmp_path / name, config)
    wanted = ["best/checkpoint", "checkpoint", "best_000000000050", "step_000000000100"]
    (tmp_path / "best_000000000070").mkdir()  # its manifest, which is written last, is missing
    for name in wanted:
        assert find_checkpoint(tmp_path) == _locate(tmp_path) == tmp_path / name
        (tmp_path / name / "manifest.json").unlink()
    with pytest.raises(ConfigError, match="no checkpoint there"):
        _locate(tmp_path)


def test_progress_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with bar(Console(file=io.StringIO()), "playing") as progress:
        for now in range(101):
            progress(40 * now, 4000)
    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert told.out == "" and len(lines) == 10
    assert lines[0] == "playing: 400 of 4,000, 40.0 a second, 90 s left"
    assert lines[-1] == "playing: 4,000 of 4,000, 40.0 a second, 0 s left"


def test_progress_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "SECONDS_A_LINE", 0.0)
    with bar(Console(file=io.StringIO()), "filming") as progress:
        progress(0, 6)
    assert capsys.readouterr().err == "filming: 0 of 6\n"


def test_objects_by_import_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "class Made:\n    def __call__(self, observation, info):\n        return self\n"
    (tmp_path / "made_here.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    target = load_target("made_here:Made")
    sys.modules.pop("made_here", None)
    made = [target.make_player().policy for _ in range(2)]  # type: ignore[attr-defined]
    assert target.kind == "object" and made[0] is not made[1]
    function = load_target("policies:falling")
    shared = [function.make_player().policy for _ in range(2)]  # type: ignore[attr-defined]
    assert shared[0] is shared[1]


def test_bad_checkpoints_get_one_line(tmp_path: Path) -> None:
    config = tiny_config()
    good = save_checkpoint(tmp_path / "good", config)
    assert checkpoint_actor(good).module.observation_size == 89
    for size in (86, 87):
        small = {
            "actor.params.Dense_0.kernel": checkpoint_actor(good).learner[
                "actor.params.Dense_0.kernel"
            ][:size],
            **{
                f"normalizer.{n}": checkpoint_actor(good).learner[f"normalizer.{n}"][:size]
                for n in ("mean", "square")
            },
        }
        bad = save_checkpoint(tmp_path / f"of{size}", config, small)
        with pytest.raises(CheckpointError, match=rf"{size} numbers.*89 numbers") as refused:
            checkpoint_actor(bad)
        assert str(bad) in str(refused.value) and "\n" not in str(refused.value)
    truncated = save_checkpoint(tmp_path / "cut", config)
    leaf = max(truncated.iterdir(), key=lambda p: p.stat().st_size)
    leaf.write_bytes(leaf.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match=leaf.name):
        checkpoint_actor(truncated)


def test_a_checkpoint_of_something_else(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "bare", {"learner": {"x": 1}}, {})
    with pytest.raises(CheckpointError, match="tells no config"):
        checkpoint_actor(tmp_path / "bare")
    config = tiny_config()
    checkpoint.save(tmp_path / "odd", {"learner": {"x": 1}}, {"config": config.to_dict()})
    with pytest.raises(CheckpointError, match="another format"):
        checkpoint_actor(tmp_path / "odd")
    other = config.to_dict() | {"wheels": 4}
    checkpoint.save(tmp_path / "new", {"learner": {"x": 1}}, {"config": other})
    with pytest.raises(CheckpointError, match=r"config\.wheels.*another release"):
        checkpoint_actor(tmp_path / "new")
    save_actor(actor(), tmp_path / "actor", {"config": config.to_dict()})
    assert checkpoint_actor(tmp_path / "actor").module.observation_size == 89
    assert find_checkpoint(tmp_path / "actor") == tmp_path / "actor"
    save_actor(actor(("clock",)), tmp_path / "clock", {"config": config.to_dict()})
    with pytest.raises(CheckpointError, match=r"91 numbers.*clock.*89 numbers"):
        checkpoint_actor(tmp_path / "clock")
    mismatched = tiny_config(actor_hidden=[32])
    save_checkpoint(tmp_path / "good", config)
    leaves = checkpoint_actor(tmp_path / "good").learner
    checkpoint.save(tmp_path / "shape", {"learner": leaves}, {"config": mismatched.to_dict()})
    with pytest.raises(CheckpointError, match=r"\[16\].*\[32\]"):
        checkpoint_actor(tmp_path / "shape")
