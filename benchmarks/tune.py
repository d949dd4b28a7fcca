"""What the sweep's machinery costs beside the training that it runs.

    python benchmarks/tune.py [--env-steps 60000] [--rounds 3] [--trials 100]

Two one-core trials at the default sizes run through the whole stack, and the same two loops bare,
side by side, in turn; then many trials of a trivial objective on a simulated cluster of 16 nodes
(``--trials 1000`` takes long on two cores, ``--trials 0`` leaves it out). Storage is a temporary
folder. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from parts import tune_loops

MANY = "import sys, json; from pathlib import Path; from parts.tune_many import many_trials; "
MANY += "print(json.dumps(many_trials(Path(sys.argv[1]), int(sys.argv[2]))))"


def many(storage: Path, trials: int) -> dict[str, float]:
    """In a process of its own: its memory is measured."""
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(storage), str(trials)],
        cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--env-steps", type=int, default=60_000, help="of each loop")
    parser.add_argument("--rounds", type=int, default=3, help="0: none")
    parser.add_argument("--trials", type=int, default=100, help="of the trivial objective")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        storage = Path(folder)
        found = side_by_side(storage, args.rounds, args.env_steps) if args.rounds else {}
        if args.trials:
            found |= many(storage / "many", args.trials)
    print(json.dumps({key: round(value, 3) for key, value in found.items()}))


def side_by_side(storage: Path, rounds: int, env_steps: int) -> dict[str, float]:
    """Medians over rounds of two loops through the whole stack and bare, in turn."""
    tune_loops.warm_up(storage)
    stack, bare, starts = [], [], []
    for number in range(rounds):
        bare.append(tune_loops.bare(storage, f"bare{number}", env_steps))
        rate, start = tune_loops.through_the_stack(storage, f"stack{number}", env_steps)
        stack.append(rate)
        starts.append(start)
        print(
            f"round {number + 1}: bare {bare[-1]:,.0f} env steps/s, through the stack "
            f"{rate:,.0f}; suggestion to first env step {start:.1f} s",
            flush=True,
        )
    ratios = [through / alone for through, alone in zip(stack, bare, strict=True)]
    return {
        "sweep_efficiency": statistics.median(ratios),
        "trial_start_seconds": statistics.median(starts),
        "env_steps_per_second": statistics.median(stack),
    }


if __name__ == "__main__":
    main()
