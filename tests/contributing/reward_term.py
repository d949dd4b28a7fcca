"""What follows from the one function that reward_term.diff adds."""

import subprocess
import sys
from pathlib import Path

import numpy as np

DOCS = Path(__file__).parents[2] / "docs"


def check_reward_term(root: Path) -> None:
    """See that ``ball_height`` is a weight, a reward, a metric and a row of the documentation.

    Args:
        root: the folder of the patched package ``booster_ray``, which this process imports.
    """
    import booster_ray
    from booster_ray.config import Config, ConfigError, load
    from booster_ray.envs.make import make_world
    from booster_ray.evaluate.episodes import reward_metrics

    assert Path(booster_ray.__file__).parent == root.resolve() / "booster_ray"
    assert Config().rewards.ball_height == 0
    file = root / "ball_height.yaml"
    file.write_text(
        "name: height\nworld: {num_envs: 3, episode_seconds: 0.1}\n"
        "rewards: {alive: 0.0, upright: 0.0, height: 0.0, pose: 0.0, smoothness: 0.0,"
        " joint_limits: 0.0, fall: 0.0, ball_height: 2.0}\n"
        "curriculum: [{terms: [ball_height], factor: [[0, 1.0]]}]\n"
    )
    config = load(file).base()
    space = load(file, ["rewards.ball_height={search: uniform, low: 0.1, high: 0.9}"]).space
    assert list(space) == ["rewards.ball_height"]
    try:
        load(file, ["rewards.ball_heigth=1.0"])
    except ConfigError as error:
        assert str(error).count("\n") == 0 and "did you mean 'ball_height'?" in str(error)
    else:
        raise AssertionError("a weight of no term was taken")

    world = make_world(config, threads=1)
    world.reset(0)
    episodes, paid = [], np.zeros(3)
    for _ in range(5):  # 0.1 s
        result = world.step(np.zeros((3, world.action_size), np.float32))
        paid += result.reward
        episodes += result.episodes
    world.close()
    assert (paid > 0).all()
    metrics = reward_metrics(episodes)
    assert np.isclose(metrics["reward/ball_height"], paid.mean(), rtol=1e-5)
    assert np.isclose(metrics["reward/ball_height/obstacle"], paid[1], rtol=1e-5)

    script = "import runpy; print(runpy.run_path('rewards.py')['page']())"
    page = subprocess.run(
        [sys.executable, "-c", script], cwd=DOCS, env={"PYTHONPATH": str(root)},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "| `ball_height` | 0 | Metres of the ball above the ground, at most 1. |" in page


if __name__ == "__main__":
    check_reward_term(Path(sys.argv[1]))
