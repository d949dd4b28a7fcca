"""Output that cannot be written ends nothing: real pipes, full disks, closed descriptors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import driving
import pytest

COMMAND = """
import os, sys
from contextlib import suppress
from booster_ray.cli import guarded

def main():
    for i in range(3):
        print("line", i, "\\u2026\\u2192", flush=True)
        print("told", i, file=sys.stderr)
    sys.stdout.write("rest of the line")
    if len(sys.argv) > 2:
        with open(sys.argv[2], "w") as file:  # would get the number of a closed descriptor
            for descriptor in (1, 2):
                with suppress(OSError):
                    os.write(descriptor, b"native code")
    return 7 if sys.argv[1] == "train" else 0

sys.exit(guarded(main, answers=sys.argv[1] != "train"))
"""


def shell(redirection: str, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a shell, whose exit code is the command's."""
    words = " ".join(args)
    line = f'{sys.executable} -c "$COMMAND" {words} {redirection}; exit ${{PIPESTATUS[0]}}'
    return subprocess.run(
        ["bash", "-c", line],
        cwd=driving.ROOT, env={**os.environ, "COMMAND": COMMAND, **environment},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def code(done: subprocess.CompletedProcess[str]) -> int:
    for text in ("Traceback", "Exception ignored", "Error"):
        assert text not in done.stderr, done.stderr
    return done.returncode


@pytest.mark.parametrize(
    ("redirection", "note"),
    [
        ("| true", "note: standard output cannot be written (Broken pipe)"),
        (">/dev/full", "note: standard output cannot be written (No space left on device)"),
        ("2>/dev/full", ""),
        (">/dev/full 2>&1", ""),
        (">&-", ""),
        (">&- 2>&-", ""),
        ("<&- >&- 2>&-", ""),
    ],
)
def test_a_command_goes_on_without_its_output(redirection: str, note: str, tmp_path: Path) -> None:
    written = tmp_path / "file"
    done = shell(redirection, "train", str(written))
    assert code(done) == 7
    assert done.stderr.count("note: ") == bool(note) and note in done.stderr
    assert written.read_text() == ""  # nobody's output but its own


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_a_sign_that_the_locale_lacks_is_replaced(environment: dict[str, str]) -> None:
    done = shell("", "train", **environment)
    assert code(done) == 7
    assert done.stdout.splitlines()[:3] == [f"line {i} ??" for i in range(3)]


@pytest.mark.parametrize(
    ("redirection", "expected"), [("", 0), ("| true", 0), (">/dev/full", 1), (">&-", 0)]
)
def test_a_command_that_answers_is_a_filter(redirection: str, expected: int) -> None:
    done = shell(redirection, "answer")
    assert code(done) == expected
    assert ("note: " in done.stderr) == bool(expected)


@pytest.mark.parametrize("module", ["tune", "train", "doctor", "evaluate"])
def test_help_is_lost_on_a_full_disk(module: str) -> None:
    with pytest.raises(OSError, match="No space left"), open("/dev/full", "w") as full:
        done = driving.inside("--help", module=module, stdout=full)
    assert done.returncode == 1 and done.stderr.count("note: ") == 1


@pytest.mark.parametrize("module", ["tune", "doctor"])
def test_help_is_a_filter(module: str) -> None:
    """Of a command that does something, and of one that answers."""
    for redirection, expected in (("| true", 0), (">/dev/full", 1)):
        line = f"{sys.executable} -m booster_ray.{module} --help {redirection}"
        done = subprocess.run(
            ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],
            cwd=driving.ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == expected and "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr


TINY = ("seed=1", *driving.QUICK, "training.env_steps=240", "evaluation.every=240")


@pytest.mark.parametrize("redirection", ["2>&1 | head -1", ">/dev/full 2>&1", "<&- >&- 2>&-"])
def test_training_does_not_depend_on_its_terminal(tmp_path: Path, redirection: str) -> None:
    run = driving.command("debug", f"storage={tmp_path}", "name=one", *TINY, module="train")
    done = subprocess.run(
        ["bash", "-c", f'"$@" {redirection}; exit ${{PIPESTATUS[0]}}', "bash", *run],
        cwd=driving.ROOT, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\n") == ("head" in redirection)
    reports = (tmp_path / "one" / "progress.jsonl").read_text().splitlines()
    assert json.loads(reports[-1])["env_steps"] == 240
    assert list((tmp_path / "one").glob("step_*"))
