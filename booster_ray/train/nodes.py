"""Whether each machine of a cluster can work for a run, asked of it before it has to.

A machine that does not see the storage, or has other versions, would fail one attempt after
another within seconds. Each is asked once, when it joins, by a task that runs on it; one that
cannot is named in a line, gets no further attempts, and is asked again now and then.
"""

from __future__ import annotations

import os
import platform
import secrets
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from booster_ray import __version__
from booster_ray.config import Config, ConfigError
from booster_ray.config.kinds import ADDED
from booster_ray.soccer.rewards import TERMS, AddedTerm
from booster_ray.store.address import Address
from booster_ray.store.durable import replace_text
from booster_ray.store.failure import one_line
from booster_ray.train.ray_cluster import cluster_address

FIRST_SECONDS = 60.0
"""How long the machines of a cluster have for their first answer; later ones are heard as well."""
AGAIN_SECONDS = 60.0
"""After which one that could not work is asked again."""
RENEW_SECONDS = 2.0
TOKEN = ".nodes"
"""In the folder of a run or sweep: what its driver has written there for the machines to see."""
PACKAGES = ("ray", "jax")
"""Whose versions must be the same everywhere, beside Python's and ours."""
NODE_ID = "ray.io/node-id"
"""Ray's label of each machine."""


class Nodes:
    """What is known of a cluster's machines.

    Args:
        config: of the run or sweep.
        root: its folder on this machine.
        say: told in a line of each machine that cannot work, and of one that is mended.
    """

    def __init__(self, config: Config, root: Path, say: Callable[[str], object]) -> None:
        self._config, self._address, self._say = config, Address.of(config, root), say
        self._token = secrets.token_hex(8)
        self._asked: dict[str, Any] = {}
        self._known: dict[str, tuple[float, str]] = {}
        """Node -> when it answered, and why it cannot work; empty: it can."""
        self._looked = -RENEW_SECONDS

    def unfit(self) -> tuple[str, ...]:
        """Ids of the machines that cannot work, in order; asks those that are new."""
        if time.monotonic() - self._looked >= RENEW_SECONDS:
            self._look()
        return tuple(sorted(node for node, (_, why) in self._known.items() if why))

    def first_look(self) -> None:
        """Ask all and wait for what they say.

        Raises:
            ConfigError: none of them can work; the line says of one why, and what mends it.
            StorageError: this machine itself cannot write to the storage.
        """
        import ray

        from booster_ray.train.ray_train import resources, slots

        deadline = time.monotonic() + FIRST_SECONDS
        show(self._address, self._token)
        self._look()
        while self._asked and time.monotonic() < deadline:
            time.sleep(0.1)
            self._hear()
        claim, here = resources(self._config), {n["NodeID"]: n["Resources"] for n in ray.nodes()}
        told = [why for n, (_, why) in self._known.items() if slots(here.get(n, {}), claim)]
        if told and all(told):
            raise ConfigError("cluster", "", told[0])

    # -- asking --------------------------------------------------------------------------------

    def _look(self) -> None:
        import ray

        self._looked = now = time.monotonic()
        alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        self._known = {node: told for node, told in self._known.items() if node in alive}
        self._asked = {node: task for node, task in self._asked.items() if node in alive}
        again = {n for n, (when, why) in self._known.items() if why and now - when > AGAIN_SECONDS}
        for node in alive:
            if node not in self._asked and (node not in self._known or node in again):
                self._asked[node] = self._ask(node)
        self._hear()

    def _ask(self, node: str) -> Any:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
        asking = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(examine)
        wanted = versions() | added_versions(self._config)
        return asking.remote(self._address, self._token, wanted)

    def _hear(self) -> None:
        import ray

        for node, task in list(self._asked.items()):
            if not ray.wait([task], timeout=0)[0]:
                continue
            del self._asked[node]
            try:
                why = str(ray.get(task))
            except ray.exceptions.RayTaskError as error:
                why = f"cannot run this package ({one_line(error.cause or error)[:200]}); {INSTALL}"
            except ray.exceptions.RayError:
                continue  # it is gone, or about to be
            self._tell(node, why)

    def _tell(self, node: str, why: str) -> None:
        before = self._known.get(node, (0.0, ""))[1]
        where = _name(node)
        self._known[node] = (time.monotonic(), why and f"node {where} {why}")
        if why and not before:
            self._say(f"No trials on node {where}: it {why}")
        elif before and not why:
            self._say(f"Node {where} can work now.")


def check_nodes(
    config: Config, root: Path, say: Callable[[str], object]
) -> Callable[[], tuple[str, ...]]:
    """Ask a cluster that runs already, see :meth:`Nodes.first_look`; then which it is to avoid.

    A cluster of this process's own is this machine.
    """
    if cluster_address() is None:
        return tuple
    nodes = Nodes(config, root, say)
    nodes.first_look()
    return nodes.unfit


INSTALL = "install there what is here, best from one image (cluster/README.md)"


def _name(node: str) -> str:
    """A machine as its owner knows it."""
    import ray

    found: dict[str, Any] = next((n for n in ray.nodes() if n["NodeID"] == node), {})
    return f"{found.get('NodeManagerAddress', '?')} ({node[:8]})"


def versions() -> dict[str, str]:
    """What must be the same on all machines."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"booster_ray": __version__, "python": python} | {
        name: metadata.version(name) for name in PACKAGES
    }


def added_versions(config: Config) -> dict[str, str]:
    """Of the packages whose world or reward terms a run uses."""
    weights = config.rewards.model_dump()
    terms = (TERMS[name] for name, weight in weights.items() if weight)
    used = [term.source for term in terms if isinstance(term, AddedTerm)]
    if world := ADDED.get(config.world.kind.partition(":")[0]):
        used.append(world)
    return {one.package: one.version for one in used}


def _here(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def show(address: Address, token: str) -> None:
    """Write what the machines of the cluster are to find.

    Raises:
        OSError: it cannot be written.
    """
    file = address.root / TOKEN
    if remote := address.remote():
        file.parent.mkdir(parents=True, exist_ok=True)
    replace_text(file, token)
    if remote:
        remote.put(file, TOKEN)


def examine(address: Address, token: str, wanted: dict[str, str]) -> str:
    """On a machine: why it cannot work for a run, and what mends that; empty: it can."""
    here = versions()
    here |= {name: _here(name) for name in wanted.keys() - here.keys()}
    if wrong := [f"{name} {v}, expected {wanted[name]}" for name, v in here.items()
                 if v != wanted[name]]:  # fmt: skip
        return f"has {'; '.join(wrong)}; {INSTALL}"
    try:
        return _storage_problem(address, token)
    except OSError as error:
        return f"cannot use the storage {address.storage}: {one_line(error)}; {_mend(address)}"


def _storage_problem(address: Address, token: str) -> str:
    own = f"{TOKEN}-{secrets.token_hex(8)}"
    if remote := address.remote():
        if remote.read(TOKEN) != token.encode():
            text = f"finds other content than this machine in {address.storage}/{address.name}"
            return f"{text}; {_mend(address)}"
        file = address.root / own
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_text(file, token)
        remote.put(file, own)
        remote.remove(own)
        file.unlink()
        return ""
    try:
        seen = (address.root / TOKEN).read_text(encoding="utf-8")
    except FileNotFoundError:
        seen = ""
    if seen != token:
        return f"does not see {address.root}; {_mend(address)}"
    replace_text(address.root / own, token)  # creates and renames
    os.unlink(address.root / own)
    return ""


def _mend(address: Address) -> str:
    if address.remote():
        return "give it the rights and variables that this machine has"
    return "mount that folder there as it is here, or take storage=s3://…, gs://… or a volume"


def avoiding(nodes: tuple[str, ...]) -> dict[str, str]:
    """A selector of Ray's labels: any machine but these."""
    return {NODE_ID: f"!in({','.join(nodes)})"} if nodes else {}
