"""The competition's own code loads a package, and scores it as the evaluator does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from booster_ray.evaluate.play import play_native, play_official
from booster_ray.evaluate.target import (
    actor_target,
    checkpoint_actor,
    checkpoint_target,
    find_checkpoint,
    package_target,
)
from booster_ray.policy import package
from booster_ray.policy.settings import Settings, settings_of
from booster_ray.soccer import game
from policies import actor

pytest.importorskip("sai_rl")

SCRIPT = Path(__file__).with_name("sai_benchmark.py")
ROOT = Path(__file__).parents[2]
WALKER = ROOT.parent / "shared" / "baselines" / "booster_gym_t1_walk.npz"
TRAINED = "BOOSTER_RAY_TRAINED_CHECKPOINT"
MASTER_SEED = 7
TOLERANCE = 1e-3


def benchmark(path: Path, episodes: int) -> dict[str, Any]:
    """What sai_rl says, in a process of its own."""
    command = [sys.executable, str(SCRIPT), str(path), str(episodes), str(MASTER_SEED)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=3000, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    told: dict[str, Any] = json.loads(run.stdout.strip().splitlines()[-1])
    return told


def assert_scored_alike(path: Path, episodes: int, make_player: Any = None) -> np.ndarray:
    """The evaluator's scores on sai_rl's seeds; those of ``make_player``, if given, too."""
    told = benchmark(path, episodes)
    scores = []
    for task in game.TASKS:
        for player in filter(None, (package_target(path).make_player, make_player)):
            seeds = told[task]["seeds"]
            played = play_native(seeds, player, tasks=[task], stochastic=True)
            ours = [e.score for e in played]
            np.testing.assert_allclose(ours, told[task]["scores"], atol=TOLERANCE, err_msg=task)
        scores.append(ours)
    return np.array(scores)


@pytest.mark.slow
def test_an_untrained_policy(tmp_path: Path) -> None:
    features = ("egocentric", "clock", "previous_action")
    policy, settings = actor(features), Settings(features=features)
    package.write(tmp_path / "p", policy, settings)
    target = actor_target("policy", policy, settings, None)
    scores = assert_scored_alike(tmp_path / "p", 3, target.make_player)
    assert (scores < -0.1).all()  # all fall


@pytest.mark.slow
@pytest.mark.skipif(TRAINED not in os.environ, reason=f"{TRAINED} is not set")
def test_a_trained_policy(tmp_path: Path) -> None:
    path = find_checkpoint(Path(os.environ[TRAINED]))
    trained = checkpoint_actor(path)
    package.write(tmp_path / "p", trained.module, settings_of(trained.config))
    # Not only the package: the checkpoint itself is scored so.
    assert_scored_alike(tmp_path / "p", 2, checkpoint_target(path).make_player)


class Walker(nn.Module):
    """booster_gym's walking policy, steered at the ball, on our observation."""

    def __init__(self, speed: float = 1.2, turning: float = 0.5) -> None:
        super().__init__()
        with np.load(WALKER) as weights:
            layers = [(weights[f"layer{i}.weight"], weights[f"layer{i}.bias"]) for i in range(4)]
        self.layers = nn.ModuleList(nn.Linear(w.shape[1], w.shape[0]) for w, _ in layers)
        for layer, (weight, bias) in zip(self.layers, layers, strict=True):
            layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
        self.speed, self.turning = speed, turning
        pose = np.tile(Settings().default_pose, 2)
        self.register_buffer("pose", torch.tensor(pose, dtype=torch.float32))

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        """Shape: (n, 89 + egocentric 9 + clock 2 + previous action 12) → (n, 12)."""
        bearing = torch.atan2(seen[:, 90:91], seen[:, 89:90])
        turn = torch.clamp(self.turning * bearing, -1.0, 1.0)
        ahead = torch.full_like(turn, self.speed)
        clock = torch.cat([seen[:, 99:100], seen[:, 98:99]], dim=1)
        parts = [seen[:, 24:30], ahead, torch.zeros_like(turn), turn, clock]
        parts += [seen[:, :12] - self.pose, 0.1 * seen[:, 12:24], seen[:, 100:112]]
        x = torch.cat(parts, dim=1)
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i < 3:
                x = torch.nn.functional.elu(x)
        return torch.clamp(x, -1.0, 1.0)


@pytest.mark.slow
@pytest.mark.skipif(not WALKER.exists(), reason="the walking policy is not at hand")
def test_the_walking_policy(tmp_path: Path) -> None:
    features = ("egocentric", "clock", "previous_action")
    settings = Settings(features=features, gait_frequency=2.2, action_scale=1.0)
    package.write(tmp_path / "p", Walker(), settings)
    scores = assert_scored_alike(tmp_path / "p", 2)
    assert scores[0].max() > 2  # it walks, and pushes the ball over the goalie's line
    player = package_target(tmp_path / "p").make_player
    (native,), (official,) = (
        play([0], player, tasks=["goalie"]) for play in (play_native, play_official)
    )
    for name, value in native.to_dict().items():
        assert official.to_dict()[name] == pytest.approx(value, abs=1e-6), name
    assert native.first_touch is not None and 1 < native.first_touch < native.seconds
    assert native.ball_speed > 1


def test_sai_rl_loads_the_text(tmp_path: Path) -> None:
    """Its own managers, with its regular expression and its namespace."""
    features = ("egocentric", "clock", "previous_action")
    made = package.write(tmp_path / "p", actor(features), Settings(features=features))
    code = (
        "import sys, numpy as np\n"
        "from sai_rl.model.custom import ActionFunctionManager, PreprocessingManager\n"
        "from sai_rl.model.custom.custom_code_manager import CustomCodeManager\n"
        "p, a = sys.argv[1:]\n"
        "for text in (p, open(p).read()):\n"
        "    made = PreprocessingManager(text)\n"
        "    assert made.has_method('modify_state')\n"
        "    assert type(made._code).__name__ == 'Preprocessor'\n"
        "for text in (a, open(a).read()):\n"
        "    action = ActionFunctionManager(text)\n"
        "    assert action.get_action(np.full((2, 12), 99.0)).max() == 65\n"
        "for path in (p, a):\n"
        "    assert CustomCodeManager.remove_imports(open(path).read()) == open(path).read()\n"
    )
    parts = [str(made.directory / name) for name in (package.PREPROCESSOR, package.ACTION)]
    environment = {**os.environ, "HOME": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", code, *parts],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
def test_the_striker() -> None:
    """The package in the repository, on fewer seeds than its page tells of."""
    path = ROOT / "policies" / "striker"
    told = benchmark(path, 10)
    goalie, obstacle, kick = (np.mean(told[task]["scores"]) for task in game.TASKS)
    assert goalie > 9 and obstacle > 2 and kick > -0.3
    assert (goalie + obstacle + kick) / 3 > 5
