"""What the bundle's tasks run: ``stage.py FOLDER [--workers=N --cpus=N --gpus=N] STAGE …``.

FOLDER is where the bundle's files are. With ``--workers`` the stage runs on Ray on Spark, without
on the driver alone. What follows is booster_ray.pipeline's.
"""

from __future__ import annotations

import os
import sys

UNSET = "-"
"""Value of a secret that is not to be had: a scope cannot hold nothing."""


def main(folder: str, *arguments: str) -> int:
    """Run a stage; its exit code."""
    os.chdir(folder)  # presets are looked up in the current folder
    for name in ("WANDB_API_KEY", "SAI_API_KEY"):
        if os.environ.get(name) == UNSET:
            del os.environ[name]
    from booster_ray.cli import guarded
    from booster_ray.deploy import spark
    from booster_ray.deploy.pipeline import command as pipeline

    command = spark if arguments[0].startswith("--workers") else pipeline
    return guarded(lambda: command.main(list(arguments)))


if __name__ == "__main__":
    code = main(*sys.argv[1:])
    if code:  # Databricks takes any exit, with 0 too, for a failure
        sys.exit(code)
