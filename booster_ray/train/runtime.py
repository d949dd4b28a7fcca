"""What a process must have in its environment before JAX loads.

Ray workers get the same from ``runtime_env``, which Ray puts into a worker's environment before
its Python begins.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from booster_ray.config import Config

LIBRARY_PATH = "LD_LIBRARY_PATH"
_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"


def process_environment(config: Config, cpus: int) -> dict[str, str]:
    """Environment variables for a process that may use ``cpus`` cores.

    Thread pools of XLA and BLAS would otherwise take a thread for every core of the machine,
    in each of several trials.
    """
    environment = config.runtime.environment()
    if config.trainer.use_gpu:  # the others on the same GPU want their memory too
        share = config.runtime.mem_fraction * config.trainer.gpu_fraction
        environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{share:g}"
    # Trials start one after another with the same small programs: cache them all.
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    # Devices that XLA makes of CPU cores wait for one another: with fewer threads than devices,
    # for ever.
    threads = max(cpus, config.sac.devices)
    environment |= {"NPROC": str(threads), "OMP_NUM_THREADS": str(cpus)}
    # A program from the compilation cache makes XLA:CPU log an "error" about tuning hints that
    # the host lacks, some thousand characters for each, though it runs.
    environment["TF_CPP_MIN_LOG_LEVEL"] = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3")
    if cpus == 1:
        flags = environment.get("XLA_FLAGS", "")
        environment["XLA_FLAGS"] = f"{flags} {_ONE_THREAD}".strip()
    if config.runtime.prefer_pip_cuda and (path := library_path()):
        environment[LIBRARY_PATH] = path
    return environment


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
