"""Fill the compilation caches with what a config's runs compile, before they start.

For images and pools of machines: a trial on a machine whose cache is filled, or that shares one,
reads its programs in place of compiling them.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from booster_ray.config import Config
from booster_ray.deploy.doctor.findings import Finding
from booster_ray.deploy.doctor.memory import MB
from booster_ray.runtime.environment import CACHE, WARP_CACHE


def check(config: Config) -> list[Finding]:
    """Train until the first updates are made, evaluating as a run does; nothing is saved.

    To be called in a fresh process that has the environment of the config's runs. Programs depend
    on the config's sizes, so it takes the memory that a run takes.
    """
    from booster_ray.train.runner import Runner

    folders = [Path(os.environ[name]) for name in (CACHE, WARP_CACHE) if name in os.environ]
    before, began = _held(folders), time.monotonic()
    runner = Runner(_until_it_learns(config))
    try:
        for _ in runner:
            pass
    finally:
        runner.close()
    seconds, after = time.monotonic() - began, _held(folders)
    files, size = after[0] - before[0], (after[1] - before[1]) / MB
    where = ", ".join(map(str, folders))
    text = f"{files} new files, {size:.1f} MB, in {where}; with their making the start took "
    details = {"files": files, "mb": size, "seconds": seconds}
    return [Finding("compile", "ok", f"{text}{seconds:.0f} s", details=details)]


def _until_it_learns(config: Config) -> Config:
    """The config with a budget that ends once every program of a run has run."""
    settings = config.ddpg if config.stage == "finetune" else config.sac
    steps = config.world.num_envs * (settings.n_step + 1)
    if not config.world.on_device:  # there one dispatch holds all of it, learning or not
        steps += settings.learning_starts
    training = config.training.model_copy(update={"env_steps": steps, "report_every": steps})
    return config.model_copy(update={"training": training})


def _held(folders: list[Path]) -> tuple[int, int]:
    """Files below the folders, and their bytes."""
    files = [f for folder in folders for f in folder.rglob("*") if f.is_file()]
    return len(files), sum(f.stat().st_size for f in files)
