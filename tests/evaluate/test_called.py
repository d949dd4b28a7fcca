"""A user's own code as a target: what it raises is one line with its place, and exit code 2."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from booster_ray.cli import guarded
from booster_ray.evaluate.command import main
from booster_ray.evaluate.play import play_native, play_official
from booster_ray.evaluate.target import load_target

Write = Callable[[str], str]

HEAD = "import numpy as np\ndef play(observation, info):\n    n = len(observation)\n"
"""Three lines, behind which the body of a policy comes."""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module `mine` to the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)

    def write(text: str) -> str:
        (tmp_path / "mine.py").write_text(text)
        importlib.invalidate_caches()
        return "mine"

    yield write
    sys.modules.pop("mine", None)


AT_THE_DOOR = {
    "a module that raises": (
        "1\nraise OSError('no robot\\nhere')",
        "OSError: no robot (mine.py:2)",
    ),
    "a module that exits": ("import sys\nsys.exit(0)", "SystemExit: 0 (mine.py:2)"),
    "a module of bad syntax": ("def play(:\n    pass", "SyntaxError: invalid syntax (mine.py:1)"),
    "a module that lacks another": ("import wheels", "No module named 'wheels' (mine.py:1)"),
    "no such object": ("x = 1", "module 'mine' has no attribute 'play'"),
    "a number": ("play = 1", "is of type int, expected something callable"),
    "a constructor that raises": (
        "class play:\n    def __init__(self):\n        raise KeyError('map')",
        "mine:play: KeyError: 'map' (mine.py:3)",
    ),
    "a constructor that exits": (
        "class play:\n    def __init__(self):\n        raise SystemExit('no key')",
        "SystemExit: no key (mine.py:3)",
    ),
    "a constructor that wants more": (
        "class play:\n    def __init__(self, path):\n        pass",
        "missing 1 required positional argument: 'path'",
    ),
    "a class of what is no policy": ("class play:\n    pass", "expected __call__(observation,"),
}

WHEN_IT_PLAYS = {
    "raises": ("    return {}['x']", "mine:play: KeyError: 'x' (mine.py:4), at 0.000 s"),
    "raises within a library": ("    return np.zeros(3).reshape(2)", "(mine.py:4)"),
    "exits": ("    raise SystemExit(3)", "SystemExit: 3 (mine.py:4)"),
    "gives nothing": ("    pass", "the policy gives None, expected torques [1, 12]"),
    "gives a dict": ("    return {'action': np.zeros((n, 12))}", "gives a dict"),
    "gives one row": ("    return np.zeros(12)", "gives float64[12], expected torques [1, 12]"),
    "gives eleven joints": ("    return np.zeros((n, 11))", "gives float64[1, 11]"),
    "gives rows of two lengths": ("    return [[0], [0, 1]]", "inhomogeneous shape"),
    "gives words": ("    return [['a'] * 12]", "gives <U1[1, 12]"),
    "gives what is no number": ("    return np.full((n, 12), np.nan)", "are not finite"),
    "gives a state alone": ("    return None, None", "gives object[2]"),
    "gives bad actions and a state": ("    return np.zeros((n, 3)), 1", "gives float64[1, 3]"),
}


def refused(target: str, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """The line that a target gets."""
    assert guarded(lambda: main([target, "--episodes", "1", *more])) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1 and "Traceback" not in shown.out + shown.err
    assert "mine:play" in shown.err
    return shown.err


@pytest.mark.parametrize("case", AT_THE_DOOR)
def test_what_fails_at_the_door(
    case: str, written: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    text, says = AT_THE_DOOR[case]
    assert says in refused(f"{written(text)}:play", capsys)


@pytest.mark.parametrize("case", WHEN_IT_PLAYS)
def test_what_fails_when_it_plays(
    case: str, written: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    body, says = WHEN_IT_PLAYS[case]
    assert says in refused(f"{written(HEAD + body)}:play", capsys)


def test_what_takes_other_arguments(written: Write, capsys: pytest.CaptureFixture[str]) -> None:
    module = written("def play(observation):\n    return 1\n")
    line = refused(f"{module}:play", capsys)
    assert "takes 1 positional argument but 2 were given" in line


@pytest.mark.parametrize("world", ["native", "official"])
def test_what_fails_in_the_middle_of_an_episode(
    world: str, written: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = "    play.steps = getattr(play, 'steps', 0) + 1\n    print('step')\n"
    body += (
        "    if play.steps > 100: raise RuntimeError('worn out')\n    return np.zeros((n, 12))\n"
    )
    target = f"{written(HEAD + body)}:play"
    out = tmp_path / "out"
    line = refused(target, capsys, "--world", world, "--output", str(out))
    assert "RuntimeError: worn out (mine.py:6), at 0." in line
    assert list(out.iterdir()) == []


def test_a_file_is_no_module(written: Write, capsys: pytest.CaptureFixture[str]) -> None:
    written(HEAD + "    return np.zeros((n, 12))")
    assert guarded(lambda: main(["mine.py:play"])) == 2
    assert "did you mean mine:play?" in capsys.readouterr().err


GIVES = {
    "an array": "    return np.full((n, 12), 3.0)",
    "actions and a state": "    return np.full((n, 12), 3.0), None",
    "a list": "    return np.full((n, 12), 3.0).tolist()",
    "whole numbers": "    return np.full((n, 12), 3)",
    "a tensor with its gradient": (
        "    import torch\n    return torch.full((n, 12), 3.0, requires_grad=True)"
    ),
    "an array of JAX's": "    import jax\n    return jax.numpy.full((n, 12), 3.0)",
    "a tuple of rows": "    return tuple(np.full((n, 12), 3.0))",
}


def test_whatever_holds_the_same_actions_plays_the_same(written: Write) -> None:
    played = []
    for case, body in GIVES.items():
        sys.modules.pop("mine", None)
        target = load_target(f"{written(HEAD + body + chr(10) + '#' * len(case))}:play")
        played.append(play_native([3, 4], target.make_player, tasks=["goalie"]))
    assert all(episodes == played[0] for episodes in played) and played[0][0].seconds < 5


REMEMBERS = """
import numpy as np
told = []
def play(observation, info, *, state=None):
    told.append(state)
    return np.zeros((len(observation), 12)), (0 if state is None else state) + 1
"""


def test_a_state_is_given_back_and_begins_anew(written: Write) -> None:
    target = load_target(f"{written(REMEMBERS)}:play")
    episodes = play_official([0, 1], target.make_player, tasks=["goalie"], stochastic=True)
    steps = [round(e.seconds / 0.002) for e in episodes]
    told = sys.modules["mine"].told
    assert told == [None, *range(1, steps[0]), None, *range(1, steps[1])]


def test_a_state_that_nobody_asks_for_is_left(written: Write) -> None:
    text = "import numpy as np\ndef play(observation, state):\n    assert 'robot_gyro' in state\n"
    target = load_target(f"{written(text + '    return np.zeros((len(observation), 12)), 7')}:play")
    assert play_native([0], target.make_player, tasks=["goalie"])[0].fallen
