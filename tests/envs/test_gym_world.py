"""Environments of gymnasium as worlds: contract, scaling, and going on bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import quirks
from envs.batches import actions, assert_equal
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Sequence, Tuple

from booster_ray.envs.contract import WorldError
from booster_ray.envs.gym_world import BadArguments, GymWorld
from booster_ray.store import checkpoint

SEED = 3
FULL = float(np.finfo(np.float32).max)


def test_it_keeps_the_contract() -> None:
    world = GymWorld("Pendulum-v1", 3)
    observation = world.reset(SEED)
    assert observation.shape == (3, world.observation_size) and observation.dtype == np.float32
    assert world.action_size == 1 and world.task.tolist() == [0, 0, 0]
    assert len(np.unique(observation, axis=0)) == 3  # each copy has a stream of its own
    for step, action in enumerate(actions(world, 200)):
        result = world.step(action)
        for part in (result.observation, result.final_observation):
            assert part.shape == (3, 3) and part.dtype == np.float32
        assert result.reward.dtype == np.float32 and not result.terminated.any()
        assert result.truncated.all() == (step == 199)
    assert [e["env"] for e in result.episodes] == [0, 1, 2]
    assert all(e["seconds"] == pytest.approx(10.0) for e in result.episodes)
    assert all(e["score"] == e["return"] < 0 for e in result.episodes)
    # The last observation is kept beside the first of the next episode.
    assert not (result.observation == result.final_observation).all(axis=1).any()
    np.testing.assert_array_equal(world.reset(SEED), observation)
    assert not np.array_equal(world.reset(SEED + 1), observation)
    world.close()


def test_it_plays_what_gymnasium_plays() -> None:
    """One copy beside the environment itself; unit actions span the torque of ±2 N·m."""
    world, env = GymWorld("Pendulum-v1", 1), gymnasium.make("Pendulum-v1")
    first = world.reset(SEED)
    seed = int(np.random.SeedSequence(SEED).generate_state(1)[0])
    np.testing.assert_allclose(first[0], env.reset(seed=seed)[0])
    for action in actions(world, 50):
        result = world.step(action)
        seen, reward, *_ = env.step(2.0 * action[0])
        np.testing.assert_allclose(result.observation[0], seen, rtol=1e-6)
        np.testing.assert_allclose(result.reward[0], reward, rtol=1e-6)


@pytest.mark.parametrize(
    "env_id", ["Pendulum-v1", "MountainCarContinuous-v0", "Hopper-v5", "Ant-v5", "Humanoid-v5"]
)
def test_a_restored_world_goes_on_bit_for_bit(env_id: str, tmp_path: Path) -> None:
    """MuJoCo environments read forces and positions between steps: these must come back too."""
    world = GymWorld(env_id, 2)
    world.reset(SEED)
    played = actions(world, 120)
    for action in played[:50]:
        world.step(action)
    checkpoint.save(tmp_path / "saved", {"world": world.state()})
    expected = [world.step(action) for action in played[50:]]
    tree, _ = checkpoint.load(tmp_path / "saved")
    assert len(list((tmp_path / "saved").iterdir())) < 12  # stacked, not a file for each copy
    other = GymWorld(env_id, 2)
    other.restore(tree["world"])
    for action, result in zip(played[50:], expected, strict=True):
        assert_equal(other.step(action), result)
    if env_id in ("Hopper-v5", "Humanoid-v5"):
        assert any(result.episodes for result in expected)  # resets go on as they would have


def test_a_state_that_does_not_fit_is_refused() -> None:
    world, more = GymWorld("Pendulum-v1", 2), GymWorld("Pendulum-v1", 3)
    world.reset(SEED)
    with pytest.raises(ValueError, match="2 copies; here are 3"):
        more.restore(world.state())
    hopper, ant = GymWorld("Hopper-v5", 2), GymWorld("Ant-v5", 2)
    hopper.reset(SEED)
    with pytest.raises(ValueError, match="MuJoCo data"):
        ant.restore(hopper.state())


class Opaque(gymnasium.Env[np.ndarray, np.ndarray]):
    """Keeps its state where nobody can read it."""

    observation_space = Box(-1.0, 1.0, (2, 2), np.float32)
    action_space = Box(0.0, 4.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, Any]:
        super().reset(seed=seed)
        self.hidden = iter(range(100))
        return np.zeros((2, 2), np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, Any]:
        return np.eye(2, dtype=np.float32), float(action[0]), next(self.hidden) == 3, False, {}


gymnasium.register("Opaque-v0", Opaque)


def test_what_cannot_be_read_has_no_state() -> None:
    world = GymWorld("Opaque-v0", 2)
    assert world.observation_size == 4  # flattened
    world.reset(SEED)
    result = world.step(np.array([[-1.0], [1.0]]))
    assert result.reward.tolist() == [0.0, 4.0]
    assert world.state() == {}


@pytest.mark.parametrize(
    ("env_id", "wrong"),
    [
        ("CartPole-v1", "actions from a Discrete; expected a bounded Box"),
        ("FrozenLake-v1", "seen through a Discrete; expected a Box"),
        ("Nothing-v0", "gymnasium cannot make 'Nothing-v0'"),
        ("no.such.module:Nothing-v0", "gymnasium cannot make"),
    ],
)
def test_environments_that_no_gaussian_serves_are_refused(env_id: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        GymWorld(env_id, 1)


def test_bad_actions_are_refused() -> None:
    world = GymWorld("Pendulum-v1", 2)
    world.reset(SEED)
    with pytest.raises(ValueError, match=r"shape \(2,\); expected \(2, 1\)"):
        world.step(np.zeros(2))
    with pytest.raises(ValueError, match="not finite"):
        world.step(np.full((2, 1), np.nan))


# -- quirks of other people's environments --------------------------------------------------------


class Quirky(gymnasium.Env[Any, Any]):
    """Counts its steps; what it shows and takes is a class attribute."""

    observation_space: gymnasium.Space[Any] = Box(-100.0, 100.0, (2,), np.float32)
    action_space: gymnasium.Space[Any] = Box(-1.0, 1.0, (1,), np.float32)
    ends_after = 3

    def __init__(self) -> None:
        self.count, self.taken = 0, []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        super().reset(seed=seed)
        self.count = 0
        return self.seen(), {}

    def seen(self) -> Any:
        return np.full(2, self.count, np.float32)

    def step(self, action: Any) -> tuple[Any, ...]:
        self.count += 1
        self.taken.append(action)
        return self.seen(), 1.0, self.count >= self.ends_after, False, {}


class OneBuffer(Quirky):
    """Writes every observation into the same array, as fast simulators do."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = np.zeros(2, np.float32)

    def seen(self) -> Any:
        self.buffer[:] = self.count
        return self.buffer


def made(kind: type[gymnasium.Env[Any, Any]], n: int = 1, **options: Any) -> GymWorld:
    name = f"{kind.__qualname__.replace('.<locals>.', '')}-v0"
    gymnasium.registry.pop(name, None)
    gymnasium.register(name, kind, order_enforce=False)
    return GymWorld(name, n, **options)


def test_the_last_observation_is_the_episodes_own() -> None:
    world = made(OneBuffer, 2)
    kept = [world.reset(SEED)]
    for _ in range(3):
        result = world.step(np.zeros((2, 1)))
        kept.append(result.observation)
    assert result.terminated.all()
    assert result.final_observation.tolist() == [[3, 3], [3, 3]]
    assert [float(seen[0, 0]) for seen in kept] == [0, 1, 2, 0]  # none changed afterwards


@pytest.mark.parametrize(
    ("space", "values"),
    [
        (Box(0, 1, (1,), int), [0, 0, 1, 1, 1]),
        (Box(0, 3, (1,), int), [0, 1, 2, 3, 3]),
        (Box(-128, 127, (1,), np.int8), [-128, -64, 0, 64, 127]),
        (Box(0, 255, (1,), np.uint8), [0, 64, 128, 192, 255]),
        (Box(-(2**31), 2**31 - 1, (1,), np.int32), [-(2**31), -(2**30), 0, 2**30, 2**31 - 1]),
        (Box(-1.0, 3.0, (1,), np.float32), [-1, 0, 1, 2, 3]),
        (Box(-2.0, 2.0, (1,), np.float64), [-2, -1, 0, 1, 2]),
        (Box(0.0, 60000.0, (1,), np.float16), [0, 15000, 30000, 45000, 60000]),
        (Box(-3e38, 3e38, (1,), np.float32), [-3e38, -1.5e38, 0, 1.5e38, 3e38]),
        (Box(0.0, 1.0, (), np.float32), [0, 0.25, 0.5, 0.75, 1]),
    ],
)
def test_actions_span_the_box_in_its_own_type(space: Box, values: list[float]) -> None:
    class Spanned(Quirky):
        action_space = space
        ends_after = 100

    world = made(Spanned)
    world.reset(SEED)
    for unit in (-1.0, -0.5, 0.0, 0.5, 1.0):
        world.step(np.array([[unit]], np.float32))
    taken = world._envs[0].unwrapped.taken
    assert [float(np.squeeze(a)) for a in taken] == pytest.approx(values, rel=1e-3)
    assert all(a.dtype == space.dtype and a.shape == space.shape for a in taken)
    assert all(space.contains(a) for a in taken)


@pytest.mark.parametrize(
    ("seen", "taken", "wrong"),
    [
        (Box(-1, 1, (2,)), Box(-FULL, FULL, (1,), np.float32), "an unbounded Box"),
        (Box(-1, 1, (2,)), Box(-65504.0, 65504.0, (1,), np.float16), "an unbounded Box"),
        (Box(-1, 1, (2,)), Box(-(2**60), 2**60, (1,), np.int64), r"integers beyond 2\^53"),
        (Box(-1, 1, (2,)), Box(-1, 1, (0,)), "actions of shape"),
        (Box(-1, 1, (0,)), Box(-1, 1, (1,)), "observations of shape"),
    ],
)
def test_spaces_that_cannot_be_served_are_refused(seen: Box, taken: Box, wrong: str) -> None:
    class Refused(Quirky):
        observation_space, action_space = seen, taken

    with pytest.raises(ValueError, match=wrong):
        made(Refused)


class Breaks(Quirky):
    """Gives what `wrong` says in its second step."""

    wrong: Any = None

    def step(self, action: Any) -> tuple[Any, ...]:
        told = super().step(action)
        return told if self.count < 2 else self.wrong(told)


def raising(error: BaseException) -> Any:
    def step(told: Any) -> Any:
        raise error

    return step


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (raising(OSError("no such map")), r"step raises OSError: no such map \(test_gym_world.py:"),
        (raising(SystemExit(3)), r"step raises SystemExit: 3 \(test_gym_world.py:"),
        (raising(StopIteration()), r"step raises StopIteration \(test_gym_world.py:"),
        (lambda told: (told[0], float("nan"), *told[2:]), "reward nan after 2 steps"),
        (lambda told: (told[0], float("-inf"), *told[2:]), "reward -inf"),
        (lambda told: (told[0], 1e39, *told[2:]), r"reward 1e\+39"),
        (lambda told: (told[0], None, *told[2:]), "reward nan"),
        (lambda told: (told[0] * np.nan, *told[1:]), "observation that is not finite"),
        (lambda told: (told[0][:1], *told[1:]), r"shape \(1,\), its space says \(2,\)"),
        (lambda told: ("seen", *told[1:]), r"observation of shape \(\), its space says"),
        (lambda told: told[:4], "step "),
    ],
)
def test_what_breaks_the_contract_is_blamed_on_the_environment(wrong: Any, said: str) -> None:
    kind = type("Broken", (Breaks,), {"wrong": staticmethod(wrong)})
    world = made(kind)
    world.reset(SEED)
    world.step(np.zeros((1, 1)))
    with pytest.raises(WorldError, match=said) as caught:
        world.step(np.zeros((1, 1)))
    assert str(caught.value).startswith("gym:Broken-v0: ") and "\n" not in str(caught.value)


def test_an_interrupt_is_nobodys_fault() -> None:
    kind = type("Stopped", (Breaks,), {"wrong": staticmethod(raising(KeyboardInterrupt()))})
    world = made(kind)
    world.reset(SEED)
    world.step(np.zeros((1, 1)))
    with pytest.raises(KeyboardInterrupt):
        world.step(np.zeros((1, 1)))


def test_an_episode_that_never_ends_is_cut() -> None:
    class Endless(Quirky):
        ends_after = 10**9

    world = made(Endless, 2, max_steps=5)
    world.reset(SEED)
    results = [world.step(np.zeros((2, 1))) for _ in range(10)]
    assert [r.truncated.all() for r in results] == [False, False, False, False, True] * 2
    record = {"env": 1, "task": 0, "return": 5.0, "seconds": 5.0, "score": 5.0, "cut": 1.0}
    assert results[4].episodes[1] == record
    own = made(Quirky, 1, max_steps=5)
    own.reset(SEED)
    assert [own.step(np.zeros((1, 1))).episodes for _ in range(3)][2][0]["cut"] == 0.0


@pytest.mark.parametrize(
    "error", [ValueError("no licence"), OSError(2, "gone"), SystemExit("bye"), KeyError("level")]
)
def test_a_constructor_that_raises_is_one_line(error: BaseException) -> None:
    class Unborn(Quirky):
        def __init__(self) -> None:
            raise error

    with pytest.raises(ValueError, match=type(error).__name__) as caught:
        made(Unborn)
    assert "test_gym_world.py:" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("held", sorted(quirks.HELD))
def test_what_an_environment_holds_is_saved_whole_or_not_at_all(held: str, tmp_path: Path) -> None:
    spec = {
        "seen": {"low": -1.0, "high": 1.0, "shape": [2], "dtype": "float32"},
        "taken": {"low": -1.0, "high": 1.0, "shape": [1], "dtype": "float32"},
        "raises": ["nowhere", "ValueError", 0], "broken": None, "tuple": 5, "returns": "array",
        "reuses": True, "spoils": False, "pays": "float", "lasts": 3, "ends": "terminated",
        "limit": None, "held": held, "fps": None, "dt": None,
    }  # fmt: skip
    (name,) = quirks.register([spec])
    world = GymWorld(name, 2)
    world.reset(SEED)
    for action in actions(world, 4):
        world.step(action)
    state = world.state()
    checkpoint.save(tmp_path / "saved", {"world": state})
    if not state:
        assert held in ("bytes", "dates", "iterator", "numbered", "old generator", "records",
                        "set", "slashes", "words")  # fmt: skip
        return
    expected = [world.step(action) for action in actions(world, 9)[4:]]
    other = GymWorld(name, 2)
    other.restore(checkpoint.load(tmp_path / "saved")[0]["world"])
    for action, result in zip(actions(other, 9)[4:], expected, strict=True):
        assert_equal(other.step(action), result)
    assert repr(other._envs[0].unwrapped.held) == repr(quirks.HELD[held]())


# -- dicts, images, keyword arguments --------------------------------------------------------------


class Seen(Quirky):
    """Looks through the space that it is given."""

    def __init__(self, space: gymnasium.Space[Any]) -> None:
        super().__init__()
        self.observation_space = space
        space.seed(0)

    def seen(self) -> Any:
        return self.observation_space.sample()


def looking(space: gymnasium.Space[Any]) -> GymWorld:
    gymnasium.registry.pop("Seen-v0", None)
    gymnasium.register("Seen-v0", Seen, kwargs={"space": space}, order_enforce=False)
    return GymWorld("Seen-v0", 2)


def test_dicts_of_observations_become_one_array(tmp_path: Path) -> None:
    arm = {"angle": Box(-1.0, 1.0, (2, 2), np.float64), "held": MultiBinary(2)}
    space = Dict({"arm": Dict(arm), "gear": Discrete(3), "both": Tuple((Box(0, 9, (1,), int),))})
    world = looking(space)
    assert world.observation_size == 4 + 2 + 3 + 1
    first = world.reset(SEED)
    assert first.shape == (2, 10) and first.dtype == np.float32
    # In the order of the keys: angles, what is held, the number, one-hot of the gear.
    assert set(first[:, 4:6].ravel()) <= {0.0, 1.0} and (first[:, 7:].sum(axis=1) == 1.0).all()
    checkpoint.save(tmp_path / "saved", {"world": world.state()})
    again = looking(space)
    again.restore(checkpoint.load(tmp_path / "saved")[0]["world"])
    assert again.step(np.zeros((2, 1))).observation.shape == (2, 10)


@pytest.mark.parametrize(
    ("space", "wrong"),
    [
        (Box(0, 255, (84, 84, 3), np.uint8), r"images of shape \(84, 84, 3\); expected numbers"),
        (Box(0, 255, (210, 160), np.uint8), "images of shape"),
        (Box(0.0, 1.0, (3, 64, 64), np.float32), "images of shape"),
        (Dict({"eye": Dict({"left": Box(0, 255, (64, 64, 3), np.uint8)})}), r"images \(eye/left\)"),
        (Dict({"words": Sequence(Discrete(2))}), "seen through words, which has no fixed size"),
    ],
)
def test_what_has_no_numbers_to_learn_from_is_refused(
    space: gymnasium.Space[Any], wrong: str
) -> None:
    with pytest.raises(ValueError, match=wrong):
        looking(space)


def test_stacked_rows_of_numbers_are_no_image() -> None:
    assert looking(Box(-1.0, 1.0, (20, 17), np.float32)).observation_size == 340


def test_keyword_arguments_reach_the_environment() -> None:
    plain = GymWorld("Ant-v5", 1)
    bare = GymWorld("Ant-v5", 1, kwargs={"include_cfrc_ext_in_observation": False})
    assert plain.observation_size - bare.observation_size == 78
    short = GymWorld("Pendulum-v1", 1, kwargs={"max_episode_steps": 2, "g": 5.0})
    short.reset(SEED)
    assert [bool(short.step(np.zeros((1, 1))).truncated[0]) for _ in range(2)] == [False, True]
    assert short._envs[0].unwrapped.g == 5.0
    with pytest.raises(BadArguments, match="unexpected keyword argument 'legs'"):
        GymWorld("Ant-v5", 1, kwargs={"legs": 6})


def test_dm_control_is_had_by_its_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("booster_ray.envs.gym_world.find_spec", lambda name: None)
    needs = r"needs shimmy and dm_control: pip install 'booster_ray\[dm_control\]'"
    with pytest.raises(ValueError, match=needs):
        GymWorld("dm_control/cartpole-swingup-v0", 1)


def test_dm_control_keeps_time_apart_from_endings() -> None:
    pytest.importorskip("shimmy", reason="shimmy is not installed")
    pytest.importorskip("dm_control", reason="dm_control is not installed")
    task = {"task_kwargs": {"time_limit": 0.05}}
    world = GymWorld("dm_control/cartpole-swingup-v0", 2, kwargs=task)
    assert (world.observation_size, world.action_size) == (5, 1)
    first = world.reset(SEED)
    results = [world.step(np.ones((2, 1))) for _ in range(5)]
    assert [r.truncated.all() for r in results] == [False] * 4 + [True]
    assert not any(r.terminated.any() for r in results)
    assert results[-1].episodes[0]["seconds"] == pytest.approx(0.05)
    np.testing.assert_array_equal(world.reset(SEED), first)  # seeded, though by its own generator
    assert world.state() == {}
    with pytest.raises(ValueError, match="cannot make 'dm_control/walker-fly-v0'"):
        GymWorld("dm_control/walker-fly-v0", 1)
