"""What stands in a process's environment before JAX loads, here and in a Ray worker."""

from __future__ import annotations

import _ctypes
import json
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import driving
import pytest

from booster_ray.config import load
from booster_ray.train import runtime

SETTINGS = {
    "mem_fraction": "0.5",
    "preallocate": "true",
    "xla_flags": "--xla_cpu_enable_fast_math=false",
    "jax_platforms": "cpu",
    "cuda_visible_devices": "''",
    "mujoco_gl": "disabled",
}

IN_A_WORKER = """
import json, os, sys
from pathlib import Path
from booster_ray.config import load
from booster_ray.train.ray_train import connect
import ray

config = load("debug", sys.argv[2:]).base()
connect(config, None)

@ray.remote
def look():
    early = sorted({"jax", "torch", "mujoco"} & set(sys.modules))
    before = dict(os.environ)
    import ctypes, jax
    ctypes.CDLL("libprobe.so.1")
    names = ["jax_platforms", "jax_compilation_cache_dir"]
    return early, before, {n: getattr(jax.config, n) for n in names}, len(jax.devices())

Path(sys.argv[1]).write_text(json.dumps(ray.get(look.remote())))
ray.shutdown()
"""

RESTARTED = """
import ctypes, os, sys
from booster_ray.config import load
from booster_ray.train.runtime import restart_for_libraries

restart_for_libraries(load("debug", sys.argv[1:]).base())
ctypes.CDLL("libprobe.so.1")
print(os.getpid(), os.environ["LD_LIBRARY_PATH"])
"""


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder of packages in which pip seems to have put a library of CUDA's."""
    lib = tmp_path / "packages" / "nvidia" / "probe" / "lib"
    lib.mkdir(parents=True)
    shutil.copy(_ctypes.__file__, lib / "libprobe.so.1")
    return tmp_path / "packages"


def environment(packages: Path) -> dict[str, str]:
    # Without a token of its own Ray would leave one in the home folder.
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    library = {"PYTHONPATH": str(packages), "LD_LIBRARY_PATH": "/usr/local/cuda/lib64"}
    return {**os.environ, **token, **library}


def run(code: str, packages: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=driving.ROOT, env=environment(packages), capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def test_a_ray_worker_has_the_settings_before_jax_loads(tmp_path: Path, packages: Path) -> None:
    settings = [f"runtime.{name}={value}" for name, value in SETTINGS.items()]
    settings += [f"runtime.compilation_cache={tmp_path / 'cache'}", "runtime.prefer_pip_cuda=true"]
    answer = tmp_path / "answer.json"
    done = run(IN_A_WORKER, packages, str(answer), *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    early, seen, jax_config, devices = json.loads(answer.read_text())
    assert early == []  # nothing had read the environment yet
    assert seen["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.5"
    assert seen["XLA_PYTHON_CLIENT_PREALLOCATE"] == "true"
    assert SETTINGS["xla_flags"] in seen["XLA_FLAGS"].split()
    assert (seen["MUJOCO_GL"], seen["JAX_PLATFORMS"]) == ("disabled", "cpu")
    assert seen["CUDA_VISIBLE_DEVICES"] == "" and seen["OMP_NUM_THREADS"] == "1"
    own, system = seen["LD_LIBRARY_PATH"].split(":")
    assert own == str(packages / "nvidia/probe/lib") and system == "/usr/local/cuda/lib64"
    cache = {"jax_platforms": "cpu", "jax_compilation_cache_dir": str(tmp_path / "cache")}
    assert jax_config == cache and devices == 1


def test_a_process_begins_anew_to_find_the_libraries_of_pip(packages: Path) -> None:
    alone = run(RESTARTED, packages)
    assert "libprobe.so.1: cannot open" in alone.stderr
    preferred = run(RESTARTED, packages, "runtime.prefer_pip_cuda=true")
    assert preferred.returncode == 0, preferred.stderr
    path = preferred.stdout.split()[1]
    assert path == f"{packages / 'nvidia/probe/lib'}:/usr/local/cuda/lib64"


def test_a_command_that_begins_anew_begins_its_run_once(packages: Path, tmp_path: Path) -> None:
    storage = tmp_path / "results"
    args = ["debug", f"storage={storage}", "runtime.prefer_pip_cuda=true"]
    done = subprocess.run(
        driving.command(*args, "--dry-run"),
        cwd=driving.ROOT, env=environment(packages), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("a dry run") == 1 and not storage.exists()


def test_settings_that_are_left_alone_set_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "pip_cuda_folders", lambda: ["/pip/nvidia/cudnn/lib"])
    plain = load("debug", ["runtime.compilation_cache=null"]).base()
    found = runtime.process_environment(plain, 2)
    absent = {"XLA_FLAGS", "JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES", "MUJOCO_GL"}
    absent |= {"JAX_COMPILATION_CACHE_DIR", "LD_LIBRARY_PATH"}
    assert not absent & set(found)
    assert found["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"


def test_the_folders_of_pip_come_first_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "pip_cuda_folders", lambda: ["/pip/a", "/pip/b"])
    monkeypatch.setenv("LD_LIBRARY_PATH", "/system::/pip/b")
    assert runtime.library_path() == "/pip/a:/pip/b:/system"
    monkeypatch.setenv("LD_LIBRARY_PATH", runtime.library_path())
    assert runtime.library_path() == "/pip/a:/pip/b:/system"
