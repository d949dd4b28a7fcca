"""``python -m booster_ray.export CHECKPOINT``: the submission package."""

from __future__ import annotations

import argparse
from pathlib import Path

from booster_ray.config import ConfigError

DESCRIPTION = """Pack a policy as the competition's own code loads it: TorchScript, preprocessor,
action function, and ONNX, for torques and for joint targets, with the policy's contract in it.
CHECKPOINT is a checkpoint, or a run, trial or sweep (its best); it must have passed gate 2, which
is run if it was not. A package of an older release gets what was added since."""


def main(argv: list[str]) -> int:
    """Export, and submit where asked; exit code 0, or 2 for bad input."""
    p = argparse.ArgumentParser(prog="python -m booster_ray.export", description=DESCRIPTION)
    p.add_argument("checkpoint", metavar="CHECKPOINT", type=Path)
    p.add_argument("--output", type=Path, required=True, metavar="DIR", help="of the package; new")
    p.add_argument("--submit", action="store_true", help="then submit it (needs SAI_API_KEY)")
    p.add_argument("--name", help="of the submission; the folder's if not given")
    args = p.parse_args(argv)
    if not args.checkpoint.is_dir():
        text = f"{args.checkpoint} is not there, expected a checkpoint, run, trial or sweep"
        raise ConfigError("command line", "CHECKPOINT", text)
    from rich.console import Console

    from booster_ray.evaluate.command import bar, prepare

    prepare()
    from booster_ray.evaluate.export import export, export_again
    from booster_ray.evaluate.submit import command, submit
    from booster_ray.evaluate.target import find_checkpoint
    from booster_ray.policy.package import MANIFEST

    if (args.checkpoint / MANIFEST).is_file():
        made = export_again(args.checkpoint, args.output)
    else:
        with bar(Console(), "gate 2") as progress:
            made = export(find_checkpoint(args.checkpoint), args.output, progress)
    print(f"Exported: {args.output} ({', '.join(made.about['sha256'])})")
    if args.submit:
        submission = submit(args.output, args.name or args.output.resolve().name)
        print(f"Submitted: {submission}")
    else:
        print(f"Score it:  python -m booster_ray.evaluate {args.output}")
        print(f"Submit it: {command(args.output)}")
    return 0
