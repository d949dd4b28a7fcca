"""A cluster that grows by itself is asked for one machine more than it has, up to its maximum."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import driving
import pytest
from autoscaling import AutoscalingCluster

from booster_ray.tune.demand import HEAD, Autoscaler, NodeType, read_autoscaler, wanted

HEAD_NODE = {HEAD: 1.0, "memory": 1e9}
BOX = {"CPU": 4.0}
ONE = {"CPU": 1}
GROWS = Autoscaler((NodeType(BOX, 3),), 8)


def test_a_fixed_cluster_is_asked_for_what_it_holds() -> None:
    assert wanted([HEAD_NODE, BOX], None, ONE) == 4
    assert wanted([{**HEAD_NODE, **BOX}], None, {"CPU": 3}) == 1
    assert wanted([HEAD_NODE], None, ONE) == 1  # one waits for a machine that joins by itself
    assert wanted([BOX, BOX], None, {"CPU": 3}) == 2  # what is left of two holds no third
    assert wanted([{"CPU": 16.0, "GPU": 1.0}], None, {"CPU": 1, "GPU": 0.1}) == 10
    assert wanted([BOX] * 3, None, ONE, workers=5) == 2


def test_one_machines_trials_wait_until_there_is_no_more_to_have() -> None:
    boxes = [wanted([HEAD_NODE, *[BOX] * n], GROWS, ONE) for n in range(4)]
    assert boxes == [4, 8, 12, 12]
    bounded = Autoscaler((NodeType(BOX, 3), NodeType({"CPU": 2.0}, 9)), 2)
    assert wanted([HEAD_NODE], bounded, ONE) == 4
    assert wanted([HEAD_NODE, BOX, BOX], bounded, ONE) == 8
    # Of a machine that holds no whole team there must come several.
    assert [wanted([HEAD_NODE, *[BOX] * n], GROWS, ONE, workers=6) for n in range(4)] == [
        1,
        1,
        2,
        2,
    ]
    # Where the limits are unknown there is always one more.
    assert [wanted([HEAD_NODE, *[BOX] * n], Autoscaler(), ONE) for n in range(3)] == [1, 8, 12]


def test_limits_are_read_from_the_clusters_config() -> None:
    config = {
        "max_workers": 5, "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 2}},
            "small": {"resources": BOX, "max_workers": 2},
            "any": {"resources": {"CPU": 8}},
        },
    }  # fmt: skip
    read = read_autoscaler(config)
    assert read == Autoscaler((NodeType(BOX, 2), NodeType({"CPU": 8}, 5)), 5)
    config["available_node_types"]["any"]["resources"] = {}  # type: ignore[index]
    assert read_autoscaler(config) == Autoscaler()


@pytest.fixture
def grows() -> Iterator[AutoscalingCluster]:
    cluster = AutoscalingCluster(cpus=1, most=2)
    yield cluster
    driving.clean_up()
    cluster.close()


@pytest.mark.slow
def test_a_sweep_grows_its_cluster_from_nothing_and_gives_it_back(
    grows: AutoscalingCluster, tmp_path: Path
) -> None:
    assert grows.machines() == 0
    sweep = driving.start(
        "debug", f"storage={tmp_path}", *driving.QUICK, "tune.trials=4", "tune.scheduler=none",
        "training.env_steps=30000", "training.report_every=3000", "evaluation.every=30000",
        RAY_ADDRESS=grows.address,
    )  # fmt: skip
    driving.wait_for(lambda: grows.machines() == 2 or sweep.poll() is not None)
    stayed_small = sweep.poll() is not None
    code, output = driving.finish(sweep)
    assert code == 0 and not stayed_small, output
    driving.wait_for(lambda: grows.machines() == 0, 120)
