"""The five stages of the pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from booster_ray.config import ConfigError, Sweep
from booster_ray.deploy.pipeline import training
from booster_ray.deploy.pipeline.definition import Folder, Pipeline, of_stage
from booster_ray.evaluate.gates.run import gate_once
from booster_ray.evaluate.target import checkpoint_actor
from booster_ray.policy.actor_files import save_actor
from booster_ray.policy.contract import contract_of
from booster_ray.policy.settings import settings_of
from booster_ray.store.model_folder import CHECKPOINT


def convert(files: Path, folder: Path, say: Callable[[str], object]) -> bool:
    """Write ``gates.json`` and, where the gate is passed, ``actor/``; what is there is kept.

    Args:
        files: of the version, verified.
        folder: of what is written.
        say: is given the gate's numbers.

    Returns:
        Whether gate 2 was passed.

    Raises:
        CheckpointError: the policy cannot be converted, or a file of it acts differently.
    """
    source = files / CHECKPOINT
    folder.mkdir(parents=True, exist_ok=True)
    gate = gate_once(folder, source, (2,))["gates"]["2"]
    if gate["passed"]:
        gap = gate["numbers"]["max_difference"]["torque"]
        steps = gate["numbers"]["control_steps"]
        say(f"Gate 2 passed: max |Δ torque| {gap:.1e} N·m over {steps:,} control steps")
    else:
        say(f"Gate 2 FAILED: {'; '.join(gate['advice'])}")
    if gate["passed"] and not (folder / "actor").exists():
        actor = checkpoint_actor(source)
        told = contract_of(settings_of(actor.config))
        save_actor(actor.module, folder / "actor", {"config": actor.config.to_dict()}, told)
    return bool(gate["passed"])


GATE_2 = "gate_2"
"""Tag of a version: ``passed`` or ``failed``."""
CHECKS = ("versions", "storage", "disk", "trackers", "ray")
"""Of the doctor's, those that tell something on a machine which trains nothing."""
CHECK_SECONDS = 300
"""Longest for each: a machine that has just started loads everything for the first time."""

Facts = dict[str, Any]
"""What a stage made, as JSON."""


class Refused(Exception):
    """A check, a gate or a threshold said no: one line, exit code 1."""


class Stopped(Exception):
    """A stage was stopped and can go on: its command's exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Job:
    """What a stage is given."""

    pipeline: Pipeline
    folder: Folder
    changes: Sequence[str] = ()
    """``key=value`` arguments beside ``--resume``."""

    def training(self, stage: str) -> tuple[Sweep, list[str]]:
        """Config and changes of a stage that trains."""
        return self.pipeline.sweeps[stage], of_stage(stage, self.changes)


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def run_stage(stage: str, job: Job) -> int:
    """Run one stage: 0 finished, 1 refused by a check, gate or threshold, 130 stopped.

    Raises:
        ConfigError, CheckpointError, StorageError: bad input; one line says what.
    """
    from booster_ray.store.folder import lock

    with lock(job.folder.path):
        began, done = time.monotonic(), job.folder.done(stage)
        try:
            facts = _STAGES[stage](job, done)
        except Refused as why:
            say(f"{stage}: {why}")
            return 1
        except Stopped as stopped:
            return stopped.code
        if facts == done:
            say(f"{stage}: finished before{_told(facts)}")
            return 0
        job.folder.finish(stage, {**facts, "seconds": round(time.monotonic() - began, 1)})
        say(f"{stage}: finished{_told(facts)}")
        return 0


def _told(facts: Facts) -> str:
    known = {key: facts.get(key) for key in ("version", "package", "submission")}
    return "".join(f", {key} {value}" for key, value in known.items() if value is not None)


def _setup(job: Job, done: Facts | None) -> Facts:
    """This machine is fit, the storage can be written, the registry answers."""
    from booster_ray.deploy.doctor.command import QUICK, environment
    from booster_ray.deploy.doctor.findings import run_checks
    from booster_ray.deploy.doctor.text import finding_lines
    from booster_ray.track.registry import model_name, open_registry

    if done:
        return done
    config = job.pipeline.config("setup")
    checks = [check._replace(seconds=CHECK_SECONDS) for check in QUICK if check.name in CHECKS]
    findings = run_checks(checks, config, environment(config))
    for line in finding_lines(findings):
        say(line)
    if any(one.verdict == "fail" for one in findings):
        raise Refused("a check failed")
    registry, name = open_registry(config), model_name(config)
    say(f"{len(registry.versions(name))} versions of {name} in {registry.where}")
    return {"registry": registry.where}


def _pretrain(job: Job, done: Facts | None) -> Facts:
    """SAC to the end; the best policy is registered."""
    return done or _trained(job, "pretrain", ())


def _convert(job: Job, done: Facts | None) -> Facts:
    """The candidate becomes a torch actor, once gate 2 has found that it acts alike."""
    from booster_ray.evaluate.command import prepare

    config = job.pipeline.config("convert")
    registry, version = training.candidate(config, "pretrain", "convert")
    if done and done["version"] == version.number:
        return done
    prepare()

    files = training.files_of(config, registry, version, "convert")
    folder = job.folder.path / "convert" / f"v{version.number}"
    passed = convert(files, folder, say)
    job.folder.publish_all(folder)
    registry.set_tag(version, GATE_2, "passed" if passed else "failed")
    if not passed:
        raise Refused(f"version {version.number} failed gate 2: the torch actor acts otherwise")
    return {"version": version.number, "actor": f"convert/v{version.number}/actor"}


def _finetune(job: Job, done: Facts | None) -> Facts:
    """DDPG in the official game from the converted candidate; gates; registered."""
    if done:
        return done
    sweep, _ = job.training("finetune")
    start: tuple[str, ...] = ()
    if not training.begun(sweep):
        config = sweep.base()
        _, version = training.candidate(config, "pretrain", "finetune")
        if version.tags.get(GATE_2) != "passed":
            who = f"{version.name} version {version.number}"
            raise ConfigError("finetune", f"{who} is not through gate 2; the stage convert does it")
        start = (f"start_from={training.reference_of(config, version)}",)
    return _trained(job, "finetune", start)


def _submit(job: Job, done: Facts | None) -> Facts:
    """The finetuned candidate becomes a package, champion if it may, and a submission."""
    from booster_ray.evaluate.command import prepare

    config = job.pipeline.config("finetune")
    registry, version = training.candidate(config, "finetune", "submit")
    if done and done["version"] == version.number and done["submission"]:
        return done
    prepare()
    from booster_ray.deploy.pipeline import submission

    files = training.files_of(config, registry, version, "submit")
    package = submission.package(job.folder, version, files)
    gate_3 = submission.promote(config, registry, version, files, say)
    if gate_3 is False:
        raise Refused(f"version {version.number} failed gate 3, not submitted: {package}")
    made = submission.submit(job.folder, version, package, gate_3, say)
    return {"version": version.number, "package": str(package), "submission": made}


_STAGES: Mapping[str, Callable[[Job, Facts | None], Facts]] = {
    "setup": _setup,
    "pretrain": _pretrain,
    "convert": _convert,
    "finetune": _finetune,
    "submit": _submit,
}


def _trained(job: Job, stage: str, start: tuple[str, ...]) -> Facts:
    """Train to the end, put the best through the gates, and register it."""
    sweep, changes = job.training(stage)
    config = sweep.base()
    # Not registered by the run itself where gates follow: a version tells what they said.
    later = ("models.registry=none",) if stage == "finetune" else ()
    code = training.train(job.folder.definition(stage), sweep, changes, (*start, *later))
    if code:
        raise Stopped(code)
    best = training.best_of(sweep)
    if best is None:
        raise Refused(f"{config.name} has no policy with a score")
    if stage == "finetune":
        # What a submission needs at least; all where the config has its best play the gates.
        told = training.judge(config, best.run, (1, 2, 3) if config.tune.gate_trials else (2,))
        gates = told["gates"].items()
        verdicts = (f"{number} {'passed' if one['passed'] else 'FAILED'}" for number, one in gates)
        say("Gates: " + ", ".join(verdicts))
    version = training.register(config, best, say)
    if version is None:
        raise Refused("no version of the model was made, see above")
    return {"version": version.number, "run": config.name, "policy": version.tags["policy"]}
