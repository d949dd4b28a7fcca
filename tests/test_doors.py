"""A fuzz of the commands' doors: environments and policies with quirks, legal and illegal.

Whatever other people's code does, a command ends within its limit, with a result and exit code 0,
or with one line that names what is wrong, and never with a traceback.
"""

from __future__ import annotations

import io
import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from fractions import Fraction
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import quirks
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from booster_ray.cli import guarded
from booster_ray.envs.gym_world import GymWorld

LIMIT_SECONDS = 90
BUDGET, EVERY = 24, 8
SMALL = (
    "world.num_envs=2", f"training.env_steps={BUDGET}", f"training.report_every={EVERY}",
    "evaluation.every=12", "evaluation.episodes_per_task=1", "evaluation.max_steps=20",
    "sac.replay_size=64", "sac.batch_size=4", "sac.learning_starts=8", "sac.updates_per_step=1",
    "sac.actor_hidden=[8]", "sac.critic_hidden=[8]", "tracking.listeners=[]",
)  # fmt: skip
FIXED = ("randomization.level=0", "rewards.height=1.0", "sac.critic_lr=3e-4")


class Hung(BaseException):
    """A command did not end within its limit."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    def hung(*_: object) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, hung)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def command(module: str, *args: str, seconds: float = LIMIT_SECONDS) -> tuple[int, str, str]:
    """Exit code, output and error output of a command, run in this process."""
    import importlib

    main: Callable[[list[str]], int] = importlib.import_module(
        f"booster_ray.{module}.__main__"
    ).main
    out, err, environment = io.StringIO(), io.StringIO(), dict(os.environ)
    try:
        with redirect_stdout(out), redirect_stderr(err), within(seconds):
            code = guarded(lambda: main(list(args)))
    finally:
        os.environ.clear()
        os.environ.update(environment)
    return code, out.getvalue(), err.getvalue()


# -- environments ----------------------------------------------------------------------------------


def rarely(what: Any, otherwise: Any) -> Any:
    """One in sixteen is illegal, for an environment has many chances to be so."""
    return st.integers(0, 15).flatmap(lambda drawn: what if drawn == 7 else otherwise)


FULL = {name: float(np.finfo(name).max) for name in ("float16", "float32", "float64")}
shapes = st.sampled_from([[], [1], [2], [2, 1], [4]])


def of(low: Any, high: Any, dtype: str, shape: Any = None) -> Any:
    parts = {"low": st.just(low), "high": st.just(high), "dtype": st.just(dtype)}
    return st.fixed_dictionaries({**parts, "shape": shapes if shape is None else st.just(shape)})


SEEN = rarely(
    st.one_of(of(-1.0, 1.0, "float32", [0]), of(0, 0, "Discrete"), of(0, 0, "Dict")),
    st.one_of(
        *(of(-3.0, 3.0, f"float{bits}") for bits in (16, 32, 64)),
        of("-inf", "inf", "float32"),
        of(0, 255, "uint8"),
        of(-5, 5, "int64"),
    ),
)
TAKEN = rarely(
    st.one_of(
        *(of(-limit, limit, name) for name, limit in FULL.items()),
        of("-inf", "inf", "float32"),
        of(-1.0, "inf", "float32"),
        of(-(2**60), 2**60, "int64"),
        of(-1.0, 1.0, "float32", [0]),
        of(0, 0, "Discrete"),
    ),
    st.one_of(
        *(of(-2.0, 2.0, f"float{bits}") for bits in (16, 32, 64)),
        of(0.25, 0.75, "float32"),
        of(-1e30, 3e30, "float32"),
        of(1.5, 1.5, "float64"),
        of(0, 1, "int64"),
        of(0, 3, "uint8"),
        of(-128, 127, "int8"),
        of(-7, 100, "int32"),
    ),
)
AFTER = st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7])
SPECS = st.fixed_dictionaries({
    "seen": SEEN,
    "taken": TAKEN,
    "raises": st.integers(0, 4).flatmap(
        lambda drawn: st.just(["nowhere", "ValueError", 0])
        if drawn
        else st.tuples(
            st.sampled_from(["constructor", "reset", "step", "step", "close"]),
            st.sampled_from(sorted(quirks.ERRORS)),
            AFTER,
        ).map(list)
    ),
    "broken": st.integers(0, 6).flatmap(
        lambda drawn: st.none()
        if drawn
        else st.tuples(st.sampled_from(sorted(quirks.BROKEN)), AFTER).map(list)
    ),
    "tuple": rarely(st.just(4), st.just(5)),
    "returns": st.sampled_from(["array", "array", "float64", "list"]),
    "reuses": st.booleans(),
    "spoils": st.booleans(),
    "pays": st.sampled_from(["float", "float32", "array"]),
    "lasts": st.sampled_from([None, 1, 2, 5]),
    "ends": st.sampled_from(["terminated", "truncated", "both"]),
    "limit": st.sampled_from([None, None, 4]),
    "held": st.one_of(st.none(), st.sampled_from(sorted(quirks.HELD))),
    "fps": st.sampled_from([None, 50, 0, "fast"]),
    "dt": st.sampled_from([None, 0.02, 0.0, "long", [1]]),
})  # fmt: skip


def refused(spec: dict[str, Any]) -> bool:
    """Whether a world of this spec cannot be made, reset and stepped once."""
    seen, taken = spec["seen"], spec["taken"]
    place, _, after = spec["raises"]
    unbounded = not isinstance(taken["low"], str) and taken["dtype"] in FULL
    unbounded = unbounded and taken["high"] in (FULL[taken["dtype"]], FULL["float32"])
    return (
        {seen["dtype"], taken["dtype"]} & {"Discrete", "Dict"} != set()
        or [0] in (seen["shape"], taken["shape"])
        or "inf" in (taken["low"], taken["high"])
        or unbounded
        or taken["high"] == 2**60
        or place == "constructor"
        or (place == "reset" and after < (3 if spec["lasts"] == 1 else 1))
        or (place == "step" and after < 2)
        or (spec["broken"] is not None and spec["broken"][1] < 2)
        or spec["tuple"] == 4
    )


def breaks(spec: dict[str, Any]) -> bool:
    """Whether it goes wrong later: every run is longer than the longest ``AFTER``."""
    return spec["raises"][0] in ("reset", "step") or spec["broken"] is not None


def check_one_line(code: int, wanted: int, out: str, err: str) -> str:
    """The one line that says why; nothing of a traceback is beside it."""
    assert "Traceback" not in out + err and "  File " not in out + err, out + err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert (code, len(lines)) == (wanted, 1), (code, out, err)
    return lines[0]


def check_train(spec: dict[str, Any], storage: Path) -> None:
    """Through ``train``, and what it leaves through ``evaluate``."""
    kind = f"world=gym:{quirks.register([spec])[0]}"
    code, out, err = command("train", "debug", *SMALL, *FIXED, kind, f"storage={storage}", "name=q")
    root = storage / "q"
    if refused(spec):
        assert "world.kind" in check_one_line(code, 2, out, err)
        assert not root.exists()
        return
    if breaks(spec):
        assert "Quirk" in check_one_line(code, 1, out, err), err
        assert "Quirk" in (root / "error.txt").read_text()
        return
    assert code == 0 and "Traceback" not in out + err, (code, out, err)
    reports = [json.loads(line) for line in (root / "progress.jsonl").read_text().splitlines()]
    assert reports[-1]["env_steps"] == BUDGET
    assert [r["env_steps"] for r in reports if "score" in r][-1] == BUDGET
    assert (root / f"step_{BUDGET:012d}" / "manifest.json").is_file()
    told = check_one_line(*_reordered(command("evaluate", str(root), "--episodes", "1")))
    assert "expected a policy of the game" in told


def _reordered(result: tuple[int, str, str]) -> tuple[int, int, str, str]:
    return result[0], 2, result[1], result[2]


def check_values(spec: dict[str, Any]) -> None:
    """A world of it beside a plain loop over the same environment, number by number."""
    (name,) = quirks.register([spec])
    world, env = GymWorld(name, 1), gymnasium.make(name, disable_env_checker=True)
    seed = int(np.random.SeedSequence(7).generate_state(1)[0])
    seen, told = world.reset(7)[0], env.reset(seed=seed)[0]
    assert np.array_equal(seen, np.asarray(told, np.float32).ravel())
    units = np.random.default_rng(0).choice(
        [-1.0, -0.3, 0.0, 0.1, 0.999, 1.0], (20, world.action_size)
    )
    for unit in units.astype(np.float32):
        result = world.step(unit[None])
        action = wanted_action(unit, env.action_space)
        last, reward, ended, cut, _ = env.step(action.copy())
        played = world._envs[0].unwrapped.log[-1][1] if not (ended or cut) else None
        if played is not None:
            check_action(played, action, env.action_space)
        assert np.array_equal(result.final_observation[0], np.asarray(last, np.float32).ravel())
        assert result.reward[0] == np.float32(np.squeeze(reward))
        assert result.terminated[0] == bool(ended)
        assert result.truncated[0] == (bool(cut) and not ended)
        following = env.reset()[0] if ended or cut else last
        assert np.array_equal(result.observation[0], np.asarray(following, np.float32).ravel())
    world.close()


def wanted_action(unit: np.ndarray, space: Any) -> np.ndarray:
    """The bounds' own share, in exact arithmetic, then rounded once to the space's type."""
    flat = zip(unit, space.low.ravel(), space.high.ravel(), strict=True)
    shares = [((Fraction(float(u)) + 1) / 2, low, high) for u, low, high in flat]
    if space.dtype.kind in "iu":
        values = [
            min(int(low) + (share * (int(high) - int(low) + 1)).__floor__(), int(high))
            for share, low, high in shares
        ]
    else:
        values = [
            float(Fraction(float(low)) + share * (Fraction(float(high)) - Fraction(float(low))))
            for share, low, high in shares
        ]
    return np.array(values, np.float64).astype(space.dtype).reshape(space.shape)


def check_action(played: np.ndarray, wanted: np.ndarray, space: Any) -> None:
    assert played.dtype == space.dtype and played.shape == space.shape and space.contains(played)
    if space.dtype.kind in "iu":
        assert np.array_equal(played, wanted)
        return
    scale = np.maximum(np.abs(space.low), np.abs(space.high)).astype(np.float64)
    gap = np.abs(played.astype(np.float64) - wanted.astype(np.float64))
    # Unit actions are float32, whatever the space's type.
    precision = max(np.finfo(space.dtype).eps, np.finfo(np.float32).eps)
    assert (gap <= 4 * precision * scale).all()


def check(spec: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as storage:
        check_train(spec, Path(storage))
    if not (refused(spec) or breaks(spec)):
        check_values(spec)


CALM = {
    "deadline": None, "database": None, "derandomize": True,
    "suppress_health_check": list(HealthCheck), "phases": (Phase.explicit, Phase.generate),
}  # fmt: skip


@settings(max_examples=8, **CALM)
@given(SPECS)
def test_a_few_environments_with_quirks(spec: dict[str, Any]) -> None:
    check(spec)


@pytest.mark.slow
@settings(max_examples=260, **CALM)
@given(SPECS)
def test_many_environments_with_quirks(spec: dict[str, Any]) -> None:
    check(spec)


@pytest.mark.slow
def test_a_sweep_over_environments_with_quirks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty environments are what is searched: each trial's end is its environment's own."""
    specs = drawn(40)
    specs.sort(key=lambda spec: refused(spec) or breaks(spec))  # the first is tried at the door
    (tmp_path / "quirks.json").write_text(json.dumps(specs))
    monkeypatch.setenv("QUIRKS", str(tmp_path / "quirks.json"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    kinds = [f"gym:quirks:{name}" for name in quirks.register(specs)]
    search = f"world.kind={{search: choice, values: {json.dumps(kinds)}}}"
    code, out, err = command(
        "tune", "debug", *SMALL, *FIXED, search, f"storage={tmp_path}", "name=q",
        "tune.trials=40", "tune.sampler=random", "tune.scheduler=none", "tune.max_failures=0",
        "trainer.preemption_notice=none", seconds=900,
    )  # fmt: skip
    assert code == 0 and "Traceback" not in out + err, (code, out, err)
    trials = json.loads((tmp_path / "q" / "leaderboard.json").read_text())
    assert len(trials) == 40
    ended = {"ERROR": 0, "TERMINATED": 0}
    for trial in trials:
        spec = specs[kinds.index(trial["params"]["world.kind"])]
        wrong = refused(spec) or breaks(spec)
        assert trial["status"] == ("ERROR" if wrong else "TERMINATED"), (spec, trial)
        ended[trial["status"]] += 1
        if wrong:
            error = trial["error"]
            assert "Quirk" in error and "\n" not in error.strip(), error
    assert min(ended.values()) >= 5


def drawn(count: int) -> list[dict[str, Any]]:
    """So many specs, the same each time."""
    found: list[dict[str, Any]] = []

    @settings(max_examples=count, **CALM)
    @given(SPECS)
    def keep(spec: dict[str, Any]) -> None:
        found.append(spec)

    keep()
    return found
