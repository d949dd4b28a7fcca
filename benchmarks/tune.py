"""What the sweep's machinery costs beside the training that it runs.

    python benchmarks/tune.py [--env-steps 60000] [--rounds 3] [--trials 100]
    python benchmarks/tune.py --scale [--running 100] [--whole]

Two one-core trials at the default sizes run through the whole stack, and the same two loops bare,
side by side, in turn; then many trials of a trivial objective on a simulated cluster of 16 nodes
(``--trials 1000`` takes long on two cores, ``--trials 0`` leaves it out).

``--scale`` alone measures a driver of 1,000 trials of 200 reports, 100 at a time, without Ray's
processes (see ``parts/tune_scale.py``): the last tenth of the sweep, where all is at its largest,
resumed with 900 trials behind it; or, ``--whole``, all of it in one driver. Then what its report
takes, and its trackers. Storage is a temporary folder. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from parts import tune_loops

SCALE = "import sys, json; from pathlib import Path; from parts import tune_scale; "
SCALE += "print(json.dumps(getattr(tune_scale, sys.argv[1])(Path(sys.argv[2]), "
SCALE += "*map(int, sys.argv[3:]))))"
MANY = "import sys, json; from pathlib import Path; from parts.tune_many import many_trials; "
MANY += "print(json.dumps(many_trials(Path(sys.argv[1]), int(sys.argv[2]))))"


def many(storage: Path, trials: int) -> dict[str, float]:
    """A simulated cluster's driver."""
    return apart(MANY, storage, trials)


def scale(storage: Path, trials: int, reports: int, running: int, whole: bool) -> dict[str, float]:
    """A driver of many trials, its report and its trackers; each in its own process."""
    begun = 0 if whole else trials - running
    if begun:
        apart(SCALE, "drive", storage, begun, begun, reports, min(10, running))
    found = apart(SCALE, "drive", storage, trials, begun, reports, running)
    return found | apart(SCALE, "track", storage)


def apart(code: str, *arguments: object) -> dict[str, float]:
    """What ``code`` prints last, in a process of its own: its memory is measured."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=Path(__file__).parent, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--env-steps", type=int, default=60_000, help="of each loop")
    parser.add_argument("--rounds", type=int, default=3, help="0: none")
    parser.add_argument("--trials", type=int, default=100, help="of the trivial objective")
    parser.add_argument("--scale", action="store_true", help="1,000 trials of 200 reports, alone")
    parser.add_argument("--whole", action="store_true", help="the whole sweep, not its last tenth")
    parser.add_argument("--running", type=int, default=100, help="trials at a time (--scale)")
    parser.add_argument("--size", type=int, nargs=2, default=(1000, 200), help="(--scale)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        storage = Path(folder)
        if args.scale:
            found = scale(storage, *args.size, args.running, args.whole)
            print(json.dumps({key: round(value, 3) for key, value in found.items()}))
            return
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
