"""The end of a sweep: the best policy against the official game, leaderboard, report."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from booster_ray.soccer import game
from booster_ray.track.publish import publish_best
from booster_ray.train.evaluation import ReturnEvaluator, TaskScores, summarize
from booster_ray.train.policy import first_actor, load_policy
from booster_ray.train.run import replace_text
from booster_ray.tune.leaderboard import (
    comparison_table,
    leaderboard_json,
    leaderboard_markdown,
    leaderboard_table,
)
from booster_ray.tune.records import TrialRecord, rank
from booster_ray.tune.report import importances, write_report
from booster_ray.tune.sweep import SweepRunner, facts
from booster_ray.tune.trial import trial_directory

SEED_OFFSET = 1000
"""Official episodes are played on seeds that no training evaluation used."""


def play_officially(path: Path, episodes: int, console: Console, *, untrained: bool) -> TaskScores:
    """Scores of a checkpoint's policy, ``episodes`` a task, in sai_mujoco itself."""
    from booster_ray.evaluate.__main__ import play  # torch
    from booster_ray.evaluate.target import actor_target, load_actor
    from booster_ray.export.settings import settings_of

    config, module, _ = load_actor(path)
    actor = first_actor(config) if untrained else module
    target = actor_target(str(path), actor, settings_of(config), path)
    seeds = list(range(SEED_OFFSET, SEED_OFFSET + episodes))
    played = [e.to_dict() for e in play(target, "official", seeds, False, console)]
    return {
        task: summarize([{**e, "task": i} for e in played if e["task"] == task], i)
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
    """``best/``: the checkpoint, config and official scores of the best trial."""
    source = Path(record.checkpoint or "")
    temp, best = root / ".best.tmp", root / "best"
    shutil.rmtree(temp, ignore_errors=True)
    shutil.copytree(source, temp / "checkpoint")
    shutil.copy(source.parent / "config.yaml", temp / "config.yaml")
    mean = float(np.mean([s["score"] for s in scores.values()]))
    summary = {"trial": record.trial_id, "params": record.params, "score": mean, "tasks": scores}
    replace_text(temp / "scores.json", json.dumps(summary, indent=2) + "\n")
    shutil.rmtree(best, ignore_errors=True)
    temp.rename(best)
    return best


def _write_leaderboard(root: Path, records: Sequence[TrialRecord]) -> None:
    replace_text(root / "leaderboard.md", leaderboard_markdown(records))
    replace_text(root / "leaderboard.json", json.dumps(leaderboard_json(records), indent=2) + "\n")


def finish(runner: SweepRunner, console: Console) -> None:
    """The leaderboard; the best policy in the official game and through the gates; the report."""
    root = runner.root
    if first := next(iter(rank(runner.records())), None):
        runner.sharing.fetch_run(trial_directory(root, first.number))
    records = runner.records()
    console.print(leaderboard_table(records))
    _write_leaderboard(root, records)  # the gates take minutes
    winner = next((r for r in rank(records) if r.checkpoint), None)
    comparison = None
    if winner is not None and winner.checkpoint:
        episodes = runner.config.evaluation.episodes_per_task
        soccer = runner.config.world.is_soccer
        where = "the official environment" if soccer else runner.config.world.kind
        console.print(f"Playing trial {winner.trial_id} in {where} …")
        checkpoint = Path(winner.checkpoint)
        play = play_officially if soccer else play_returns
        comparison = {
            name: play(checkpoint, episodes, console, untrained=name == "untrained")
            for name in ("untrained", "trained")
        }
        console.print(comparison_table(comparison["untrained"], comparison["trained"]))
        write_best(root, winner, comparison["trained"])
        if soccer and runner.config.tune.gate_trials:
            from booster_ray.tune.gating import gate_best  # torch

            gate_best(runner.config, root, records, runner.sharing, console)
            records = runner.records()
            _write_leaderboard(root, records)
        publish_best(
            runner.config,
            trial_directory(root, winner.number),
            lambda line: console.print(line, markup=False, soft_wrap=True),
        )
    digest = hashlib.sha256((root / "sweep.yaml").read_bytes()).hexdigest()[:12]
    write_report(
        root / "report.html",
        runner.config.name,
        records,
        importances(runner.study),
        comparison,
        facts(runner.config, records, digest, runner.budget),
    )
    runner.sharing.share_results()
    console.print(f"Leaderboard, best policy and report: {root}/report.html")
