"""What stands in a file of W&B's: records in LevelDB's log format, after a header of W&B's own.

https://github.com/google/leveldb/blob/main/doc/log_format.md
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAGIC, HEADER, BLOCK = b":W&B", 7, 32 * 1024
WHOLE, LAST = 1, 4
"""Kinds of pieces that end a record."""


def records(file: Path) -> Iterator[Any]:
    """Records of a ``.wandb`` file, up to where its writer was killed.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file.
    """
    from wandb.proto import wandb_internal_pb2

    data = file.read_bytes()
    if data[: len(MAGIC)] != MAGIC:
        raise ValueError(f"{file} is no file of W&B's")
    place, parts = HEADER, b""
    while place + HEADER <= len(data):
        if (rest := BLOCK - place % BLOCK) < HEADER:
            place += rest  # a piece never begins so near a block's end
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        end = place + HEADER + length
        if kind == 0 or end > len(data):
            return
        parts += data[place + HEADER : end]
        place = end
        if kind in (WHOLE, LAST):
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            record.ParseFromString(parts)
            parts = b""
            yield record


def history(file: Path) -> Iterator[dict[str, Any]]:
    """The rows that were logged. Raises as :func:`records`."""
    for record in records(file):
        if record.HasField("history"):
            yield {
                item.key or "/".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }


def last_step(file: Path) -> int:
    """Step of the newest row that is in a file; -1 where there is none, or it cannot be read."""
    step = -1
    try:
        for row in history(file):
            step = max(step, int(row.get("_step", -1)))
    except Exception:  # cut anywhere, or of a version that writes otherwise
        return step
    return step
