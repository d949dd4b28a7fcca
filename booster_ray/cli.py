"""What the commands share: one line for bad input, the run's environment before JAX loads."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable

from booster_ray.config import Config, ConfigError


def guarded(main: Callable[[], int]) -> int:
    """Run a command; bad input becomes one line on stderr and exit code 2."""
    from booster_ray.checkpoint import CheckpointError

    try:
        return main()
    except (ConfigError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def prepare_process(config: Config, cpus: int) -> None:
    """Set this process's environment; must run before jax and ray are imported."""
    from booster_ray.train.runtime import process_environment

    os.environ.update(process_environment(config, cpus))
    if not os.environ.get("RAY_ADDRESS"):
        # A token for the cluster that this process may start, and for no other. Ray would write
        # one to the user's home, and every `ray start` from then on would ask for it.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # Anonymous usage reports are the user's to switch on.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
