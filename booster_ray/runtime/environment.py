"""What a process must have in its environment before JAX loads.

For each variable counts, first to last: what the config sets (a setting that differs from its
default), what the user's environment holds, what this module would choose. Of ``XLA_FLAGS`` that
holds for each flag. Ray workers get the same from ``runtime_env``, which Ray puts into a worker's
environment before its Python begins, and :func:`settle`.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from booster_ray.config import Config, ConfigError
from booster_ray.config.schema import Runtime

LIBRARY_PATH = "LD_LIBRARY_PATH"
XLA_FLAGS = "XLA_FLAGS"
PLATFORMS = "JAX_PLATFORMS"
CACHE = "JAX_COMPILATION_CACHE_DIR"
WARP_CACHE = "WARP_CACHE_PATH"
DEFAULTS = "BOOSTER_RAY_DEFAULTS"
"""Carries to a worker, as JSON, what it shall have unless its own machine says otherwise."""
PIP_CUDA = "BOOSTER_RAY_PIP_CUDA"
"""Tells a worker of ``runtime.prefer_pip_cuda``."""
CARRIED = (
    "XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_PREALLOCATE", PLATFORMS, "MUJOCO_GL",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "NPROC", "OMP_NUM_THREADS",
    "TF_CPP_MIN_LOG_LEVEL",
)  # fmt: skip
"""Variables of the user's that go along to a cluster that runs already; the rest name things of
one machine."""
NUMERICS = {
    "JAX_ENABLE_X64": "false",
    "JAX_EXPLICIT_X64_DTYPES": "warn",
    "JAX_NUMPY_DTYPE_PROMOTION": "standard",
    "JAX_NUMPY_RANK_PROMOTION": "allow",
    "JAX_DEFAULT_PRNG_IMPL": "threefry2x32",
    "JAX_ENABLE_CUSTOM_PRNG": "false",
    "JAX_LEGACY_PRNG_KEY": "allow",
    "JAX_THREEFRY_PARTITIONABLE": "true",
    "JAX_RANDOM_SEED_OFFSET": "0",
    "JAX_HIGH_DYNAMIC_RANGE_GUMBEL": "false",
}
"""Variables that change what JAX computes, or which of our programs it takes, and the value that a
run stands for. Those that trade speed for precision (``JAX_DEFAULT_MATMUL_PRECISION``) or only look
for mistakes (``JAX_DEBUG_NANS``) are the user's."""
PROBE_SECONDS = 180.0
_SPELLINGS = {
    "true": {"true", "1", "t", "y", "yes", "on"},
    "false": {"false", "0", "f", "n", "no", "off", ""},
}
_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"
_PROBE = """
import jax
try:
    jax.devices()
except Exception as error:
    print(str(error).splitlines()[0] if str(error) else "")
    jax.config.update("jax_platforms", None)
    print(", ".join(sorted({d.platform for d in jax.devices()} | {"cpu"})))
"""

_ours: dict[str, tuple[str, str | None]] = {}
"""What :func:`prepare` has set in this process, and what stood there before."""


def users_environment() -> dict[str, str]:
    """This process's environment as the user made it, before :func:`prepare`."""
    found = dict(os.environ)
    for name, (value, before) in _ours.items():
        if found.get(name) == value:
            found.pop(name)
            found |= {} if before is None else {name: before}
    return found


def process_environment(config: Config, cpus: int) -> dict[str, str]:
    """Environment variables to set for a process that may use ``cpus`` cores.

    What the user's environment holds and the config leaves alone is not among them. Thread pools
    of XLA and BLAS would otherwise take a thread for every core of the machine, in each of several
    trials.
    """
    user = users_environment()
    wanted, defaults = _explicit(config, user), _defaults(config, cpus)
    # Devices that XLA makes of CPU cores wait for one another: with fewer threads than devices,
    # for ever.
    threads = user.get("NPROC", "")
    if threads.isdecimal() and int(threads) < config.sac.devices:
        wanted["NPROC"] = str(config.sac.devices)
    found = {**{name: v for name, v in defaults.items() if name not in user}, **wanted}
    if flags := merged_flags(defaults.get(XLA_FLAGS), user.get(XLA_FLAGS), wanted.get(XLA_FLAGS)):
        found[XLA_FLAGS] = flags
    if config.runtime.prefer_pip_cuda and (path := library_path()):
        found[LIBRARY_PATH] = path
    if WARP_CACHE not in user:
        found |= warp_cache({**user, **found})
    return found


def warp_cache(environment: Mapping[str, str]) -> dict[str, str]:
    """Where Warp keeps its kernels: beside JAX's programs, where those are kept, else left alone.

    Each version of Warp has a folder of its own, which not every release of it sees to.
    """
    folder = environment.get(CACHE)
    disabled = environment.get("JAX_ENABLE_COMPILATION_CACHE") == "false"
    if not folder or disabled or "://" in folder:
        return {}
    try:
        version = metadata.version("warp-lang")
    except metadata.PackageNotFoundError:
        return {}
    return {WARP_CACHE: str(Path(folder) / f"warp-{version}")}


def _explicit(config: Config, user: Mapping[str, str]) -> dict[str, str]:
    """What the config says otherwise than its defaults do."""
    runtime, plain = config.runtime, Runtime().environment()
    found = {name: v for name, v in runtime.environment().items() if plain.get(name) != v}
    if runtime.compilation_cache is None and CACHE in user:
        found["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    if "XLA_PYTHON_CLIENT_MEM_FRACTION" in found:
        found["XLA_PYTHON_CLIENT_MEM_FRACTION"] = _share(config)
    return found


def _defaults(config: Config, cpus: int) -> dict[str, str]:
    """What a process has where neither the config nor the user says anything."""
    found = {
        **config.runtime.environment(),
        "XLA_PYTHON_CLIENT_MEM_FRACTION": _share(config),
        # Trials start one after another with the same small programs: cache them all.
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "NPROC": str(max(cpus, config.sac.devices)),
        "OMP_NUM_THREADS": str(cpus),
        # A program from the compilation cache makes XLA:CPU log an "error" about tuning hints that
        # the host lacks, some thousand characters for each, though it runs.
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    found.pop(XLA_FLAGS, None)
    return found | ({XLA_FLAGS: _ONE_THREAD} if cpus == 1 else {})


def _share(config: Config) -> str:
    """Of a GPU's memory; the others on the same GPU want theirs too."""
    part = config.trainer.gpu_fraction if config.trainer.use_gpu else 1.0
    return f"{config.runtime.mem_fraction * part:g}"


def merged_flags(*layers: str | None) -> str:
    """``XLA_FLAGS`` of several layers; of a flag that two of them set, the later counts.

    A layer that is a file's name, which XLA reads the flags from, stands alone.
    """
    flags: dict[str, str] = {}
    for layer in filter(None, layers):
        if not layer.lstrip().startswith("-"):
            flags = {"": layer}
            continue
        flags.pop("", None)
        flags |= {flag.partition("=")[0]: flag for flag in _split(layer)}
    return " ".join(flags.values())


def _split(flags: str) -> list[str]:
    try:
        return shlex.split(flags, posix=False)  # quotes stay, for XLA knows them too
    except ValueError:
        return flags.split()


def prepare(config: Config, cpus: int, **own: str) -> None:
    """Set this process's environment; must run before jax and ray are imported.

    Args:
        config: of the run.
        cpus: cores that this process may use.
        own: variables that this process has otherwise than its workers.
    """
    wanted, user = process_environment(config, cpus) | own, users_environment()
    for name in _ours.keys() - wanted.keys():  # of a run before in this process
        if name in user:
            os.environ[name] = user[name]
        else:
            os.environ.pop(name, None)
    _ours.clear()
    _ours.update({name: (value, user.get(name)) for name, value in wanted.items()})
    os.environ.update(wanted)


def worker_environment(config: Config, address: str | None) -> dict[str, str]:
    """Environment variables of the Ray workers of a run, for ``runtime_env``.

    Workers of a cluster that this process starts inherit its environment, the user's variables
    among it. To those of another (``address``) some of them are carried; what such a machine's
    own environment says goes before our defaults, see :func:`settle`.
    """
    if not address:
        return process_environment(config, config.trainer.cpus)
    user, defaults = users_environment(), _defaults(config, config.trainer.cpus)
    firm = _explicit(config, user)
    found = {**{n: user[n] for n in CARRIED if n in user}, **firm, **NUMERICS}
    # BLAS reads it before a worker runs anything of ours.
    found.setdefault("OMP_NUM_THREADS", defaults.pop("OMP_NUM_THREADS"))
    if config.runtime.compilation_cache:
        defaults[CACHE] = config.runtime.compilation_cache  # below the home folder there
    if flags := merged_flags(user.get(XLA_FLAGS), firm.get(XLA_FLAGS)):
        found[XLA_FLAGS] = f"${{{XLA_FLAGS}}} {flags}"  # Ray puts the machine's own there
    if config.runtime.prefer_pip_cuda:
        found[PIP_CUDA] = "1"  # where its libraries are, each machine knows itself
    return {**found, DEFAULTS: json.dumps(defaults)}


def settle(defaults: Mapping[str, str] | None = None) -> None:
    """Set variables that this process does not have, before JAX loads.

    Args:
        defaults: their values; None: those that :func:`worker_environment` has sent here.
    """
    if defaults is None:
        defaults = json.loads(os.environ.pop(DEFAULTS, "{}"))
    for name, value in defaults.items():
        if name == XLA_FLAGS:
            os.environ[name] = merged_flags(value, os.environ.get(name))
        else:
            os.environ.setdefault(name, os.path.expanduser(value))
    for name, value in warp_cache(os.environ).items():
        os.environ.setdefault(name, value)
    if os.environ.pop(PIP_CUDA, ""):
        load_pip_cuda()


def keep_numerics() -> list[str]:
    """Undo what the environment would change in the numbers of a run; returns what was undone.

    See :data:`NUMERICS`; to be called before JAX loads.
    """
    undone = []
    for name, kept in NUMERICS.items():
        given = os.environ.get(name)
        if given is None or given.strip().lower() in _SPELLINGS.get(kept, {kept}):
            continue
        os.environ[name] = kept
        undone.append(f"{name}={given}")
    return undone


def check_platforms(config: Config, place: str) -> None:
    """See that JAX can compute where it is told to, if it is told.

    Takes seconds where something else than ``cpu`` is named: another process loads JAX.

    Args:
        config: of the run.
        place: where the config comes from.

    Raises:
        ConfigError: it cannot; the text names the setting or variable, and what devices there are.
    """
    setting = config.runtime.jax_platforms
    named = setting or os.environ.get(PLATFORMS, "")
    if all(one.strip() in ("", "cpu") for one in named.split(",")):
        return
    problem = _platform_problem(named)
    if problem:
        where = (place, "runtime.jax_platforms") if setting else ("environment", PLATFORMS)
        raise ConfigError(*where, f"is '{named}', {problem}")


@functools.cache
def _platform_problem(named: str) -> str:
    """Why JAX cannot use the platforms ``named``; empty if it can."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env={**os.environ, PLATFORMS: named}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=PROBE_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return ""  # a driver that hangs: the doctor names it
    if done.returncode == 0 and not done.stdout:
        return ""
    why, _, there = done.stdout.strip("\n").partition("\n")
    because = f" ({why.partition(' (set JAX_PLATFORMS')[0]})" if why else ""
    return f"which JAX cannot use here{because}, expected one of {there or 'cpu'}, or nothing"


def pip_cuda_folders() -> list[str]:
    """Folders with the shared libraries of the ``nvidia-*`` packages; nothing is loaded."""
    found = find_spec("nvidia")  # a namespace that all of them share
    roots = list(found.submodule_search_locations or ()) if found else []
    return [str(lib) for root in roots for lib in sorted(Path(root).glob("*/lib"))]


def library_path() -> str:
    """This process's LD_LIBRARY_PATH, with :func:`pip_cuda_folders` moved to the front.

    JAX and torch load most of CUDA from there by full path, but what those libraries load in turn
    (the parts of cuDNN, nvrtc's built-ins) the system looks up, here first: with an older
    toolkit on the path the two do not fit.
    """
    folders = pip_cuda_folders()
    others = os.environ.get(LIBRARY_PATH, "").split(":")
    return ":".join([*folders, *(path for path in others if path and path not in folders)])


def load_pip_cuda() -> None:
    """Have this process, and those that it starts, find the libraries of :func:`pip_cuda_folders`.

    A process that has begun looks where LD_LIBRARY_PATH led at its start. But what is loaded is
    found by its name, whoever asks for it.
    """
    if not (folders := pip_cuda_folders()):
        return
    os.environ[LIBRARY_PATH] = library_path()
    left = [str(file) for folder in folders for file in sorted(Path(folder).glob("*.so*"))]
    before = len(left) + 1
    while len(left) < before:  # some need others, and some a driver, which may not be there
        before, left = len(left), [file for file in left if not _loads(file)]


def _loads(file: str) -> bool:
    try:
        ctypes.CDLL(file)
    except OSError:
        return False
    return True


def restart_for_libraries(config: Config) -> None:
    """Begin this process anew if it must look for libraries elsewhere; else do nothing.

    The loader reads LD_LIBRARY_PATH once, when a process begins. Files that this process holds
    locked are free afterwards.
    """
    if not (config.runtime.prefer_pip_cuda and (path := library_path())):
        return
    if path != os.environ.get(LIBRARY_PATH):
        os.environ[LIBRARY_PATH] = path
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
