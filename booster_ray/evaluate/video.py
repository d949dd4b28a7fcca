"""A film of an episode, played again from its torques in sai_mujoco."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from booster_ray.envs.official import make_official
from booster_ray.evaluate.play import Episode
from booster_ray.soccer import game

FRAMES_PER_SECOND = 25
SIZE = {"width": 640, "height": 360}


class NoRenderer(Exception):
    """One line: why nothing can be drawn here."""


def check_renderer() -> None:
    """Refuse early where nothing can be drawn.

    Raises:
        NoRenderer: MUJOCO_GL forbids it, or its library is missing.
    """
    if os.environ.get("MUJOCO_GL") == "disabled":
        raise NoRenderer("MUJOCO_GL is disabled")
    try:
        import mujoco

        model = mujoco.MjModel.from_xml_string("<mujoco/>")
        with mujoco.Renderer(model, 16, 16) as renderer:
            renderer.update_scene(mujoco.MjData(model))
            renderer.render()
    except Exception as error:  # each back end has errors of its own
        text = str(error).splitlines()
        reason = text[0] if text else type(error).__name__
        raise NoRenderer(f"{reason}; try MUJOCO_GL=egl or osmesa") from None


def film(episode: Episode, path: Path) -> None:
    """Write an episode, played with ``keep_torques``, as an MP4 file.

    Raises:
        NoRenderer: nothing can be drawn here.
        ValueError: the episode's torques were not kept.
    """
    import imageio.v2 as imageio

    if episode.torques is None:
        raise ValueError("the episode was played without keep_torques")
    try:
        env = make_official(episode.task, render_mode="rgb_array", **SIZE)
    except Exception as error:
        raise NoRenderer(str(error).splitlines()[0]) from None
    every = round(1.0 / (FRAMES_PER_SECOND * game.TIMESTEP))
    temp = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        env.reset(seed=episode.seed)
        writer: Any
        with imageio.get_writer(temp, fps=FRAMES_PER_SECOND, macro_block_size=8) as writer:
            for step, torque in enumerate(episode.torques):
                if step % every == 0:
                    writer.append_data(np.asarray(env.render()))
                env.step(torque)
            writer.append_data(np.asarray(env.render()))
        temp.rename(path)
    finally:
        temp.unlink(missing_ok=True)
        env.close()
