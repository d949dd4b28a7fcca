"""``python -m booster_ray.pipeline STAGE [PIPELINE] [key=value …]``: the whole way, in stages."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from typing import Any

from booster_ray.config import ConfigError
from booster_ray.config.errors import choices, hint
from booster_ray.deploy.pipeline.definition import STAGES, Folder, Pipeline, read

DESCRIPTION = """Run one stage of the pipeline, or all of them: setup, pretrain, convert, finetune,
submit. PIPELINE is a folder with pretrain.yaml and finetune.yaml, a name in
tune_configs/pipelines, or one config for both. A killed stage goes on when it is called again; a
finished one is not repeated. Exit code: 0 finished, 1 refused by a check, a gate or a threshold,
2 bad input, 130 stopped."""

DEFAULT = "score"
ALL = "all"


def main(argv: list[str]) -> int:
    """Run a stage, or all; see ``DESCRIPTION`` for exit codes."""
    from booster_ray.cli import changes

    args = _parser().parse_intermixed_args(argv)
    if args.stage not in (ALL, *STAGES):
        text = f"is '{args.stage}', expected {choices([ALL, *STAGES])}"
        raise ConfigError("command line", "STAGE", text + hint(args.stage, [ALL, *STAGES]))
    changed = changes(args)
    if args.resume and args.config:
        raise ConfigError("command line", "--resume", "takes no pipeline, expected only a name")
    if args.stage == ALL:
        if not args.resume:
            read(args.config or DEFAULT, args.overrides)  # bad input is refused before anything
        rest = list(argv)
        rest.remove(ALL)
        return _run_all(rest)
    return _run(args, changed)


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m booster_ray.pipeline", description=DESCRIPTION)
    p.add_argument("stage", metavar="STAGE", help=f"{', '.join(STAGES)} or {ALL}")
    text = f"folder, name or config; {DEFAULT}"
    p.add_argument("config", nargs="?", metavar="PIPELINE", help=text)
    text = "replace a setting; pretrain.key=value for one stage alone"
    p.add_argument("overrides", nargs="*", metavar="key=value", help=text)
    p.add_argument("--resume", metavar="NAME", help="go on with the pipeline NAME")
    p.add_argument("--storage", default="results", help="where it is kept, with --resume")
    return p


def _run(args: argparse.Namespace, changed: list[str]) -> int:
    from booster_ray.deploy.pipeline.stages import Job, run_stage
    from booster_ray.runtime.versions import check_versions

    check_versions()
    if args.resume:
        folder = Folder(args.storage, args.resume)
        job = Job(folder.reopen(), folder, changed)
    else:
        if args.config and "=" in args.config:  # of the default pipeline
            args.overrides, args.config = [args.config, *args.overrides], None
        pipeline = read(args.config or DEFAULT, args.overrides)
        folder = _folder(pipeline, args.stage)
        folder.begin(pipeline)
        job = Job(pipeline, folder)
    code = run_stage(args.stage, job)
    if code == 130:
        storage = job.pipeline.config(args.stage).storage
        where = "" if storage == "results" else f" --storage {storage}"
        again = f"{args.stage} --resume {job.pipeline.name}{where}"
        print(f"The pipeline goes on with:\n  python -m booster_ray.pipeline {again}", flush=True)
    return code


def _folder(pipeline: Pipeline, stage: str) -> Folder:
    config = pipeline.config(stage)
    if stage == "setup":
        from booster_ray.deploy.pipeline import catalog

        for line in catalog.ensure(config.storage):
            print(line, flush=True)
    return Folder(config.storage, pipeline.name)


def _run_all(rest: list[str]) -> int:
    """The stages one after the other, each in a process of its own; the first code that is not 0.

    What a stage sets before JAX loads is so its own. Signals are passed on.
    """
    from booster_ray.runtime.signals import heard

    running: subprocess.Popen[bytes] | None = None
    stopped = False

    def stop(signum: int, _frame: Any) -> None:
        nonlocal stopped
        stopped = True
        # A Ctrl-C comes from the terminal, which has told the stage already.
        if running is not None and signum != signal.SIGINT:
            running.send_signal(signum)

    for signum in heard():
        signal.signal(signum, stop)
    for stage in STAGES:
        if stopped:
            return 130
        running = subprocess.Popen([sys.executable, "-m", "booster_ray.pipeline", stage, *rest])
        code = running.wait()
        if code:
            return code if code > 0 else 128 - code
    return 0
