"""Finetuning with thawing and annealing, and without, side by side from the same policies.

    python benchmarks/studies/thawing.py START [START …] [--preset demonstrated] [--storage DIR]

Each START is a run, sweep or checkpoint that stands (``stand.yaml``, with the changes that the
preset names); the n-th is finetuned with seed n by the preset and by its ablation,
``PRESET_plain``, at the same time, a core each. Runs that are in ``--storage`` already are gone on
with. Scores are official, the mean of the tasks, in the evaluations of the runs; the last line is
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from booster_ray.store.files import CONFIG, read_progress

VARIANTS = {"": "thawing and annealing", "_plain": "neither"}
"""What a preset's name ends with."""
Running = subprocess.Popen[bytes]
Curve = list[tuple[int, float]]
"""(env steps, official score)."""


def launch(preset: str, start: Path, seed: int, options: list[str], storage: Path) -> Running:
    """One run in a process of its own, or what is left of it."""
    name = f"{preset}_{seed}"
    command = [sys.executable, "-m", "booster_ray.train"]
    if (storage / name / CONFIG).exists():
        command += ["--resume", name, "--storage", str(storage)]
    else:
        command += [
            str(ROOT / "tune_configs" / f"{preset}.yaml"), f"name={name}", f"seed={seed}",
            f"start_from={start.resolve()}", f"storage={storage}", "trainer.cpus=1", *options,
        ]  # fmt: skip
    return subprocess.Popen(command, cwd=ROOT)


def curve(run: Path) -> Curve:
    """Every evaluation of a run."""
    return [(int(r["env_steps"]), r["score"]) for r in read_progress(run) if "score" in r]


def table(curves: dict[str, list[Curve]]) -> str:
    """Markdown: a row for each evaluation, a column for each run."""
    runs = [(VARIANTS[v], n, dict(c)) for v, each in curves.items() for n, c in enumerate(each, 1)]
    steps = sorted({step for _, _, run in runs for step in run})
    lines = [["env steps", *(f"{what}, seed {seed}" for what, seed, _ in runs)]]
    lines += [["---"] * len(lines[0])]
    lines += [
        [f"{step:,}", *(f"{run[step]:.2f}" if step in run else "–" for _, _, run in runs)]
        for step in steps
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plot(curves: dict[str, list[Curve]], file: Path) -> None:
    """All runs, a colour for each variant."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.add_subplot(xlabel="env steps", ylabel="official score, mean of the tasks")
    for colour, (variant, each) in zip(("C0", "C1"), curves.items(), strict=True):
        for number, points in enumerate(each):
            label = VARIANTS[variant] if number == 0 else None
            axes.plot(*zip(*points, strict=True), color=colour, label=label)
    axes.axhline(statistics.mean(c[0][1] for c in curves[""]), color="grey", ls=":")
    axes.legend(loc="lower right")
    FigureCanvasSVG(figure).print_svg(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("starts", nargs="+", type=Path, metavar="START")
    parser.add_argument("--preset", choices=["demonstrated", "finetune"], default="demonstrated")
    parser.add_argument("--env-steps", type=int, help="default: the preset's")
    parser.add_argument("--storage", type=Path, help="default: a temporary folder")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="an SVG of the curves")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        storage = (args.storage or Path(scratch)).resolve()
        curves: dict[str, list[Curve]] = {variant: [] for variant in VARIANTS}
        options = [f"training.env_steps={args.env_steps}"] if args.env_steps else []
        for seed, start in enumerate(args.starts, 1):
            running = [
                launch(args.preset + variant, start, seed, options, storage) for variant in VARIANTS
            ]
            if max(process.wait() for process in running):
                raise SystemExit("a run did not finish; the same command goes on")
            for variant in VARIANTS:
                curves[variant].append(curve(storage / f"{args.preset}{variant}_{seed}"))
        print(table(curves))
        if args.plot:
            plot(curves, args.plot)
    found = {
        args.preset + variant: {
            "first": [points[0][1] for points in each],
            "best": [max(score for _, score in points) for points in each],
            "last": [points[-1][1] for points in each],
        }
        for variant, each in curves.items()
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
