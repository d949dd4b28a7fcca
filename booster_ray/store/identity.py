"""Who a run is to trackers: an id that stays, however often and wherever the run goes on."""

from __future__ import annotations

import secrets
from pathlib import Path

RUN_ID = "run_id"
"""In the folder of a run or sweep, one line: its id. Checkpoints carry it too."""


def run_id(directory: Path) -> str | None:
    """The id that stands in a folder; None before it is made."""
    try:
        return (directory / RUN_ID).read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None


def keep_run_id(directory: Path, of_checkpoint: str | None = None) -> str:
    """The folder's id, made where there is none.

    Args:
        directory: of the run or sweep.
        of_checkpoint: the id in the checkpoint that the run goes on from: taken where the folder
            was lost. A folder's own comes first, for a checkpoint may be another run's copy.

    Raises:
        OSError: it cannot be written.
    """
    found = run_id(directory)
    if found is None:
        found = of_checkpoint or secrets.token_hex(8)
        temp = directory / f".{RUN_ID}.tmp"
        temp.write_text(found + "\n", encoding="utf-8")
        temp.replace(directory / RUN_ID)
    return found
