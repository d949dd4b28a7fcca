"""What each setting is worth: runs that differ in it alone, several seeds, equal budgets.

    python benchmarks/studies/ablations.py [TABLE …] [--storage DIR] [--seeds 3]

Two runs at a time, a core each. Randomization and symmetry are tried on ``striker.yaml`` (needs
``BOOSTER_GYM_T1_WALK``), finetuning from its runs, critics on ``stand.yaml``. Every run's last
policy plays 20 official episodes a task, and 20 under randomization level 3, whose factors are
drawn anew for each; a cell is the mean of the seeds, ± their standard deviation. Runs that are in
``--storage`` already are gone on with, or only read. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from booster_ray.soccer import game
from booster_ray.store.files import CONFIG, read_progress

CORES = 2
EPISODES = 20
LEVEL = 3
MEASURED = "ablation.json"


class Variant(NamedTuple):
    """Runs of one preset with some settings of their own."""

    preset: str
    env_steps: int
    settings: tuple[str, ...] = ()
    start: Variant | None = None
    """Whose run of the same seed it starts from."""

    def name(self, seed: int) -> str:
        """Of a run: the same settings are the same run, in whatever table they stand."""
        digest = hashlib.sha256(repr((self.env_steps, self.settings)).encode()).hexdigest()[:6]
        return f"{self.preset}_{digest}_{seed}"


def striker(*settings: str) -> Variant:
    """120,000 env steps of imitation."""
    return Variant("striker", 120_000, settings)


def finetuned(*settings: str) -> Variant:
    """60,000 env steps of DDPG from there."""
    return Variant("striker_finetune", 60_000, settings, start=striker())


def stand(*settings: str) -> Variant:
    """200,000 env steps of SAC; the returns of standing reach 95."""
    return Variant("stand", 200_000, settings)


THAWING = (
    "ddpg.thawing=[{start: 0, layers: 1, lr: 1e-5}, {start: 10000, layers: 2, lr: 1e-5}, "
    "{start: 20000, layers: null, lr: 1e-5}]"
)
ANNEALING = "ddpg.dense=[[0, 1], [1, 0.1]]", "ddpg.official=[[0, 0.1], [1, 1]]"
TABLES = {
    "randomization": {
        "level 0": striker(),
        **{f"level {n}": striker(f"randomization.level={n}") for n in (1, 2, 3)},
    },
    "symmetry": {"none": striker(), "augment": striker("sac.symmetry=augment")},
    "finetuning": {
        "none": striker(),
        "thawing and annealing": finetuned(THAWING, *ANNEALING),
        "neither": finetuned(),
    },
    "critics": {
        "scalar": stand(),
        "C51": stand("sac.critic=c51", "sac.v_max=120", "sac.v_min=-20"),
    },
}


def train(variant: Variant, seed: int, storage: Path) -> None:
    """One run in a process of its own, or what is left of it, and its last policy's measure.

    Raises:
        subprocess.CalledProcessError: it did not finish.
    """
    name = variant.name(seed)
    command = [sys.executable, "-m", "booster_ray.train"]
    start = [f"start_from={storage / variant.start.name(seed)}"] if variant.start else []
    if (storage / name / CONFIG).exists():
        command += ["--resume", name, "--storage", str(storage)]
    else:
        command += [
            variant.preset, f"name={name}", f"seed={seed}", f"storage={storage}",
            f"training.env_steps={variant.env_steps}", f"evaluation.every={variant.env_steps}",
            f"checkpoint.every_env_steps={variant.env_steps}",
            "trainer.cpus=1", *variant.settings, *start,
        ]  # fmt: skip
    with (storage / f"{name}.log").open("a") as log:
        subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, check=True)
        measure = [sys.executable, __file__, "--measure", str(storage / name)]
        subprocess.run(measure, cwd=ROOT, stdout=log, stderr=log, check=True)
    print(f"{name} {variant.settings}: {read(storage / name)}", flush=True)


def measure(run: Path) -> None:
    """Play a finished run's last policy, as trained and randomized, and write it down once."""
    if (run / MEASURED).exists():
        return
    from booster_ray.evaluate.scores import Evaluator, flat_metrics
    from booster_ray.train.policy import load_policy

    config, policy = load_policy(max(run.glob("step_*")))
    found = {}
    for what, level in (("score", 0), ("robustness", LEVEL)):
        evaluator = Evaluator(config, EPISODES, 1, level=level)
        played = flat_metrics(evaluator(policy))
        evaluator.close()
        found[what] = played["score"]
        if not level:
            found |= {task: played[f"score/{task}"] for task in game.TASKS}
            found["survival"] = statistics.mean(played[f"survival/{t}"] for t in game.TASKS)
    (run / MEASURED).write_text(json.dumps(found) + "\n")


def read(run: Path) -> dict[str, float]:
    """What :func:`measure` wrote, and the seconds of training."""
    seconds = read_progress(run)[-1]["wall_seconds"]
    return {**json.loads((run / MEASURED).read_text()), "train_seconds": seconds}


def table(title: str, rows: dict[str, Variant], seeds: Sequence[int], storage: Path) -> list[str]:
    """Markdown: a row for each variant."""
    columns = ["score", *game.TASKS, "robustness", "survival"]
    lines = [f"| {title} | {' | '.join(columns)} | seeds' scores |", "|---" * 8 + "|"]
    for label, variant in rows.items():
        runs = [read(storage / variant.name(seed)) for seed in seeds]
        cells = [_spread([run[column] for run in runs]) for column in columns]
        scores = ", ".join(f"{run['score']:.2f}" for run in runs)
        lines.append(f"| {label} | {' | '.join(cells)} | {scores} |")
    return lines


def _spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.2f} ± {deviation:.2f}"


def _jobs(tables: Sequence[str], seeds: Sequence[int]) -> Iterator[list[tuple[Variant, int]]]:
    """Every run once, however many tables it stands in; first those that others start from."""
    found = {(v, seed): None for seed in seeds for t in tables for v in TABLES[t].values()}
    yield [job for job in found if job[0].start is None]
    yield [job for job in found if job[0].start is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(TABLES)}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--storage", type=Path, help="default: a temporary folder")
    parser.add_argument("--measure", type=Path, metavar="RUN", help="play a run's last policy")
    args = parser.parse_args()
    if args.measure:
        return measure(args.measure)
    tables, seeds = args.tables or list(TABLES), range(1, args.seeds + 1)
    if unknown := set(tables) - set(TABLES):
        parser.error(f"{', '.join(sorted(unknown))}: no such table, expected {', '.join(TABLES)}")
    with tempfile.TemporaryDirectory() as scratch:
        storage = (args.storage or Path(scratch)).resolve()
        storage.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(CORES) as pool:
            for jobs in _jobs(tables, seeds):
                list(pool.map(lambda job: train(*job, storage), jobs))
        found = {}
        for title in tables:
            print("\n".join(["", *table(title, TABLES[title], seeds, storage)]))
            found[title] = {
                label: statistics.mean(read(storage / v.name(seed))["score"] for seed in seeds)
                for label, v in TABLES[title].items()
            }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
