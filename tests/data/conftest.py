"""A small recording that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest
from data.recording import STRIKER, record

from booster_ray.data import record as recording


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes a task of the striker with noise, in three shards, one seed of two held out."""
    folder = tmp_path_factory.mktemp("recorded") / "striker-v0"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "A_SHARD", 2)
        assert record(folder, STRIKER, "--episodes", "2", "--noise", "0.03") == 0
    return folder
