"""Films, where something can be drawn: in a process of its own, because MuJoCo chooses once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from booster_ray.evaluate.play import Episode
from booster_ray.evaluate.video import NoRenderer, check_renderer, film

CODE = """
import sys
from pathlib import Path
import imageio.v2 as imageio
import numpy as np
from booster_ray.evaluate.play import Episode
from booster_ray.evaluate.video import NoRenderer, check_renderer, film
try:
    check_renderer()
except NoRenderer as reason:
    print(reason)
    sys.exit(3)
torques = np.zeros((400, 12))
film(Episode("goalie", 3, 0, {}, 0.8, 1, 0, 0, None, 0, 0, 0, 0, torques), Path("a.mp4"))
frames = np.stack([frame for frame in imageio.get_reader("a.mp4")]).astype(float)
print(frames.shape, frames.std(), np.abs(frames[-1] - frames[0]).mean())
assert len(frames) == 21 and frames.shape[1:] == (360, 640, 3)
assert frames.std() > 10, "an empty picture"
assert np.abs(frames[-1] - frames[0]).mean() > 0.2, "nothing moves, but it falls"
"""


@pytest.mark.slow
def test_a_fall_is_filmed(tmp_path: Path) -> None:
    reasons = []
    for engine in ("egl", "osmesa"):
        run = subprocess.run(
            [sys.executable, "-c", CODE],
            cwd=tmp_path,
            env={**os.environ, "MUJOCO_GL": engine},
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode == 0:
            assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
            return
        assert run.returncode == 3, run.stderr
        reasons.append(run.stdout)
    pytest.skip(" ".join(reasons))


def test_without_a_renderer_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    with pytest.raises(NoRenderer, match="MUJOCO_GL is disabled"):
        check_renderer()


def test_an_episode_without_torques_cannot_be_filmed(tmp_path: Path) -> None:
    episode = Episode("goalie", 0, 0.0, {}, 1.0, 1.0, 0.0, 0.0, None, 0.0, 0.6, 0.5, 0.1)
    with pytest.raises(ValueError, match="keep_torques"):
        film(episode, tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())
