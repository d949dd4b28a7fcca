"""The file for Ray's cluster launcher passes Ray's own checks, and says what we promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

FILE = Path(__file__).parents[2] / "cluster" / "gcp" / "cluster.yaml"


@pytest.fixture
def config() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return found


def validate(config: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config))  # as `ray up` does


def test_ray_accepts_it(config: dict[str, Any]) -> None:
    validate(config)


@pytest.mark.parametrize(
    ("change", "says"),
    [({"max_wokers": 8}, "max_wokers"), ({"head_node_type": "none"}, "head_node_type")],
)
def test_ray_would_refuse_a_slip(config: dict[str, Any], change: dict[str, Any], says: str) -> None:
    with pytest.raises(Exception, match=says):
        validate(config | change)


def test_workers_may_be_taken_away_and_the_head_may_not(config: dict[str, Any]) -> None:
    types = config["available_node_types"]
    head, worker = types[config["head_node_type"]], types["l4"]
    assert worker["node_config"]["scheduling"]["provisioningModel"] == "SPOT"
    assert "scheduling" not in head["node_config"]
    assert worker["node_config"]["machineType"] == "g2-standard-12"
    assert worker["resources"] == {"CPU": 12, "GPU": 1} and worker["min_workers"] == 0


def test_trials_stay_off_the_head_and_drivers_on_it(config: dict[str, Any]) -> None:
    types = config["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 0
    assert "head" in types["head"]["resources"] and "head" not in types["l4"]["resources"]


def test_the_cluster_asks_for_a_token_and_shows_no_dashboard_to_the_world(
    config: dict[str, Any],
) -> None:
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        started = [line for line in config[commands] if "ray start" in line]
        assert started and all("RAY_AUTH_MODE=token" in line for line in started)
    assert any(path.endswith(".ray/auth_token") for path in config["file_mounts"])
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][1]
