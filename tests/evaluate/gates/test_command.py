"""``python -m booster_ray.gates``: exit codes and what it leaves."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from booster_ray.cli import guarded
from booster_ray.evaluate.gates import run as hook
from booster_ray.evaluate.gates.command import main
from booster_ray.store.gate_results import GateResult
from policies import save_checkpoint, tiny_config


@pytest.fixture
def run(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "run" / "best_1", tiny_config())
    return tmp_path / "run"


def test_a_gate_that_passes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run), "--gate", "2"]) == 0
    shown = capsys.readouterr().out
    assert "Gate 2 (conversion) passed" in shown and "< 1e-05" in shown
    told = json.loads((run / "gates.json").read_text())
    assert told["passed"] and told["checkpoint"] == "best_1"


def test_a_gate_that_fails(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = GateResult(3, "transfer", False, {}, [("x", "1", "> 2", False)], ["do y"])
    monkeypatch.setattr(hook, "run_gates", lambda *args, **options: [failed])
    assert main([str(run), "--output", str(run / "elsewhere")]) == 1
    shown = capsys.readouterr().out
    assert "FAILED" in shown and "do y" in shown
    assert not json.loads((run / "elsewhere" / "gates.json").read_text())["passed"]
    assert not (run / "gates.json").exists()


def test_what_is_not_known_yet_is_not_played_again(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, ...]] = []

    def too_little(checkpoint: Path, gates: list[int], **options: object) -> list[GateResult]:
        asked.append(tuple(gates))
        key = hook.gate_key(checkpoint, 3, episodes=options["episodes"])
        return [GateResult(3, "transfer", None, {}, [], ["more episodes"], key) for _ in gates]

    monkeypatch.setattr(hook, "run_gates", too_little)
    for episodes in (8, 8, 16):
        told = hook.gate_once(run, run / "best_1", (3,), episodes=episodes)
        assert told["gates"]["3"]["passed"] is None and not told["passed"]
    assert asked == [(3,), (), (3,)]


def test_bad_input_gets_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for target, says in (("nowhere", "is not there"), ("empty", "holds no checkpoint")):
        assert guarded(lambda target=target: main([str(tmp_path / target)])) == 2
        line = capsys.readouterr().err
        assert says in line and line.count("\n") == 1
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path), "--gate", "4"])
    assert stopped.value.code == 2


def test_help_and_bad_input_load_nothing_heavy() -> None:
    modules = ("evaluate.__main__", "gates", "export", "submit")
    imports = "".join(f"import booster_ray.{name}\n" for name in modules)
    code = f"{imports}import sys\nassert not {{'jax', 'torch', 'mujoco'}} & set(sys.modules)\n"
    subprocess.run([sys.executable, "-c", code], check=True)
