"""The map in CONTRIBUTING is the tree's, and doors are not imported."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "booster_ray"
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
DIFFS = sorted((ROOT / "tests/contributing").glob("*.diff"))


def layers() -> list[list[str]]:
    """Of import-linter's contract, the lowest first; the doors, on top, are left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = project["tool"]["importlinter"]["contracts"]
    return [layer.split(" | ") for layer in reversed(contract["layers"][1:])]


def test_the_map_is_the_trees() -> None:
    rows = dict(re.findall(r"^\| `(\w+)/?` \| (.+) \|$", GUIDE, flags=re.M))
    heights = {room: height for height, layer in enumerate(layers()) for room in layer}
    assert sorted(rows, key=lambda room: heights[room]) == list(rows)
    assert set(rows) == set(heights)
    for room, text in rows.items():
        file = PACKAGE / room / "__init__.py"
        file = file if file.exists() else PACKAGE / f"{room}.py"
        first, *_ = (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n\n")
        assert " ".join(first.split()) == text


def test_nobody_imports_a_door() -> None:
    doors = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "cli"}
    closed = {f"booster_ray.{door}" for door in doors}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
                assert not any("__main__" in name for name in names), path
                assert not names & closed, path


@pytest.mark.parametrize("diff", DIFFS, ids=lambda path: path.stem)
def test_the_guide_shows_the_diffs_that_are_applied(diff: Path) -> None:
    whole = changed(diff.read_text(encoding="utf-8"))
    shown = re.findall(r"```diff\n(.*?)```", GUIDE, flags=re.S)
    (mine,) = [text for text in shown if changed(text) == whole[: len(changed(text))]]
    assert changed(mine) == whole or mine.rstrip().endswith("…")


def changed(diff: str) -> list[str]:
    return [line for line in diff.splitlines() if re.match(r"[+-](?![+-])", line)]


def test_the_page_of_failures_names_tests_that_there_are() -> None:
    page = (ROOT / "docs" / "failures.md").read_text(encoding="utf-8")
    files = set(re.findall(r"`(?:tests/)?((?:\w+/)+test_\w+\.py)`", page))
    assert len(files) > 15
    texts = {name: (ROOT / "tests" / name).read_text(encoding="utf-8") for name in files}
    for name in re.findall(r"`…?((?:test)?_\w+)`", page):
        assert any(f"{name}(" in text for text in texts.values()), name


def test_functions_fit_on_a_screen() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= 60
    ]
    assert not long
