"""What a check found, and how checks run: each in a process of its own, with a time limit.

A check is a function of a config that returns findings. A crash or a hang in one (a GPU driver, a
GL library, a dead network share) is a finding of its own and does not touch the others.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

from booster_ray.config import Config

Status = Literal["ok", "warn", "fail"]

AT_ONCE = 2
"""Checks that run beside each other."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    check: str
    verdict: Status
    text: str
    fix: str = ""
    """What to do about it; empty where nothing is to be done."""
    details: dict[str, Any] = field(default_factory=dict)
    """Numbers behind the text, for machines."""


class Check(NamedTuple):
    """A function ``module:name`` of a config that returns findings, and its limits."""

    name: str
    function: str
    seconds: float
    """Time limit."""
    hint: str
    """What to look at when the check crashes or does not answer."""


def run_checks(
    checks: list[Check], config: Config, environment: Mapping[str, str]
) -> list[Finding]:
    """Every check's findings, in the order of the checks.

    Args:
        checks: what to run.
        config: passed to each.
        environment: of their processes, besides this one's.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(lambda check: run_check(check, config, environment), checks)
        return [finding for findings in found for finding in findings]


def run_check(check: Check, config: Config, environment: Mapping[str, str]) -> list[Finding]:
    """One check in a process of its own; a crash or a hang is a finding that fails."""
    with tempfile.TemporaryDirectory(prefix="booster_ray-doctor-") as scratch:
        answer, errors = Path(scratch, "answer.json"), Path(scratch, "stderr")
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, check.function, str(answer)],
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )
            try:
                process.communicate(json.dumps(config.to_dict()).encode(), timeout=check.seconds)
            except subprocess.TimeoutExpired:
                text = f"no answer within {check.seconds:g} s"
                return [Finding(check.name, "fail", text, check.hint)]
            finally:
                _end(process)
        if process.returncode == 0 and answer.exists():
            return [Finding(**one) for one in json.loads(answer.read_text(encoding="utf-8"))]
        last = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        text = f"crashed ({_how(process.returncode)}){': ' + last[-1][:200] if last else ''}"
        return [Finding(check.name, "fail", text, check.hint)]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a check, its children included."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _answer(function: str, path: Path) -> None:
    """The check's own process: config from stdin, findings to a file."""
    module, _, name = function.partition(":")
    config = Config.model_validate(json.load(sys.stdin))
    found = getattr(import_module(module), name)(config)
    path.write_text(json.dumps([asdict(one) for one in found]), encoding="utf-8")


if __name__ == "__main__":
    _answer(sys.argv[1], Path(sys.argv[2]))
