"""What a run that will not train on keeps: its best and its newest checkpoint, without replay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from booster_ray.store.checkpoint.history import drop_unused_segments, newest_first, prune
from booster_ray.store.checkpoint.store import FORMAT_VERSION, MANIFEST, digest, read_manifest
from booster_ray.store.durable import replace_text

WITHOUT_REPLAY = "without_replay"
"""In a checkpoint's metadata: that its logs were dropped."""


def retire(directory: Path) -> None:
    """Drop what only training on would need; cut short anywhere, do it again.

    The newest checkpoint's manifest goes on without its logs, in one step; the older checkpoints
    and what no manifest lists any more are removed after it. Scores, policy and optimizer stay.

    Raises:
        CheckpointError: the newest checkpoint is damaged; nothing is changed.
        OSError: the folder cannot be read or written.
    """
    for newest in newest_first(directory, "step_*")[:1]:
        body = read_manifest(newest)
        if not body["metadata"].get(WITHOUT_REPLAY):
            leaves = {k: v for k, v in body["leaves"].items() if "segments" not in v}
            kept = {"leaves": leaves, "metadata": {**body["metadata"], WITHOUT_REPLAY: True}}
            replace_text(newest / MANIFEST, _text(kept))
        prune(directory, keep=1)
    drop_unused_segments(directory)


def _text(body: dict[str, Any]) -> str:
    manifest = {"format_version": FORMAT_VERSION, "sha256": digest(body), **body}
    return json.dumps(manifest, indent=1)
