"""``booster-ray COMMAND …``, the same as ``python -m booster_ray.COMMAND …``."""

import runpy
import sys
from pathlib import Path

USE = """usage: booster-ray COMMAND [ARGUMENTS]
       booster-ray COMMAND --help

The same as python -m booster_ray.COMMAND. Commands:
"""

FIRST = ("tune", "train", "evaluate", "gates", "export", "pipeline", "doctor")
"""As one uses them; the others follow by name."""


def main() -> None:
    """Run a command in this process; ends it with the command's exit code, 2 for bad input."""
    argv = sys.argv[1:]
    known = commands()
    if not argv or argv[0] in ("-h", "--help", "help"):
        width = max(map(len, known))
        lines = [f"  {name:{width}}  {text}" for name, text in known.items()]
        print(USE + "\n".join(lines))
        sys.exit(0 if argv else 2)
    if argv[0] == "--version":
        from booster_ray import __version__

        print(f"booster_ray {__version__}")
        sys.exit(0)
    name = argv[0]
    if name not in known:
        from booster_ray.config.errors import hint

        expected = "expected one that booster-ray --help lists"
        text = f"'{name}' is no command, {expected}{hint(name, known)}"
        print(f"error: command line: {text}", file=sys.stderr)
        sys.exit(2)
    sys.argv = sys.argv[1:]
    runpy.run_module(f"booster_ray.{name}", run_name="__main__", alter_sys=True)


def commands() -> dict[str, str]:
    """Every door of the package, and what its first line says of it."""
    here = Path(__file__).parent
    doors = [*here.glob("*.py"), *here.glob("*/__main__.py")]
    found = {}
    for path in doors:
        # Of the file, for to import them all would take seconds.
        with path.open(encoding="utf-8") as file:
            begin, _, text = file.readline().partition("``: ")
        if begin.startswith('"""``python -m booster_ray.'):
            found[path.parent.name if path.stem == "__main__" else path.stem] = text
    order = [name for name in FIRST if name in found]
    order += sorted(found.keys() - set(FIRST))
    return {name: found[name].strip().rstrip('"').strip() for name in order}


if __name__ == "__main__":
    main()
