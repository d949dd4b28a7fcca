"""What a process must have in its environment before JAX loads."""

from __future__ import annotations

import os

from booster_ray.config import Config

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
    return environment
