"""``python -m booster_ray.export`` and ``submit``: what they make, and what they refuse."""

import json
from pathlib import Path

import pytest

from booster_ray.cli import guarded
from booster_ray.deploy import submit as submit_command
from booster_ray.evaluate import command
from booster_ray.evaluate.export import export_best
from booster_ray.evaluate.export_command import main
from booster_ray.policy import package
from booster_ray.store.gate_results import GateResult, read, store
from policies import save_checkpoint, tiny_config

FEATURES = ("egocentric", "clock")


OLD = GateResult(2, "conversion", True, {}, [], [], {"code": "of another day"})
"""A verdict that other code gave."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with its best checkpoint, and the package of it."""
    root = tmp_path_factory.mktemp("run")
    path = save_checkpoint(root / "best_000000000100", tiny_config(FEATURES))
    store(root, path, [OLD._replace(passed=False)])  # which is not believed either
    assert main([str(root), "--output", str(root / "made")]) == 0
    return root


def test_gate_2_was_run_and_stands_in_the_package(run: Path) -> None:
    told = read(run)
    assert told is not None and told["gates"]["2"]["passed"]
    about = package.load(run / "made").about
    assert about["gates"]["2"]["numbers"]["control_steps"] >= 1000
    assert about["gates"]["2"]["key"]["text"]
    assert about["checkpoint"].endswith("best_000000000100")
    assert about["settings"]["features"] == list(FEATURES)


def test_what_to_do_next_is_printed(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "SECONDS_A_LINE", 0.0)
    store(run, run / "best_000000000100", [OLD])
    assert main([str(run / "best_000000000100"), "--output", str(run / "again")]) == 0
    told = capsys.readouterr()
    shown = told.out
    assert "gate 2: " in told.err and " s left" in told.err
    assert "booster_ray.evaluate" in shown and "booster_ray.submit" in shown
    for name in ("preprocessor.py", "action_function.py"):
        assert (run / "again" / name).read_text() == (run / "made" / name).read_text()


def test_without_a_key_the_package_stays(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SAI_API_KEY", raising=False)
    before = {p.name: p.read_bytes() for p in (run / "made").iterdir()}
    assert guarded(lambda: submit_command.main([str(run / "made")])) == 2
    line = capsys.readouterr().err
    assert "SAI_API_KEY" in line and "booster_ray.submit" in line and line.count("\n") == 1
    assert {p.name: p.read_bytes() for p in (run / "made").iterdir()} == before


def test_a_policy_changed_after_its_gate_is_not_submitted(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setenv("SAI_API_KEY", "secret-key")
    changed = Path(shutil.copytree(run / "made", tmp_path / "changed"))
    about = json.loads((changed / "package.json").read_text())
    about["sha256"]["policy.pt"] = "0" * 64
    (changed / "package.json").write_text(json.dumps(about))
    assert guarded(lambda: submit_command.main([str(changed)])) == 2
    said = capsys.readouterr()
    assert "changed since its gates" in said.err and "secret-key" not in said.err + said.out


def test_a_verdict_of_other_code_is_not_believed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_checkpoint(tmp_path / "best_1", tiny_config())
    store(tmp_path, path, [OLD])
    now = OLD._replace(passed=False, advice=["the preprocessor tells another ball"])
    monkeypatch.setattr("booster_ray.evaluate.gates.conversion.judge", lambda *_, **__: now)
    assert guarded(lambda: main([str(tmp_path), "--output", str(tmp_path / "out")])) == 2
    line = capsys.readouterr().err
    assert "did not pass gate 2" in line and line.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_conversion_that_goes_wrong_is_not_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from booster_ray.policy import convert

    right = convert.to_torch

    def wrong(config, learner):
        actor = right(config, learner)
        actor.mlp.head.bias.data += 1e-3
        return actor

    path = save_checkpoint(tmp_path / "best_1", tiny_config())
    monkeypatch.setattr(convert, "to_torch", wrong)
    assert guarded(lambda: main([str(path), "--output", str(tmp_path / "out")])) == 2
    assert "did not pass gate 2" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best_1", "gates.json"]
    told = read(tmp_path)
    assert told is not None and not told["passed"]


@pytest.mark.parametrize(
    ("target", "says"),
    [("nowhere", "is not there"), ("empty", "holds no checkpoint"), ("cut", "manifest.json")],
)
def test_bad_checkpoints_get_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str, says: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "manifest.json").write_text('{"format_version": 1, "le')
    argv = [str(tmp_path / target), "--output", str(tmp_path / "out")]
    assert guarded(lambda: main(argv)) == 2
    line = capsys.readouterr().err
    assert says in line and line.count("\n") == 1 and not (tmp_path / "out").exists()


def test_an_output_that_exists_is_left_alone(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "note").write_text("keep")
    assert guarded(lambda: main([str(run), "--output", str(tmp_path)])) == 2
    assert "--output" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["note"]


def test_export_best_replaces_its_own(run: Path) -> None:
    first = export_best(run)
    assert first == run / "package" and package.load(first)
    (first / "old").touch()
    assert export_best(run) == first and not (first / "old").exists()
    assert not list(run.glob(".package*"))
