"""Brax and MJX load in silence, and nothing else is silenced."""

import subprocess
import sys

import pytest

from booster_ray.envs import brax_mjx

LOADED = "from booster_ray.envs import brax_world, mjx_world, mjx_randomization"


def test_nothing_is_printed_where_warp_is_not_installed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""


@pytest.mark.parametrize("installed", [False, True])
def test_what_else_is_said_is_printed(
    installed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(brax_mjx, "find_spec", lambda name: object() if installed else None)
    with pytest.raises(ZeroDivisionError), brax_mjx._without_warps_absence():
        print("Failed to import warp: no CUDA")
        print("Failed to import mujoco_warp: no CUDA")
        print("what is ours")
        raise ZeroDivisionError
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == "what is ours" and len(told) == (3 if installed else 1)
