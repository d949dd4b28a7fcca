"""Machines that cannot work for a run are named before a trial, and get none."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import driving
import pytest
from chaos import Machines
from two_nodes import RAY, STORE_BYTES

from booster_ray.store import remote
from booster_ray.store.address import Address
from booster_ray.store.attempts import read_attempts
from booster_ray.train import nodes
from booster_ray.train.nodes import examine, show, versions

TRIALS = (*driving.QUICK, "tune.trials=3", "tune.scheduler=none", "training.env_steps=600")


def test_a_machine_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, here = Address(str(tmp_path), "s"), versions()
    (tmp_path / "s").mkdir()
    show(address, "token")
    assert examine(address, "token", here) == ""
    assert os.listdir(tmp_path / "s") == [nodes.TOKEN]  # it leaves nothing
    assert "does not see" in examine(Address(str(tmp_path), "other"), "token", here)
    assert "does not see" in examine(address, "of another folder", here)
    told = examine(address, "token", {**here, "jax": "9.9", "python": "2.7"})
    assert f"python {here['python']}, expected 2.7; jax {here['jax']}, expected 9.9" in told

    added = {**here, "no-such-package": "1.0", "numpy": metadata.version("numpy")}
    told = examine(address, "token", added)
    assert told.startswith("has no-such-package missing, expected 1.0; install there")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nodes, "replace_text", full)
    told = examine(address, "token", here)
    assert told.startswith(f"cannot use the storage {tmp_path}: OSError: [Errno 28] No space left")


def test_remote_storage_is_put_read_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = str(tmp_path / "Volumes")
    monkeypatch.setattr(remote, "VOLUMES", (volume,))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "here"))
    address = Address(volume, "s")
    show(address, "token")
    assert examine(address, "token", versions()) == ""
    assert os.listdir(Path(volume) / "s") == [nodes.TOKEN]
    assert "finds other content" in examine(address, "another", versions())


class Blind:
    """Further machines of a cluster, which have an empty folder in the place of the storage."""

    def __init__(self, storage: Path, scratch: Path) -> None:
        self._storage, self._empty = storage, scratch / "empty"
        self._empty.mkdir()
        self._processes: list[subprocess.Popen[bytes]] = []

    def join(self, address: str) -> None:
        """Another of one CPU."""
        mounted = f'mount --bind {self._empty} {self._storage} && exec "$@"'
        node = [RAY, "start", "--block", f"--address={address}", "--num-cpus=1",
                f"--object-store-memory={STORE_BYTES}", "--disable-usage-stats"]  # fmt: skip
        command = ["unshare", "--mount", "bash", "-c", mounted, "bash", *node]
        self._processes.append(
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                driving.kill_all(process.pid)
            process.wait()


@pytest.fixture
def blind(tmp_path: Path) -> Iterator[Blind]:
    storage = tmp_path / "storage"
    storage.mkdir()
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("needs namespaces of mounts")
    machines = Blind(storage, tmp_path)
    yield machines
    driving.clean_up()
    machines.close()


def sees(address: str) -> int:
    """CPUs of the cluster."""
    code = f"import ray; ray.init('{address}', logging_level='ERROR', log_to_driver=False); "
    code += "print('CPUS', ray.cluster_resources().get('CPU', 0))"
    done = subprocess.run([driving.sys.executable, "-c", code], capture_output=True, text=True)
    return int(float(done.stdout.split("CPUS")[1])) if "CPUS" in done.stdout else 0


@pytest.mark.slow
@pytest.mark.parametrize("good", [0, 1])
def test_a_machine_without_the_storage_gets_no_trial(
    good: int, blind: Blind, tmp_path: Path
) -> None:
    cluster, storage = Machines(nodes=good), tmp_path / "storage"
    try:
        blind.join(cluster.address)
        driving.wait_for(lambda: sees(cluster.address) == good + 1, 120)
        sweep = driving.start("debug", f"storage={storage}", *TRIALS, RAY_ADDRESS=cluster.address)
        code, output = driving.finish(sweep, 300)
    finally:
        driving.clean_up()
        cluster.kill_everything()
    said = f"does not see {storage / 'debug'}; mount that folder there as it is here"
    if not good:
        assert code == 2, output
        assert output.count("\n") == 1 and output.startswith("error: cluster: node ")
        assert said in output and not (storage / "debug").exists()  # the name is free
        return
    assert code == 0 and output.count("No trials on node") == 1, output
    assert said in " ".join(output.split())
    for trial in sorted((storage / "debug/trials").iterdir()):
        assert read_attempts(trial) == [], output
