"""``python -m booster_ray.submit PACKAGE``: hand a package to the competition."""

from __future__ import annotations

import argparse
from pathlib import Path

DESCRIPTION = """Submit an exported package with sai_rl's client. Needs SAI_API_KEY in the
environment, network, and: pip install 'booster_ray[submit]'."""


def main(argv: list[str]) -> int:
    """Submit; exit code 0, or 2 where it could not be: the package stays as it is."""
    from booster_ray.evaluate.submit import COMPETITION, submit

    p = argparse.ArgumentParser(prog="python -m booster_ray.submit", description=DESCRIPTION)
    p.add_argument("package", metavar="PACKAGE", type=Path)
    p.add_argument("--name", help="of the submission; the folder's if not given")
    p.add_argument("--competition", default=COMPETITION, metavar="ID", help=COMPETITION)
    args = p.parse_args(argv)
    from booster_ray.evaluate.command import prepare

    prepare()
    made = submit(args.package, args.name or args.package.resolve().name, args.competition)
    print(f"Submitted {args.package} to {args.competition}: {made}")
    return 0
