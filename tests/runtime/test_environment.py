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
from booster_ray.runtime import environment as runtime

SYSTEM = "/usr/local/cuda/lib64"
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

from booster_ray.runtime.environment import keep_numerics, prepare

config = load("debug", sys.argv[2:]).base()
keep_numerics()
prepare(config, 2)
connect(config, None)

@ray.remote
def look():
    early = sorted({"jax", "torch", "mujoco"} & set(sys.modules))
    before = dict(os.environ)
    import ctypes, jax
    ctypes.CDLL("libprobe.so.1")
    names = ["jax_platforms", "jax_compilation_cache_dir", "jax_enable_x64"]
    return early, before, {n: getattr(jax.config, n) for n in names}, len(jax.devices())

Path(sys.argv[1]).write_text(json.dumps(ray.get(look.remote())))
ray.shutdown()
"""

RESTARTED = """
import ctypes, os, sys
from booster_ray.config import load
from booster_ray.runtime.environment import restart_for_libraries

restart_for_libraries(load("debug", sys.argv[1:]).base())
ctypes.CDLL("libprobe.so.1")
print(os.getpid(), os.environ["LD_LIBRARY_PATH"])
"""


@pytest.fixture(params=[(), ("cudnn", "nccl", "cuda_nvrtc")], ids=["cpu", "cuda"])
def packages(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder of packages in which pip seems to have put a library of CUDA's.

    Beside it stands nothing, or what a CUDA build of torch has there.
    """
    for name in ("probe", *request.param):
        (tmp_path / "packages" / "nvidia" / name / "lib").mkdir(parents=True)
    shutil.copy(_ctypes.__file__, tmp_path / "packages/nvidia/probe/lib/libprobe.so.1")
    return tmp_path / "packages"


def environment(packages: Path) -> dict[str, str]:
    # Without a token of its own Ray would leave one in the home folder.
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    path = os.pathsep.join([str(packages), *filter(None, [os.environ.get("PYTHONPATH")])])
    library = {"PYTHONPATH": path, "LD_LIBRARY_PATH": SYSTEM}
    return {**os.environ, **token, **library}


def probe(packages: Path, path: str) -> str:
    """The folder of the probe, which a library path must name once, before the system's.

    A CUDA build of torch brings packages of its own under ``nvidia/``, which come first as well.
    """
    own = str(packages / "nvidia/probe/lib")
    *pips, system = path.split(":")
    assert system == SYSTEM and pips.count(own) == 1 and len(set(pips)) == len(pips)
    assert all(Path(pip).parents[1].name == "nvidia" for pip in pips), pips
    return own


def run(code: str, packages: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=driving.ROOT, env=environment(packages), capture_output=True, text=True, timeout=600,
    )  # fmt: skip


@pytest.mark.parametrize("packages", [("cudnn", "nccl")], indirect=True)
def test_a_ray_worker_has_the_settings_before_jax_loads(
    tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NPROC", raising=False)  # of a run in this process before
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_min_max=true")
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    settings = [f"runtime.{name}={value}" for name, value in SETTINGS.items()]
    settings += [f"runtime.compilation_cache={tmp_path / 'cache'}", "runtime.prefer_pip_cuda=true"]
    answer = tmp_path / "answer.json"
    done = run(IN_A_WORKER, packages, str(answer), *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    early, seen, jax_config, devices = json.loads(answer.read_text())
    assert early == []  # nothing had read the environment yet
    assert seen["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.5"
    assert seen["XLA_PYTHON_CLIENT_PREALLOCATE"] == "true"
    one_thread, users, ours = seen["XLA_FLAGS"].split()
    assert one_thread == "--xla_cpu_multi_thread_eigen=false"
    assert (users, ours) == ("--xla_cpu_enable_fast_min_max=true", SETTINGS["xla_flags"])
    assert (seen["MUJOCO_GL"], seen["JAX_PLATFORMS"]) == ("disabled", "cpu")
    assert (seen["CUDA_VISIBLE_DEVICES"], seen["OMP_NUM_THREADS"], seen["NPROC"]) == ("", "3", "1")
    assert probe(packages, seen["LD_LIBRARY_PATH"])
    cache = {"jax_platforms": "cpu", "jax_compilation_cache_dir": str(tmp_path / "cache")}
    assert jax_config == {**cache, "jax_enable_x64": False} and devices == 1


def test_a_process_begins_anew_to_find_the_libraries_of_pip(packages: Path) -> None:
    alone = run(RESTARTED, packages)
    assert "libprobe.so.1: cannot open" in alone.stderr
    preferred = run(RESTARTED, packages, "runtime.prefer_pip_cuda=true")
    assert preferred.returncode == 0, preferred.stderr
    assert probe(packages, preferred.stdout.split()[1])


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
    # Also what a command set that a fixture of other tests ran in this process.
    for name in ("XLA_FLAGS", "JAX_PLATFORMS", "JAX_COMPILATION_CACHE_DIR", "MUJOCO_GL",
                 "XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_MEM_FRACTION"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
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


# --- what the user has set stays ---

OURS = {
    "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "true",
    "JAX_COMPILATION_CACHE_DIR": "/fast/cache",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "5",
    "NPROC": "7",
    "OMP_NUM_THREADS": "3",
    "TF_CPP_MIN_LOG_LEVEL": "0",
    "JAX_PLATFORMS": "cpu",
    "CUDA_VISIBLE_DEVICES": "1",
    "MUJOCO_GL": "osmesa",
}
"""A value for each variable that a run may set, which it would not choose itself."""


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without the variables, and nothing remembered of runs before."""
    monkeypatch.setattr(runtime, "_ours", {})
    for name in (*OURS, "XLA_FLAGS", "JAX_ENABLE_COMPILATION_CACHE", runtime.DEFAULTS):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize("name", OURS)
def test_a_variable_that_is_set_stays(user: pytest.MonkeyPatch, name: str) -> None:
    user.setenv(name, OURS[name])
    config = load("debug").base()
    runtime.prepare(config, 2)
    assert os.environ[name] == OURS[name]
    assert name not in runtime.worker_environment(config, None)  # Ray's workers inherit it
    elsewhere = runtime.worker_environment(config, "head:6379")
    sent = {**json.loads(elsewhere.pop(runtime.DEFAULTS)), **elsewhere}
    local = {"JAX_COMPILATION_CACHE_DIR": "~/.cache/booster_ray/jax"}
    of_one_machine = {"CUDA_VISIBLE_DEVICES": None, **local}
    assert sent.get(name) == of_one_machine.get(name, OURS[name])


@pytest.mark.parametrize(
    ("setting", "name", "value"),
    [
        ("mem_fraction=0.5", "XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5"),
        ("compilation_cache=/mine", "JAX_COMPILATION_CACHE_DIR", "/mine"),
        ("compilation_cache=null", "JAX_ENABLE_COMPILATION_CACHE", "false"),
        ("jax_platforms='cpu,cpu'", "JAX_PLATFORMS", "cpu,cpu"),
        ("cuda_visible_devices=''", "CUDA_VISIBLE_DEVICES", ""),
        ("mujoco_gl=disabled", "MUJOCO_GL", "disabled"),
    ],
)
def test_what_the_config_sets_goes_first(
    user: pytest.MonkeyPatch, setting: str, name: str, value: str
) -> None:
    for variable, text in OURS.items():
        user.setenv(variable, text)
    # As a run reads its config again, with all defaults written out.
    config = load("debug", [f"runtime.{setting}"]).complete().base()
    assert runtime.process_environment(config, 2) == {name: value}
    assert runtime.worker_environment(config, "head:6379")[name] == value


def test_xla_flags_are_merged_one_by_one(user: pytest.MonkeyPatch) -> None:
    user.setenv("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=true --xla_dump_to='/a b' --x=1")
    config = load("debug", ["runtime.xla_flags=--x=2"]).base()
    merged = "--xla_cpu_multi_thread_eigen=true --xla_dump_to='/a b' --x=2"
    assert runtime.process_environment(config, 1)["XLA_FLAGS"] == merged
    user.delenv("XLA_FLAGS")
    ours = "--xla_cpu_multi_thread_eigen=false --x=2"
    assert runtime.process_environment(config, 1)["XLA_FLAGS"] == ours
    # The name of a file with flags.
    user.setenv("XLA_FLAGS", "/etc/flags")
    assert runtime.process_environment(load("debug").base(), 1)["XLA_FLAGS"] == "/etc/flags"


def test_what_a_run_has_set_is_not_taken_for_the_users(user: pytest.MonkeyPatch) -> None:
    """A driver has all cores, its workers one each; a second run in the process has its own."""
    user.setenv("XLA_FLAGS", "--x=1")
    config = load("debug").base()
    runtime.prepare(config, 16)
    assert os.environ["OMP_NUM_THREADS"] == "16"
    assert runtime.worker_environment(config, None)["OMP_NUM_THREADS"] == "1"
    runtime.prepare(load("debug", ["runtime.mujoco_gl=disabled"]).base(), 1)
    assert os.environ["XLA_FLAGS"] == "--xla_cpu_multi_thread_eigen=false --x=1"
    runtime.prepare(config, 2)
    assert os.environ["XLA_FLAGS"] == "--x=1" and "MUJOCO_GL" not in os.environ


def test_threads_are_never_fewer_than_devices(user: pytest.MonkeyPatch) -> None:
    user.setenv("NPROC", "1")
    config = load("debug", ["sac.devices=4", "sac.batch_size=64"]).base()
    assert runtime.process_environment(config, 1)["NPROC"] == "4"


def test_a_machine_of_a_running_cluster_keeps_its_own(user: pytest.MonkeyPatch) -> None:
    user.setenv("XLA_FLAGS", "--x=1")
    sent = runtime.worker_environment(load("debug").base(), "head:6379")
    assert sent["XLA_FLAGS"] == "${XLA_FLAGS} --x=1"  # Ray replaces it by the machine's
    assert sent["OMP_NUM_THREADS"] == "1"
    assert {name: sent[name] for name in runtime.NUMERICS} == runtime.NUMERICS
    # There.
    user.setenv(runtime.DEFAULTS, sent[runtime.DEFAULTS])
    user.setenv("XLA_FLAGS", "--there=2 --x=1")
    user.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.3")
    user.setenv("HOME", "/home/there")
    runtime.settle()
    assert os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.3"
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "/home/there/.cache/booster_ray/jax"
    assert os.environ["XLA_FLAGS"] == "--xla_cpu_multi_thread_eigen=false --there=2 --x=1"
    assert runtime.DEFAULTS not in os.environ


# --- what changes the numbers ---


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JAX_ENABLE_X64", "1"),
        ("JAX_DEFAULT_PRNG_IMPL", "rbg"),
        ("JAX_NUMPY_DTYPE_PROMOTION", "strict"),
        ("JAX_RANDOM_SEED_OFFSET", "1"),
        ("JAX_THREEFRY_PARTITIONABLE", "0"),
    ],
)
def test_what_changes_the_numbers_is_set_aside(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert runtime.keep_numerics() == [f"{name}={value}"]
    assert os.environ[name] == runtime.NUMERICS[name]
    assert runtime.keep_numerics() == []


def test_what_says_the_same_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("JAX_ENABLE_X64", "0"), ("JAX_THREEFRY_PARTITIONABLE", "True")):
        monkeypatch.setenv(name, value)
    assert runtime.keep_numerics() == []


def test_these_are_the_values_that_jax_has_by_itself() -> None:
    import jax

    for name, value in runtime.NUMERICS.items():
        own = getattr(jax.config, name.lower())
        assert str(getattr(own, "name", own)).lower() == value, name


# --- commands ---


@pytest.mark.parametrize(
    ("module", "args", "environment", "says"),
    [
        ("train", ["debug"], "cuda", "environment: JAX_PLATFORMS: is 'cuda', which JAX cannot"),
        ("tune", ["debug"], "cpu,cdua", "environment: JAX_PLATFORMS: is 'cpu,cdua'"),
        ("train", ["debug", "runtime.jax_platforms=tpu"], "cpu", "debug.yaml: runtime.jax_platf"),
        ("evaluate", ["policies/striker"], "cuda", "environment: JAX_PLATFORMS: is 'cuda'"),
    ],
)
def test_a_platform_that_is_not_there_is_one_line(
    tmp_path: Path,
    module: str,
    args: list[str],
    environment: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", environment)
    storage = [f"storage={tmp_path}"] if module != "evaluate" else []
    done = driving.inside(*args, *storage, module=module)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and says in done.stderr, done.stderr
    assert "expected one of cpu" in done.stderr
    assert list(tmp_path.iterdir()) == []  # the name is free


def test_the_doctor_names_a_platform_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from booster_ray.deploy.doctor.findings import Check, run_check

    check = Check("devices", "booster_ray.deploy.doctor.devices:check", 120, "")
    (found,) = run_check(check, load("debug").base(), {"JAX_PLATFORMS": "cuda"})
    assert found.verdict == "fail" and "JAX_PLATFORMS: is 'cuda'" in found.text


def test_a_run_computes_the_same_whatever_the_environment_says(tmp_path: Path) -> None:
    """The numbers of its reports and of its policy, beside a run in a clean environment."""
    tiny = [*driving.QUICK, "sac.learning_starts=64", "training.env_steps=120"]
    tiny += ["evaluation.every=120", f"storage={tmp_path}"]
    odd = {"JAX_ENABLE_X64": "1", "JAX_DEFAULT_PRNG_IMPL": "rbg", "JAX_RANDOM_SEED_OFFSET": "3"}
    weights = {}
    for name, extra in (("clean", {}), ("odd", odd)):
        process = driving.start("debug", *tiny, f"name={name}", module="train", **extra)
        code, output = driving.finish(process)
        assert code == 0, output
        told = [line for line in output.splitlines() if line.startswith("warning: ")]
        assert told == [
            f"warning: {key}={value} is set aside: it would change what is computed"
            for key, value in sorted(extra.items(), key=lambda item: list(odd).index(item[0]))
        ]
        (saved,) = (tmp_path / name).glob("step_*")
        weights[name] = (saved / "arrays.bin").read_bytes()
    assert weights["clean"] == weights["odd"]


SETTLED = """
import ctypes, os
from booster_ray.runtime.environment import settle

settle()
print(ctypes.CDLL("libnamed.so.1").where(), os.environ["LD_LIBRARY_PATH"])
"""


def test_a_worker_elsewhere_finds_the_libraries_of_its_own_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (compiler := shutil.which("cc")):
        pytest.skip("needs a C compiler")
    system, pip = tmp_path / "toolkit", tmp_path / "packages/nvidia/named/lib"
    for number, folder in enumerate((system, pip)):
        folder.mkdir(parents=True)
        (source := folder / "named.c").write_text(f"int where(void) {{ return {number}; }}")
        flags = ["-shared", "-fPIC", "-Wl,-soname,libnamed.so.1", "-o", f"{folder}/libnamed.so.1"]
        subprocess.run([compiler, *flags, str(source)], check=True)
    config = load("debug", ["runtime.prefer_pip_cuda=true"]).base()
    monkeypatch.setattr(runtime, "pip_cuda_folders", lambda: ["/head/nvidia/cudnn/lib"])
    sent = runtime.worker_environment(config, "head:6379")
    assert "/head" not in json.dumps(sent)  # the worker's machine may have none of it
    there = {**environment(tmp_path / "packages"), "LD_LIBRARY_PATH": str(system)}
    for variables, found in (({}, "0"), (sent, "1")):
        done = subprocess.run(
            [sys.executable, "-c", SETTLED], env={**there, **variables},
            cwd=driving.ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.stdout.split()[:1] == [found], done.stderr
    assert done.stdout.split()[1].split(":")[-1] == str(system) and str(pip) in done.stdout
