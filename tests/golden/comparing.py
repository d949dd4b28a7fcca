"""How near a digest must come to the recorded one: equal on its machine, close on others."""

from __future__ import annotations

import json
import re
from pathlib import Path

from golden import runs

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text(encoding="utf-8"))
SUMMARY = re.compile(r"progress/\d+/(score|episode_|critic_loss|actor_loss|action_error)")
"""Scores, returns and losses; not the seconds of the few evaluated episodes, which are chaotic."""
RELATIVE, ABSOLUTE = 0.25, 0.3


def same_machine() -> bool:
    return runs.fingerprint() == RECORDED["fingerprint"]


def far(before: runs.Digest, after: runs.Digest) -> list[str]:
    """Summary numbers that are missing, or farther from the recorded than ±(25 % + 0.3)."""
    wrong = []
    for path, value in before.items():
        if not SUMMARY.search(path):
            continue
        found = after.get(path)
        bound = ABSOLUTE + RELATIVE * abs(value)
        if type(found) not in (int, float) or not abs(found - value) <= bound:
            wrong.append(f"{path}: {value!r} is now {found!r}")
    return wrong


def assert_golden(before: runs.Digest, after: runs.Digest) -> None:
    wrong = runs.differences(before, after)[0] if same_machine() else far(before, after)
    assert not wrong, "\n".join(wrong[:40])
