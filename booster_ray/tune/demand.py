"""How many trials a sweep asks for: those that its cluster holds, and those that make it grow.

An autoscaler starts machines for what waits. So while trials are left, as many wait as one machine
more would hold, until the autoscaler has all the machines that it may have. No more than that: a
trial's settings are chosen when it is asked for, and one that waits knows nothing of what the
running ones are about to tell. A cluster without an autoscaler is asked for what it holds.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import ray
import yaml
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from booster_ray.config import Config
from booster_ray.train.ray_train import resources, slots

COUNT_SECONDS = 2.0
"""How old the count of the cluster's machines may be."""
ASK_SECONDS = 60.0
"""How old what is known of the autoscaler may be; its limits can be changed while it runs."""
HEAD = "node:__internal_head__"
"""Ray's mark among a head's resources."""

Resources = Mapping[str, float]


class NodeType(NamedTuple):
    """A kind of machine that an autoscaler starts."""

    resources: Resources
    most: int
    """So many of it."""


class Autoscaler(NamedTuple):
    """What watches over a cluster."""

    types: tuple[NodeType, ...] = ()
    """Without the head's; empty: not known."""
    most: int = 0
    """Machines of all types together."""


class Demand:
    """Called: how many trials of a sweep may run or wait now.

    Args:
        config: any of the sweep's configs.
        shared: whether the cluster is one that runs already; one's own does not grow.
        avoid: the machines that cannot work now, by Ray's ids.
    """

    def __init__(self, config: Config, shared: bool, avoid: Callable[[], Sequence[str]]) -> None:
        self._config, self._shared, self._avoid = config, shared, avoid
        self._counted, self._known = -COUNT_SECONDS, 1
        self._asked: Any = None
        self._ask_from = 0.0
        self._autoscaler: Autoscaler | None = None

    def __call__(self) -> int:
        """See the class."""
        if limit := self._config.tune.max_concurrent:
            return limit
        if time.monotonic() - self._counted >= COUNT_SECONDS:
            nodes = [node for node in ray.nodes() if node["Alive"]]
            if self._shared:
                self._ask(nodes)
            unfit = self._avoid()
            here = [node["Resources"] for node in nodes if node["NodeID"] not in unfit]
            workers = max(1, self._config.trainer.workers)
            self._known = wanted(here, self._autoscaler, resources(self._config), workers)
            self._counted = time.monotonic()
        return self._known

    def _ask(self, nodes: Sequence[Mapping[str, Any]]) -> None:
        """Ask the head, on which the autoscaler runs; its answer is taken when it is there."""
        if self._asked is None and time.monotonic() >= self._ask_from:
            head = next((n["NodeID"] for n in nodes if HEAD in n["Resources"]), None)
            if head is None:
                return
            there = NodeAffinitySchedulingStrategy(node_id=head, soft=False)
            asking = ray.remote(num_cpus=0, scheduling_strategy=there)(find_autoscaler)
            self._asked = asking.remote()
            self._ask_from = time.monotonic() + ASK_SECONDS
        elif self._asked is not None and ray.wait([self._asked], timeout=0)[0]:
            with suppress(ray.exceptions.RayError):  # the head may be busy with something else
                self._autoscaler = ray.get(self._asked)
            self._asked = None


def wanted(
    here: Sequence[Resources], autoscaler: Autoscaler | None, claim: Resources, workers: int = 1
) -> int:
    """Trials that run or wait; at least one, which has to wait where none fits.

    Args:
        here: what each machine of the cluster has.
        autoscaler: None: the cluster has none.
        claim: what each worker of a trial claims of a machine.
        workers: of each trial.
    """
    each = [slots(one, claim) for one in here]
    fitting = sum(each) // workers
    if autoscaler is None:
        return max(1, fitting)
    if not autoscaler.types:
        own = [n for n, one in zip(each, here, strict=True) if HEAD not in one]
        return fitting + math.ceil(max(1, *own, 0) / workers)
    heads = sum(n for n, one in zip(each, here, strict=True) if HEAD in one)
    sizes = sorted(slots(t.resources, claim) for t in autoscaler.types for _ in range(t.most))
    largest = sizes[::-1][: autoscaler.most]
    most = (heads + sum(largest)) // workers
    ahead = math.ceil(max(largest, default=0) / workers)
    return max(1, fitting, min(fitting + ahead, most))


# -- on the head -------------------------------------------------------------------------------


def find_autoscaler() -> Autoscaler | None:
    """On the head's machine: what is known of the autoscaler there; None: there is none.

    Ray's own asks for it are of no use: it keeps its limits to itself. They stand in the file that
    its process was begun with; on Kubernetes, where that is in another container, they are unknown.
    """
    port = ray.get_runtime_context().gcs_address.rpartition(":")[2]
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        options = dict(part.split("=", 1) for part in command if "=" in part)
        file = options.get("--autoscaling-config")
        if file and options.get("--gcs-address", "").endswith(f":{port}"):
            return read_autoscaler(yaml.safe_load(Path(file).read_text(encoding="utf-8")))
    return Autoscaler() if _reported() else None


def read_autoscaler(found: Mapping[str, Any]) -> Autoscaler:
    """What a cluster's config says; of a type whose resources it leaves out nothing is known."""
    head, most = found.get("head_node_type"), int(found.get("max_workers", 2))
    types = {n: t for n, t in found.get("available_node_types", {}).items() if n != head}
    if not all(one.get("resources") for one in types.values()):
        return Autoscaler()
    kinds = [NodeType(t["resources"], min(int(t.get("max_workers", most)), most))
             for t in types.values()]  # fmt: skip
    return Autoscaler(tuple(kinds), most)


def _reported() -> bool:
    """Whether an autoscaler tells the cluster of machines; one without a config mirrors them."""
    from ray.autoscaler.v2.sdk import get_cluster_status
    from ray.autoscaler.v2.utils import is_autoscaler_v2
    from ray.experimental.internal_kv import _internal_kv_get

    if is_autoscaler_v2(fetch_from_server=True):
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
        nodes = [*status.active_nodes, *status.idle_nodes]
        return any(node.ray_node_type_name for node in nodes)
    told = json.loads(_internal_kv_get(b"__autoscaling_status") or b"{}")
    report = told.get("autoscaler_report") or {}
    return any(not name.startswith("node_") for name in report.get("active_nodes", {}))
