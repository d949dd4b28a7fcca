"""``python -m booster_ray.view`` and ``play``: what they are given, and that both end cleanly."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from booster_ray.cli import guarded
from booster_ray.evaluate.viewer import command
from booster_ray.evaluate.viewer.match import Outcome
from booster_ray.evaluate.viewer.readout import status, terms

ROOT = Path(__file__).parents[3]
HEAVY = {"jax", "torch", "ray", "mujoco", "flax", "optuna", "gymnasium", "viser"}
needs_viser = pytest.mark.skipif(bool(command.lacks()), reason="the extra `view` is not installed")


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import runpy, sys\n"
        "for module in ('view', 'play', 'compare'):\n"
        "    for args in (['--help'], ['nowhere', 'there']):\n"
        "        sys.argv = [module, *args]\n"
        "        try: runpy.run_module(f'booster_ray.{module}', run_name='__main__')\n"
        "        except SystemExit as end: print(end.code, file=sys.stderr)\n"
        "print(sorted(name for name in sys.modules if '.' not in name), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    loaded = set(re.findall(r"'(\w+)'", done.stderr.splitlines()[-1]))
    assert not loaded & HEAVY
    codes = [line for line in done.stderr.splitlines() if line.isdigit()]
    assert codes == ["0", "2"] * 3, done.stderr


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["nowhere"], "nowhere: is not there"),
        (["tests", "tests", "tests"], "is one too many"),
        (["tests", "--host", "203.0.113.7"], "cannot listen at 203.0.113.7"),
        (["tests"], "holds no checkpoint"),
        (["policies:nobody"], "nobody"),
        (["policies:falling", "--config", "nothing"], "nothing"),
    ],
)
@needs_viser
def test_bad_input_gets_one_line(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(lambda: command.main(argv)) == 2
    told = capsys.readouterr().err.removeprefix("loading …\n")
    assert says in told and told.count("\n") == 1 and told.startswith("error: ")


def test_without_the_libraries_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = importlib.util.find_spec
    lacking: Any = lambda name, *rest: None if name == "viser" else found(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", lacking)
    assert guarded(lambda: command.main(["tests"])) == 2
    line = capsys.readouterr().err
    assert "needs viser" in line and "booster_ray[view]" in line and line.count("\n") == 1
    played: list[list[str]] = []
    monkeypatch.setattr("booster_ray.evaluate.command.main", lambda argv: played.append(argv) or 0)
    assert command.play(["--output", str(tmp_path)]) == 0
    (argv,) = played
    assert Path(argv[0]).name == "striker" and "--video" in argv and "official" in argv
    assert "booster_ray[view]" in capsys.readouterr().out


def test_play_opens_the_shipped_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(command, "lacks", lambda: "")
    monkeypatch.setattr(command, "main", lambda argv: asked.append(argv) or 0)
    monkeypatch.chdir("/")
    assert command.play(["--task", "obstacle", "--port", "9000"]) == 0
    assert asked[0][0] == str(ROOT / "policies" / "striker")
    assert asked[0][1:] == ["--task=obstacle", "--seed=0", "--port=9000", "--host=127.0.0.1"]


@needs_viser
def test_it_serves_the_page_until_it_is_stopped(tmp_path: Path) -> None:
    """No display, and a browser that asks; Ctrl-C, or what ends a service, ends it with 0."""
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    process = subprocess.Popen(
        [sys.executable, "-m", "booster_ray.view", "policies/striker", "--port", "18123"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        (url,) = re.findall(r"Open (http://127\.0\.0\.1:\d+)", process.stdout.readline())
        port = url.rpartition(":")[2]
        assert f"ssh -L {port}:127.0.0.1:{port}" in process.stdout.readline()
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert b"<title>" in answer.read()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and "ended" in out, (out, err)
    assert "Traceback" not in err


class Shown:
    """A side as the panel reads it."""

    task, seconds, score, outcome = "goalie", 1.5, -0.5, Outcome(-0.5, 1.5, "fell")
    terms = {"steps": -1.0, "goal_scored": 0.5}  # noqa: RUF012
    rewards = {"alive": 2.0, "torque": -1.0, "gait": 0.0}  # noqa: RUF012
    reward_sums = {"alive": 8.0, "torque": -1.0, "gait": 0.0}  # noqa: RUF012

    class policy:
        name, weighted = "<run>/step_1", True


def test_what_the_panel_shows() -> None:
    side: Any = Shown()

    class Match:
        sides = [side]  # noqa: RUF012
        results = [(0, [side.outcome])]  # noqa: RUF012
        disturbed = True

        def means(self) -> list[float]:
            return [-0.5]

    match: Any = Match()
    shown = status(match, "a < b")
    for text in ("&lt;run&gt;", "1.50 s, fell", "-0.50 over 1", "no result", "a &lt; b"):
        assert text in shown
    scales: dict[str, float] = {}
    html = terms(side, scales)
    assert scales == {"official": 1.0, "reward": 2.0}
    assert "left:0.0%;width:50.0%" in html  # steps: all of the bar, to the left
    assert "left:50.0%;width:25.0%" in html and "gait" not in html
    side.rewards = {"alive": 1.0}
    terms(side, scales)
    assert scales["reward"] == pytest.approx(1.96)  # after a peak bars grow again
    side.policy.weighted, side.rewards, side.reward_sums = False, {}, {}
    assert "not known of this policy" in terms(side, scales)
