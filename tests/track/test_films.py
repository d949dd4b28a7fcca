"""Films of the best policy, made beside training."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import driving
import pytest
from track.made import run_folder

from booster_ray.config import Config, load
from booster_ray.store.files import keep_run_id
from booster_ray.track.films import Films
from booster_ray.track.uploader import RunRows

OFTEN = {"tracking": {"video_every_minutes": 0.001}}


def films(root: Path, said: list[str]) -> Films:
    config: Config = load(root / "config.yaml").base()
    return Films(config, root, said.append)


@pytest.mark.slow
def test_the_best_policy_is_filmed_and_told_with_the_next_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = [e for e in ("egl", "osmesa") if renders(e)]
    if not engines:
        pytest.skip("nothing can be drawn here")
    monkeypatch.setenv("MUJOCO_GL", engines[0])
    root = run_folder(tmp_path / "run", **OFTEN)
    keep_run_id(root)
    said: list[str] = []
    made = films(root, said)
    made.start()
    driving.wait_for(lambda: said or list(root.glob("videos/*.mp4")))
    made.close()
    assert not said
    last = RunRows(root).read()[-1]
    assert last.env_steps == 400
    assert last.videos.keys() == {"goalie", "obstacle", "kick_to_target"}
    assert all(path.stat().st_size > 10_000 for path in last.videos.values())


def renders(engine: str) -> bool:
    code = "from booster_ray.evaluate.video import check_renderer; check_renderer()"
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "MUJOCO_GL": engine}, capture_output=True
    )
    return run.returncode == 0


@pytest.mark.slow
def test_without_a_renderer_it_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    root = run_folder(tmp_path / "run", **OFTEN)
    keep_run_id(root)
    said: list[str] = []
    made = films(root, said)
    made.start()
    driving.wait_for(lambda: said)
    made.close()
    assert said == ["No films: MUJOCO_GL is disabled"]
    assert not (root / "videos").exists()


def test_by_default_there_are_none(tmp_path: Path) -> None:
    root = run_folder(tmp_path / "run")
    made = films(root, [])
    made.start()
    made.close()
    assert made._minutes is None
