"""What a viewer does to a game, without a viewer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import mujoco
import numpy as np
import pytest

from booster_ray.config import ConfigError
from booster_ray.envs.native import NativeWorld
from booster_ray.envs.options import gains, soccer_options
from booster_ray.evaluate.play import play_native
from booster_ray.evaluate.target import load_target
from booster_ray.evaluate.viewer.display import APART, Display
from booster_ray.evaluate.viewer.match import STEP, Match
from booster_ray.evaluate.viewer.policies import Policy, checkpoints, load_policy, watched_folder
from booster_ray.policy.player import BadAction
from booster_ray.soccer import game
from policies import save_checkpoint, tiny_config

STRIKER = Path(__file__).parents[3] / "policies" / "striker"


@pytest.fixture(scope="module")
def striker() -> Policy:
    return load_policy(str(STRIKER))


@pytest.fixture
def match(striker: Policy) -> Iterator[Match]:
    made = Match([striker], "goalie", seed=3)
    yield made
    made.close()


def test_a_policy_of_ours_plays_as_in_its_training_worlds(striker: Policy, match: Match) -> None:
    config = striker.config
    world = NativeWorld(["goalie"], 1, gains(config), auto_reset=False, **soccer_options(config))
    observation = world.reset(0, env_seeds=[3])
    assert striker.act is not None and striker.weighted
    for _ in range(25):
        observation = world.step(striker.act(observation)).observation
        match.advance()
    np.testing.assert_array_equal(match.sides[0].world.positions(0), world.positions(0))
    assert match.seconds == pytest.approx(0.5) and not match.over


def test_reward_terms_are_what_the_last_step_paid(striker: Policy, match: Match) -> None:
    side, total = match.sides[0], 0.0
    for _ in range(20):
        match.advance()
        assert side.rewards.keys() == side.reward_sums.keys() == set(_weights(striker))
        total += sum(side.rewards.values())
    assert total == pytest.approx(sum(side.reward_sums.values()))
    assert side.rewards != {} and any(side.rewards.values())
    assert side.score == pytest.approx(sum(side.terms.values()))
    assert side.terms["steps"] == -1.0


def _weights(policy: Policy) -> dict[str, float]:
    return {n: w for n, w in policy.config.rewards.model_dump().items() if w}


def test_an_episode_ends_with_the_score_of_the_evaluation() -> None:
    fallen = Match([load_policy("policies:falling")], "goalie", seed=1)
    while not fallen.over:
        fallen.advance()
    told = load_target("policies:falling")
    (episode,) = play_native([1], told.make_player, tasks=["goalie"])
    (outcome,) = fallen.results[0][1]
    assert outcome.how == "fell"
    assert (outcome.score, outcome.seconds) == (episode.score, episode.seconds)
    assert fallen.means() == [outcome.score] and fallen.sides[0].reward_sums == {}
    before = fallen.sides[0].world.positions(0)
    fallen.advance()  # stands still
    np.testing.assert_array_equal(fallen.sides[0].world.positions(0), before)
    fallen.reset(seed=2)
    assert (fallen.seconds, fallen.over, fallen.seed) == (0.0, False, 2)
    fallen.close()


def test_pushing_and_moving_the_ball(match: Match) -> None:
    plain = [match.advance() or match.sides[0].robot() for _ in range(10)][-1]
    match.reset()
    match.push(forward=1.5, left=0.0)  # the robot looks along -x
    pushed = [match.advance() or match.sides[0].robot() for _ in range(10)][-1]
    assert pushed[0] < plain[0] - 0.1 and abs(pushed[1] - plain[1]) < 0.1
    match.place_ball(0, (-7.0, 1.0, -3.0))
    np.testing.assert_allclose(match.sides[0].ball(), (-7.0, 1.0, 0.11), atol=1e-9)
    match.advance()
    np.testing.assert_allclose(match.sides[0].ball()[:2], (-7.0, 1.0), atol=0.02)
    assert match.disturbed
    match.reset()
    assert not match.disturbed
    assert [match.advance() or match.sides[0].robot() for _ in range(10)][-1] == pytest.approx(
        plain
    )


def test_what_is_disturbed_is_no_result() -> None:
    match = Match([load_policy("policies:falling")], "goalie", seed=1)
    match.push(0.0, 0.5)
    while not match.over:
        match.advance()
    assert match.results == [] and match.means() == []
    match.close()


def test_two_policies_of_one_spawn_and_another_task(striker: Policy) -> None:
    match = Match([striker, load_policy("policies:falling")], "kick_to_target", seed=5)
    one, other = (side.world.positions(0) for side in match.sides)
    np.testing.assert_array_equal(one, other)
    for _ in range(5):
        match.advance()
    assert all(side.seconds == pytest.approx(5 * STEP) for side in match.sides)
    match.choose("goalie")
    assert match.sides[0].task == "goalie" and match.seconds == 0.0
    with pytest.raises(ValueError, match="expected one of"):
        match.choose("golf")
    match.close()


def test_another_policy_takes_over_from_the_begin(striker: Policy, match: Match) -> None:
    for _ in range(5):
        match.advance()
    world = match.sides[0].world
    match.swap(0, striker._replace(name="other"))
    assert match.sides[0].world is world and match.seconds == 0.0  # nothing was made anew
    assert match.sides[0].policy.name == "other"
    match.swap(0, load_policy("policies:falling"))
    match.advance()
    assert match.sides[0].world is not world


def test_a_policy_that_fails_says_so(striker: Policy) -> None:
    match = Match([striker._replace(act=lambda seen: np.full((1, 12), np.nan))], "goalie")
    with pytest.raises(BadAction, match="not finite"):
        match.advance()
    match.close()


def test_the_newest_checkpoint_of_a_run(tmp_path: Path) -> None:
    config, run = tiny_config(), tmp_path / "run"
    first = save_checkpoint(run / "step_000000000100", config)
    (run / "config.yaml").write_text(config.to_yaml())
    assert watched_folder(str(run)) == watched_folder(str(first)) == run
    best = save_checkpoint(run / "best_000000000050", config)
    os.utime(best / "manifest.json", (2e9, 2e9))
    (run / "step_000000000200").mkdir()  # not whole yet
    assert checkpoints(run) == [best, first]
    policy = load_policy(str(first))
    assert policy.name == "run/step_000000000100" and policy.weighted and policy.act is not None
    assert policy.act(np.zeros((1, 89), np.float32)).shape == (1, 12)
    assert watched_folder(str(STRIKER)) is None
    with pytest.raises(ConfigError, match="is not there"):
        load_policy(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("task", game.TASKS)
def test_the_display_poses_the_whole_scene(task: str, striker: Policy) -> None:
    """Body by body as the official model has it, with the second policy's world beside it."""
    match = Match([striker, striker], task, seed=2)
    for _ in range(3):
        match.advance()
    display = Display(match)
    display.update(match)
    model, data = display.model, display.data
    for place, side in enumerate(match.sides):
        real = side.world._shared_of[0].model
        theirs = mujoco.MjData(real)
        theirs.qpos[:] = side.world.positions(0)
        mujoco.mj_kinematics(real, theirs)
        still = "goalkeeper_team_0_body" if task == "goalie" else "goal_post_south"
        for name in ("soccer_ball", "robot_0:left_foot_link", "robot_0:Trunk", still):
            at = data.body(f"{place}:{name}").xpos - [0.0, APART * place, 0.0]
            np.testing.assert_allclose(at, theirs.body(name).xpos, atol=1e-9)
        if task == "obstacle":
            panels = [data.geom_xpos[model.body(f"{place}:panel{i}").geomadr[0]] for i in range(3)]
            shown = np.array(panels) - [0.0, APART * place, 0.0]
            np.testing.assert_allclose(shown, side.frame.defender_pos[0], atol=1e-6)
    held = display.center
    match.push(2.0, 0.0)
    for _ in range(5):
        match.advance()
    display.update(match, follow=False)
    np.testing.assert_array_equal(display.center, held)
    match.close()
