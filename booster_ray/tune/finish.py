"""The end of a sweep: the best policy against the official game, leaderboard, report."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from booster_ray.evaluate.scores import ReturnEvaluator, TaskScores, task_means
from booster_ray.soccer import game
from booster_ray.store.durable import replace_text
from booster_ray.store.failure import forget_failure, recorded, text_of
from booster_ray.store.files import trial_directory
from booster_ray.train.policy import first_actor, load_policy
from booster_ray.train.publish import publish_best
from booster_ray.tune.details import FILMS, read_details
from booster_ray.tune.leaderboard import (
    comparison_table,
    leaderboard_json,
    leaderboard_markdown,
    leaderboard_table,
)
from booster_ray.tune.records import TrialRecord, rank
from booster_ray.tune.report import importances, write_report
from booster_ray.tune.sweep import SweepRunner, facts

SEED_OFFSET = 1000
"""Official episodes are played on seeds that no training evaluation used."""


def play_officially(path: Path, episodes: int, console: Console, *, untrained: bool) -> TaskScores:
    """Scores of a checkpoint's policy, ``episodes`` a task, in sai_mujoco itself."""
    from booster_ray.evaluate.command import play  # torch
    from booster_ray.evaluate.target import actor_target, checkpoint_actor
    from booster_ray.policy.settings import settings_of

    config, module, _ = checkpoint_actor(path)
    actor = first_actor(config) if untrained else module
    target = actor_target(str(path), actor, settings_of(config), path)
    seeds = list(range(SEED_OFFSET, SEED_OFFSET + episodes))
    played = [e.to_dict() for e in play(target, "official", seeds, False, console)]
    return {
        task: task_means([{**e, "task": i} for e in played if e["task"] == task], i)
        for i, task in enumerate(game.TASKS)
    }


def play_returns(path: Path, episodes: int, console: Console, *, untrained: bool) -> TaskScores:
    """Outside the game: the mean return in the environment that it was trained in."""
    config, policy = load_policy(path, untrained=untrained)
    evaluator = ReturnEvaluator(config, episodes, threads=1)
    played = evaluator(policy)
    evaluator.close()
    return played


def write_best(root: Path, record: TrialRecord, scores: TaskScores) -> Path:
    """``best/``: the checkpoint, config and official scores of the best trial's best seed."""
    source = Path(record.checkpoint or "")
    temp, best = root / ".best.tmp", root / "best"
    shutil.rmtree(temp, ignore_errors=True)
    shutil.copytree(source, temp / "checkpoint")
    shutil.copy(source.parent / "config.yaml", temp / "config.yaml")
    mean = float(np.mean([s["score"] for s in scores.values()]))
    seed = {"best_seed": record.best_run} if record.seeds > 1 else {}
    summary = {
        "trial": record.trial_id,
        **seed,
        "params": record.params,
        "score": mean,
        "tasks": scores,
    }
    replace_text(temp / "scores.json", json.dumps(summary, indent=2) + "\n")
    shutil.rmtree(best, ignore_errors=True)
    temp.rename(best)
    return best


def _write_leaderboard(root: Path, records: Sequence[TrialRecord]) -> None:
    replace_text(root / "leaderboard.md", leaderboard_markdown(records))
    replace_text(root / "leaderboard.json", json.dumps(leaderboard_json(records), indent=2) + "\n")


def failures(records: Sequence[TrialRecord]) -> str:
    """How many trials have failed, and what most of them say, in one line; empty: none has."""
    failed = [record for record in records if record.status == "ERROR"]
    if not failed:
        return ""
    # Alike but for numbers: steps, values, times.
    kinds = Counter(re.sub(r"\d+", "#", record.error or "") for record in failed)
    common, count = kinds.most_common(1)[0]
    first = next(r for r in failed if re.sub(r"\d+", "#", r.error or "") == common)
    whole = len(failed) == len(records)
    many = f"all {len(failed)}" if whole else f"{len(failed)} of {len(records)}"
    noun = "trial" if len(records) == 1 else "trials"
    times = f" ({count} times)" if 1 < count < len(failed) else ""
    said = " ".join((first.error or "without a word").split())
    return f"{many} {noun} failed: trial {first.label}{times}: {said}"


def results(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Trials whose policies are results of the sweep, the best first.

    What an untrained policy scored before its trial failed is none.
    """
    scored = [record for record in rank(records) if record.best_score is not None]
    return [r for r in scored if r.status != "ERROR" or r.best_report["env_steps"] > 0]


def finish(runner: SweepRunner, console: Console) -> int:
    """The leaderboard; the best policy in the official game and through the gates; the report.

    Returns:
        The exit code: 0, or 1 where every trial has failed, none has a score, or the best policy
        cannot be played.
    """
    root = runner.root
    if first := next(iter(results(runner.records())), None):
        runner.sharing.fetch_run(trial_directory(root, first.number, first.best_run))
    records = runner.records()
    console.print(leaderboard_table(records))
    _write_leaderboard(root, records)  # the gates take minutes
    winner = next((record for record in results(records) if record.checkpoint), None)
    comparison, unplayed = None, ""
    forget_failure(root)
    if winner is not None:
        try:
            with recorded(root):  # of the user's own world anything may come
                comparison = _present(runner, records, winner, console)
        except Exception as error:
            unplayed = f"the best policy cannot be played: {text_of(root, error)}"
        records = runner.records()
        _write_leaderboard(root, records)
    digest = hashlib.sha256((root / "sweep.yaml").read_bytes()).hexdigest()[:12]
    write_report(
        root / "report.html",
        runner.config.name,
        records,
        importances(runner.study.scored()),
        comparison,
        facts(runner.config, records, digest, runner.budget),
        read_details(root, runner.config.name, records),
    )
    runner.sharing.share_results()
    best = ", best policy" if comparison else ""
    _say(console, f"Leaderboard{best} and report: {root}/report.html")
    return _verdict(root, records, winner, unplayed, console)


def _present(
    runner: SweepRunner, records: Sequence[TrialRecord], winner: TrialRecord, console: Console
) -> dict[str, TaskScores]:
    """Play the best policy, put it through the gates and publish it; its scores and untrained."""
    config, root, checkpoint = runner.config, runner.root, Path(winner.checkpoint or "")
    episodes, soccer = config.evaluation.episodes_per_task, config.world.is_soccer
    where = "the official environment" if soccer else config.world.kind
    console.print(f"Playing trial {winner.label} in {where} …")
    play = play_officially if soccer else play_returns
    comparison = {
        name: play(checkpoint, episodes, console, untrained=name == "untrained")
        for name in ("untrained", "trained")
    }
    console.print(comparison_table(comparison["untrained"], comparison["trained"]))
    best = write_best(root, winner, comparison["trained"])
    if soccer and config.tune.films:
        _film(best, console)
    if soccer and config.tune.gate_trials:
        from booster_ray.tune.gating import gate_best  # torch

        gate_best(config, root, records, runner.sharing, console)
    run = trial_directory(root, winner.number, winner.best_run)
    publish_best(config, run, lambda line: _say(console, line))
    return comparison


def _film(best: Path, console: Console) -> None:
    """A film of the best policy in each task, for the report; without a renderer none.

    In a process of its own: which library draws is settled when MuJoCo loads, long ago here.
    """
    console.print("Filming it …")
    played = ["--world", "official", "--episodes", "1", "--seed", str(SEED_OFFSET)]
    with tempfile.TemporaryDirectory(prefix="booster_ray-") as scratch:
        done = subprocess.run(
            [sys.executable, "-m", "booster_ray.evaluate", str(best / "checkpoint"), *played,
             "--video", "--output", scratch],
            env={**os.environ, "JAX_PLATFORMS": "cpu"}, capture_output=True, text=True,
        )  # fmt: skip
        films = sorted(Path(scratch).glob("*-median.mp4"))
        if not films:
            last = (done.stdout + done.stderr).strip().splitlines()[-1:]
            _say(console, f"No films: {' '.join(last).removeprefix('No video: ')}")
            return
        (best / FILMS).mkdir()
        for film in films:
            task = film.stem.removesuffix("-median")
            shutil.copy(film, best / FILMS / f"{task}.mp4")


def _verdict(
    root: Path,
    records: Sequence[TrialRecord],
    winner: TrialRecord | None,
    unplayed: str,
    console: Console,
) -> int:
    """Say what has failed, last of all; returns the exit code."""
    failed = failures(records)
    if unplayed:
        print(f"error: {unplayed}", file=sys.stderr)
        return 1
    if winner is not None and any(record.status != "ERROR" for record in records):
        if failed:
            _say(console, f"warning: {failed}")
        return 0
    if not failed:
        failed = f"none of {len(records)} trials has a score"
    first = next((record for record in records if record.status == "ERROR"), None)
    where = "" if first is None else f"; see {trial_directory(root, first.number)}"
    print(f"error: {failed}{where}", file=sys.stderr)
    return 1


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
