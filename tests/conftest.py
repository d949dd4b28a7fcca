"""Before JAX loads: the CPU alone, and one compilation cache for all runs of the tests."""

import os
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

QUICK = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
"""XLA compiles in less than half the time, in exchange for slower programs."""


def pytest_configure(config: pytest.Config) -> None:
    """Slow tests, and those that run with them, are of programs as users have them."""
    if config.option.markexpr == "not slow":
        os.environ.setdefault("XLA_FLAGS", QUICK)


TOGETHER = "tests/envs/test_mjx"
"""How files begin that play the same compiled programs, see tests/envs/device.py."""


class ByFile(LoadFileScheduling):
    """The tests of a file, or of all files of ``TOGETHER``, run in one process."""

    def _split_scope(self, nodeid: str) -> str:
        return TOGETHER if nodeid.startswith(TOGETHER) else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None
