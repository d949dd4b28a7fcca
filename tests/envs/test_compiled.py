from pathlib import Path

import mujoco
import numpy as np
import pytest

from booster_ray.envs import model as worlds_model
from booster_ray.envs.compiled import cache_folder, compiled
from booster_ray.soccer import game


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def ball() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><body name='ball'><freejoint/><geom size='.1'/></body></worldbody>"
        "</mujoco>"
    )


def never() -> mujoco.MjModel:
    raise AssertionError("built again")


def raw(model: mujoco.MjModel, path: Path) -> bytes:
    mujoco.mj_saveModel(model, str(path))
    return path.read_bytes()


@pytest.mark.parametrize("task", game.TASKS)
def test_a_kept_model_is_the_compiled_one(task: str, tmp_path: Path) -> None:
    source = Path(worlds_model.__file__)
    first = compiled(task, source, lambda: worlds_model._compile(task))
    second = compiled(task, source, never)
    assert raw(first, tmp_path / "1") == raw(second, tmp_path / "2")


def test_another_source_is_another_model(tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text("one")
    compiled("ball", source, ball)
    compiled("ball", source, never)
    source.write_text("two")
    with pytest.raises(AssertionError, match="built again"):
        compiled("ball", source, never)


@pytest.mark.parametrize("damage", [b"", b"not a model", None])
def test_a_damaged_file_is_replaced(damage: bytes | None, tmp_path: Path) -> None:
    whole = raw(compiled("ball", Path(__file__), ball), tmp_path / "whole")
    (kept,) = cache_folder().iterdir()
    kept.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert np.isclose(compiled("ball", Path(__file__), ball).geom_size[0, 0], 0.1)
    assert kept.read_bytes() == whole


def test_a_folder_that_cannot_be_written_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compiled("ball", Path(__file__), ball).nbody == 2
