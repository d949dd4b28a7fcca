"""Every command in README and docs is run by a test, or says what it needs that tests have not."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import driving
import pytest

from booster_ray.config import yaml12

TABLE = Path(__file__).with_name("commands.yaml")
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "cluster/**/*.md", "benchmarks/*.md", "policies/*.md")
    for path in driving.ROOT.glob(pattern)
)
SHELL = ("", "bash", "sh", "shell", "console")
"""What marks a fenced block of commands; nothing does so too."""
COMMENT = re.compile(r"(^|\s+)# .*$")
NO_COMMANDS = "no command"
"""Key of the table under which the first lines of other blocks stand."""


def blocks(text: str) -> Iterator[list[str]]:
    """The indented blocks of a page, and those between fences that are for a shell."""
    fence: str | None = None
    block: list[str] = []
    before = ""
    for line in [*text.splitlines(), ""]:
        indented = re.match(r" {4,}\S", line) and (block or not before.strip())
        if found := re.match(r"\s*```(\w*)", line):
            if block and (fence is None or fence in SHELL):
                yield block
            fence, block = found[1] if fence is None else None, []
        elif fence is not None or indented:
            block.append(line.strip())
        elif line.strip() or not block:
            if block:
                yield block
            block = []
        before = line
    if block:
        yield block


def commands(block: list[str]) -> Iterator[str]:
    """Its lines, joined where they go on, without comments."""
    line = ""
    for part in block:
        line = f"{line} {COMMENT.sub('', part)}".strip()
        if line.endswith("\\"):
            line = line[:-1].strip()
        elif line:
            yield " ".join(line.split())
            line = ""


def told() -> dict[str, list[str]]:
    """Commands, by the page that tells them."""
    other = set(table().pop(NO_COMMANDS))
    found: dict[str, list[str]] = {}
    for path in PAGES:
        for block in blocks(path.read_text(encoding="utf-8")):
            if block[0] not in other:
                name = path.relative_to(driving.ROOT).as_posix()
                found.setdefault(name, []).extend(commands(block))
    return found


def table() -> dict[str, list[str]]:
    read = yaml12.read(TABLE.read_text(encoding="utf-8"))
    assert isinstance(read, dict)
    return dict(read)


def test_every_command_is_accounted_for() -> None:
    listed = [c for key, kept in table().items() if key != NO_COMMANDS for c in kept]
    assert len(listed) == len(set(listed)), "a command stands twice in the table"
    missing = {name: [c for c in kept if c not in listed] for name, kept in told().items()}
    missing = {name: kept for name, kept in missing.items() if kept}
    assert not missing, f"which test runs these? say so in {TABLE.name}: {missing}"


def test_the_table_holds_nothing_else() -> None:
    known = {c for kept in told().values() for c in kept}
    stale = [c for key, kept in table().items() if key != NO_COMMANDS for c in kept]
    assert not [c for c in stale if c not in known]
    first = {b[0] for p in PAGES for b in blocks(p.read_text(encoding="utf-8"))}
    assert not [line for line in table()[NO_COMMANDS] if line not in first]


@pytest.mark.parametrize("place", [key for key in table() if key != NO_COMMANDS])
def test_the_tests_are_there(place: str) -> None:
    """A key is tests, one after the other with a comma, or says what is needed."""
    if place.startswith("needs "):
        return
    for test in place.split(", "):
        path, _, name = test.partition("::")
        text = (driving.ROOT / path).read_text(encoding="utf-8")
        assert f"def {name}(" in text, test


def test_pages_are_read_as_they_are_shown() -> None:
    page = "a\n\n    make x  # why\n    run \\\n      more\n\n"
    page += "```bash\nb\n```\n\n```python\nno\n```\nd\n    no\n"
    found = list(blocks(page))
    assert found == [["make x  # why", "run \\", "more"], ["b"]]
    assert list(commands(found[0])) == ["make x", "run more"]


def test_make_help_lists_every_target() -> None:
    done = subprocess.run(["make", "help"], cwd=driving.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = (driving.ROOT / "Makefile").read_text(encoding="utf-8")
    (targets,) = re.findall(r"^\.PHONY: (.*)$", text, flags=re.MULTILINE)
    for target in set(targets.split()) - {"anew"}:
        assert re.search(rf"^make {target} +\S", done.stdout, flags=re.MULTILINE), target
