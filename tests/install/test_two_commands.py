"""The README's two commands, one after the other, as a newcomer types them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import driving
import pytest


@pytest.mark.slow
def test_demo_then_test_in_one_fresh_clone(tmp_path: Path) -> None:
    """An empty home, and a PATH that has the system's Python and make but nothing of ours.

    Of the environment only what this machine's pip needs to find packages stays.
    """
    clone, home = tmp_path / "clone", tmp_path / "home"
    home.mkdir()
    subprocess.run(["git", "clone", "-q", driving.ROOT, clone], check=True, timeout=120)
    environment = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    environment |= {"PATH": f"{sys.base_prefix}/bin:/usr/bin:/bin", "HOME": str(home)}
    for command in ("demo", "test"):
        process = subprocess.Popen(
            ["make", command], cwd=clone, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        code, output = driving.finish(process, timeout=3600)
        assert code == 0, (command, output[-5000:])
