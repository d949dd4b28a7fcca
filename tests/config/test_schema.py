import os
import subprocess
import sys

import pytest
from pydantic import BaseModel, ValidationError

from booster_ray.config import SAC, Config, Runtime, World, load


def test_importing_config_loads_nothing_heavy() -> None:
    heavy = ["jax", "torch", "ray", "mujoco", "numpy", "hypothesis"]
    code = f"import booster_ray.config, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _models(model: type[BaseModel]) -> list[type[BaseModel]]:
    sections = [f.annotation for f in model.model_fields.values()]
    below = [s for s in sections if isinstance(s, type) and issubclass(s, BaseModel)]
    return [model, *(m for section in below for m in _models(section))]


def test_every_field_is_described_and_has_a_valid_default() -> None:
    for model in _models(Config):
        assert model.model_config["frozen"] and model.model_config["extra"] == "forbid"
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
    assert Config.model_validate(Config().to_dict()) == Config()


def test_configs_are_frozen_and_hashable() -> None:
    config = Config()
    with pytest.raises(ValidationError):
        config.seed = 1
    assert hash(config) == hash(Config())
    world = {"kind": "gym:Ant-v5", "kwargs": {"healthy_z_range": [0.3, 1.0], "a": {"b": None}}}
    one, other = (Config.model_validate({"world": world}) for _ in range(2))
    assert hash(one) == hash(other) and one == other and hash(one) != hash(config)


@pytest.mark.parametrize(
    "raw",
    [
        {"seed": True},
        {"seed": 1.0},
        {"seed": "1"},
        {"seed": -1},
        {"seed": 2**32},
        {"name": ""},
        {"name": "-x"},
        {"name": "a/b"},
        {"name": "x" * 81},
        {"name": "x\n"},
        {"storage": ""},
        {"storage": "a\0b"},
        {"tasks": []},
        {"tasks": ["goalie", "goalie"]},
        {"tasks": "goalie"},
        {"world": {"num_envs": 2}},
        {"world": {"episode_seconds": 0}},
        {"world": {"episode_seconds": 10.1}},
        {"world": {"kind": "warp"}},
        {"control": {"decimation": 51}},
        {"control": {"kp": [1.0] * 5}},
        {"control": {"kd": [1, 1, 1, 1, 1, -1]}},
        {"control": {"default_pose": [0, 0, 0, 0, 0, True]}},
        {"rewards": {"alive": float("nan")}},
        {"rewards": {"alive": "1"}},
        {"rewards": {"alive": True}},
        {"randomization": {"level": 4}},
        {"sac": {"actor_hidden": []}},
        {"sac": {"actor_hidden": [0]}},
        {"sac": {"layer_norm": 1}},
        {"sac": {"discount": 1}},
        {"sac": {"tau": 0}},
        {"sac": {"batch_size": 2**63}},
        {"sac": {"batch_size": 300_000}},
        {"sac": {"learning_starts": 300_000}},
        {"sac": {"log_std_min": 2}},
        {"checkpoint": {"every_minutes": 0}},
        {"trainer": {"workers": 2}},
        {"trainer": {"use_gpu": True, "gpu_fraction": 0.5}, "sac": {"devices": 2}},
        {"tune": {"reduction_factor": 1}},
        {"runtime": {"mem_fraction": 1.01}},
        {"runtime": {"mujoco_gl": "glfw"}},
        {"surplus": 1},
    ],
)
def test_values_out_of_bounds_are_refused(raw: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate(raw)


def test_values_on_the_bounds_are_taken() -> None:
    config = Config.model_validate(
        {
            "seed": 2**32 - 1,
            "name": "9" + "x" * 79,
            "tasks": ["goalie"],
            "world": {"num_envs": 1, "episode_seconds": 10},
            "control": {"kp": [0] * 6, "action_scale": 3},
            "sac": {"batch_size": 8, "replay_size": 8, "learning_starts": 8, "tau": 1},
            "checkpoint": {"every_minutes": 1},
            "runtime": {"mem_fraction": 1},
        }
    )
    assert config.control.kp == (0.0,) * 6 and isinstance(config.control.kp[0], float)


def test_sections_keep_their_rules_alone() -> None:
    with pytest.raises(ValidationError, match="batch_size 9 is above replay_size 8"):
        SAC(batch_size=9, replay_size=8, learning_starts=0)
    assert World(num_envs=1).num_envs == 1  # how many tasks there are is Config's affair


def test_digest_follows_the_settings_alone() -> None:
    again = Config.model_validate({"seed": 0, "world": {"episode_seconds": 10}})
    assert again.digest() == Config().digest()
    assert Config(seed=1).digest() != Config().digest()
    assert len(Config().digest()) == 12 and int(Config().digest(), 16) >= 0


def test_yaml_of_a_config_loads_as_that_config(tmp_path) -> None:
    config = Config(name="3e-4", seed=7, sac=SAC(actor_lr=1e-5), runtime=Runtime(xla_flags="yes"))
    path = tmp_path / "c.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert load(path).base() == config


def test_environment_leaves_unset_variables_out() -> None:
    assert Runtime(compilation_cache=None).environment() == {
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.75",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    runtime = Runtime(
        mem_fraction=1,
        preallocate=True,
        xla_flags="--a=b",
        jax_platforms="cpu",
        cuda_visible_devices="",
        mujoco_gl="egl",
        compilation_cache="~/x",
    )
    assert runtime.environment() == {
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "1.0",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "true",
        "XLA_FLAGS": "--a=b",
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
        "MUJOCO_GL": "egl",
        "JAX_COMPILATION_CACHE_DIR": os.path.expanduser("~/x"),
    }
