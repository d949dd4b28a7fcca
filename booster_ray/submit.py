"""``python -m booster_ray.submit PACKAGE``: hand a package to the competition."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from booster_ray.cli import guarded

DESCRIPTION = """Submit an exported package with sai_rl's client. Needs SAI_API_KEY in the
environment, network, and: pip install 'booster_ray[submit]'."""


def main(argv: list[str]) -> int:
    """Submit; exit code 0, or 2 where it could not be: the package stays as it is."""
    from booster_ray.export.submit import COMPETITION, submit

    p = argparse.ArgumentParser(prog="python -m booster_ray.submit", description=DESCRIPTION)
    p.add_argument("package", metavar="PACKAGE", type=Path)
    p.add_argument("--name", help="of the submission; the folder's if not given")
    p.add_argument("--competition", default=COMPETITION, metavar="ID", help=COMPETITION)
    args = p.parse_args(argv)
    from booster_ray.evaluate.__main__ import prepare

    prepare()
    made = submit(args.package, args.name or args.package.resolve().name, args.competition)
    print(f"Submitted {args.package} to {args.competition}: {made}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
