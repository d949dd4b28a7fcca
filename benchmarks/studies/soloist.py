"""SAC from random weights (preset soloist): each seed's curve, and what its best policy does.

    python benchmarks/studies/soloist.py --storage results/soloist [--seeds 0 1 2]

trains what is missing, one seed after the other, and goes on with what was killed. Measured of the
best checkpoint of each: official score of 20 episodes a task on seeds that no training saw, how
fast the ball's centre is at the end of a penalty, goals, targets hit, and the score under
randomization level 3. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(ROOT))

from booster_ray.soccer import game
from booster_ray.store.files import CONFIG, read_progress

EPISODES = 20
UNSEEN = 1000
"""First of the seeds that are played."""
STURDY = 3
"""Randomization level."""
BARS = 5.0, 8.3
"""Official scores whose time is told."""


def train(seed: int, storage: Path) -> Path:
    """The run of a seed, to its end.

    Raises:
        subprocess.CalledProcessError: it did not finish.
    """
    run = storage / f"seed_{seed}"
    command = [sys.executable, "-m", "booster_ray.train"]
    if (run / CONFIG).exists():
        command += ["--resume", run.name, "--storage", str(storage)]
    else:
        command += ["soloist", f"name={run.name}", f"seed={seed}", f"storage={storage}"]
    subprocess.run(command, cwd=ROOT, check=True)
    return run


def measured(run: Path) -> dict[str, Any]:
    """What the best checkpoint of a run does."""
    from booster_ray.evaluate.scores import Evaluator, flat_metrics
    from booster_ray.train.policy import load_policy

    out = run / "unseen"
    play = [sys.executable, "-m", "booster_ray.evaluate", str(run), "--episodes", str(EPISODES)]
    subprocess.run([*play, "--seed", str(UNSEEN), "--output", str(out)], cwd=ROOT, check=True)
    told = json.loads((out / "evaluation.json").read_text())
    (best,) = run.glob("best_*")
    config, policy = load_policy(best)
    evaluator = Evaluator(config, EPISODES, 2, level=STURDY)
    sturdy = flat_metrics(evaluator(policy))["score"]
    evaluator.close()
    return {**curve(run), **unseen(told), "level 3": sturdy}


def curve(run: Path) -> dict[str, Any]:
    """Env steps and seconds of the run, and until its own evaluations first reached each bar."""
    reports = read_progress(run)
    found: dict[str, Any] = {
        "env_steps": reports[-1]["env_steps"], "seconds": reports[-1]["wall_seconds"]
    }  # fmt: skip
    for bar in BARS:
        above = [r["wall_seconds"] for r in reports if r.get("score", -9.0) >= bar]
        found[f"seconds to {bar}"] = above[0] if above else None
    return found


def unseen(told: dict[str, Any]) -> dict[str, Any]:
    """Means over the episodes of each task that were played."""
    found = {"score": told["score"]["mean"]}
    found |= {task: told["tasks"][task]["score"]["mean"] for task in game.TASKS}
    for task in game.TASKS[:2]:
        found[f"goal_speed/{task}"] = told["tasks"][task]["goal_speed"]["mean"]
    return found | {
        f"success/{task}": told["tasks"][task]["success"]["mean"] for task in game.TASKS
    }


def main() -> None:
    """The table, and one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--storage", type=Path, default=ROOT / "results" / "soloist")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--measure", type=Path, nargs="+", metavar="RUN", help="train nothing")
    args = parser.parse_args()
    storage = args.storage.resolve()
    storage.mkdir(parents=True, exist_ok=True)
    runs = args.measure or [train(seed, storage) for seed in args.seeds]
    rows = {run.name: measured(run.resolve()) for run in runs}
    names = list(next(iter(rows.values())))
    print("| run |", *(f"{name} |" for name in names))
    print("|---|" + "---|" * len(names))
    for run, row in rows.items():
        print(f"| {run} |", *("– |" if v is None else f"{v:,.2f} |" for v in row.values()))
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
