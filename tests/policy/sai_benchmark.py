"""Scores a package with sai_rl's own code, offline; a script, because sai_rl reads its HOME early.

    python tests/policy/sai_benchmark.py PACKAGE EPISODES MASTER_SEED

prints one line of JSON: per task the scores and seeds of the episodes.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

EVALUATION = """
import numpy as np

reward_config = {weights}

def evaluation_fn(env, eval_state):
    raw_reward = env.compute_reward()
    raw_reward.update({{"steps": np.float64(1.0)}})
    if not (eval_state.get("terminated") or eval_state.get("truncated")):
        return 0.0, eval_state
    reward = sum(w * float(raw_reward[name]) for name, w in reward_config.items())
    return reward, eval_state
"""
"""The competition's: its weights, paid once, from the environment's own raw terms."""


def main(package: Path, episodes: int, seed: int) -> dict[str, Any]:
    import sai_mujoco  # noqa: F401  (registers the environments)
    from sai_rl.benchmark import run_benchmark
    from sai_rl.env import make_env_factory
    from sai_rl.model import ModelManager
    from sai_rl.types import EnvironmentType, TaskType

    from booster_ray.envs.official import unprefixed_attach
    from booster_ray.soccer import game
    from booster_ray.soccer.scoring import WEIGHTS

    told: dict[str, Any] = {}
    for index, task in enumerate(game.TASKS):
        environment = EnvironmentType.model_validate(
            {
                "id": task,
                "name": task,
                "gymId": game.ENV_IDS[task],
                "type": "gymnasium",
                "actionType": "continuous",
                "package": {"id": "x", "name": "sai_mujoco", "version": "0.1.30"},
            }
        )
        played = TaskType(
            id=task,
            environment=environment,
            evaluationFn=EVALUATION.format(weights=WEIGHTS[task]),
            index=index,
            totalTaskCount=len(game.TASKS),
        )
        # Newer MuJoCo than sai_mujoco knows: the cure holds in the forked workers too.
        with unprefixed_attach():
            factory = make_env_factory(played, True, "any")
            env = factory()
            manager = ModelManager(
                env,
                str(package / "policy.pt"),
                preprocessor_class=str(package / "preprocessor.py"),
                action_function=str(package / "action_function.py"),
            )
            env.close()
            results, _, seeds = run_benchmark(
                env_creator=factory,
                get_actions=lambda obs, info, manager=manager: manager.get_action(obs, info),
                num_envs=episodes,
                seed=seed,
            )
        told[task] = {"scores": [r["score"] for r in results], "seeds": seeds}
    return told


if __name__ == "__main__":
    os.environ["AUTO_APPROVE_CUSTOM_EVAL"] = "true"
    with tempfile.TemporaryDirectory() as home:
        os.environ["HOME"] = home
        package, episodes, seed = sys.argv[1:]
        print(json.dumps(main(Path(package).resolve(), int(episodes), int(seed))))
