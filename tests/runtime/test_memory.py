"""A replay that no memory can hold is refused before anything is begun, by every command."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from track.fake_nvml import Gpu, Library

from booster_ray.config import ConfigError, Sweep, load
from booster_ray.envs.make import check_world
from booster_ray.rl.ddpg.replay import AnnealedReplay
from booster_ray.rl.replay import Replay
from booster_ray.runtime import memory as room
from booster_ray.train import preflight
from booster_ray.train.run import Run

DEFAULT = Path(__file__).parents[2] / "tune_configs/default.yaml"
GIB = 2**30

CAMERA = """
import gymnasium as gym
import numpy as np


class Camera(gym.Env):
    observation_space = gym.spaces.Box(0, 255, (96 * 96 * 3,), np.uint8)
    action_space = gym.spaces.Box(-1, 1, (3,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


gym.register("BoosterCamera-v0", Camera, max_episode_steps=20)
"""
NUMBERS = 96 * 96 * 3


@pytest.fixture
def camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Overrides for worlds that see an image as a row of numbers, kept in an empty folder."""
    (tmp_path / "booster_camera.py").write_text(CAMERA)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    world = "world={kind: 'gym:booster_camera:BoosterCamera-v0', num_envs: 2}"
    return [world, f"storage={tmp_path / 'runs'}", "tracking.listeners=[]"]


def limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, used: int = 0) -> None:
    """Memory as in a container with that limit, in bytes."""
    group = tmp_path / "cgroup"
    group.mkdir(exist_ok=True)
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text(f"{used}\n")
    (group / "memory.stat").write_text("anon 0\ninactive_file 0\n")
    monkeypatch.setattr(room, "CGROUPS", group)
    monkeypatch.setattr(room, "OWN", tmp_path / "none")


@pytest.mark.parametrize(("stage", "key"), [("pretrain", "sac"), ("finetune", "ddpg")])
def test_images_need_more_than_there_is(
    stage: str, key: str, camera: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(tmp_path, monkeypatch, 23 * GIB)
    overrides = [*camera, f"stage={stage}"]
    with pytest.raises(ConfigError) as caught:
        preflight.begin(load(DEFAULT, overrides))
    told = re.fullmatch(
        rf".*default\.yaml: {key}\.replay_size: 262,144 transitions of 221 kB take 54 GiB, this "
        r"machine has [0-9.]+ GiB free; expected at most ([0-9,]+)",
        str(caught.value),
    )
    assert told, caught.value
    assert not (tmp_path / "runs").exists()
    fitting = int(told[1].replace(",", ""))
    assert fitting * room.FLOAT * 2 * NUMBERS > 0.4 * min(23 * GIB, room.free_bytes())
    # What the line says is then accepted.
    assert preflight.begin(load(DEFAULT, [*overrides, f"{key}.replay_size={fitting}"])).is_dir()


def test_what_is_planned_is_what_replays_take() -> None:
    config = load(DEFAULT, ["sac.replay_size=5000"]).base()
    tasks = np.zeros(10, int)
    assert Replay(5000, tasks, 89, 12)._data.nbytes == room.replay_bytes(config, (89, 12))
    config = load(DEFAULT, ["stage=finetune", "ddpg.replay_size=5000"]).base()
    kept = AnnealedReplay(5000, tasks, 89, 12)
    assert kept._data.nbytes + kept._parts.nbytes == room.replay_bytes(config, (89, 12))


def test_a_sweep_is_checked_at_its_largest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limited(tmp_path, monkeypatch, GIB)
    search = "sac.replay_size={search: logint, low: 100_000, high: 9_000_000}"
    with pytest.raises(
        ConfigError, match=r"sac\.replay_size: 9,000,000 transitions of 0\.772 kB take 6\.47"
    ):
        room.check_sweep(load(DEFAULT, [search]), None)
    room.check_sweep(load(DEFAULT, [search.replace("9_000_000", "900_000")]), None)
    experiments = "experiments=[{name: a}, {name: b, sac: {replay_size: 9_000_000}}, {name: c}]"
    with pytest.raises(ConfigError, match=r"9,000,000 transitions of 0\.772 kB"):
        room.check_sweep(load(DEFAULT, [experiments]), None)


def test_on_a_cluster_only_the_worker_knows(
    camera: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(tmp_path, monkeypatch, GIB)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert preflight.begin(load(DEFAULT, [*camera, "name=there"])).is_dir()
    with pytest.raises(ConfigError, match="GiB free"):
        preflight.begin(load(DEFAULT, [*camera, "name=here"]), under_ray=False)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    with pytest.raises(ConfigError, match="GiB free"):
        preflight.begin(load(DEFAULT, [*camera, "name=here"]))


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_the_worker_refuses_what_its_machine_cannot_hold(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(tmp_path, monkeypatch, GIB // 10)
    config = load(DEFAULT, [f"stage={stage}", "world=gym:Pendulum-v1"]).base()
    large = {"replay_size": 10_000_000}
    config = config.model_copy(
        update={"sac": config.sac.model_copy(update=large),
                "ddpg": config.ddpg.model_copy(update=large)}
    )  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        list(Run(config, tmp_path / "run"))
    assert re.search(
        r"replay_size: 10,000,000 transitions of 0\.0\d+ kB take [0-9.]+ GiB, this machine has "
        r"0\.1 GiB; expected at most [0-9,]+$",
        str(caught.value),
    )
    assert str(caught.value) in (tmp_path / "run" / "error.txt").read_text()


def test_trials_that_do_not_fit_beside_one_another_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from booster_ray.tune.command import _begin, main

    limited(tmp_path, monkeypatch, GIB)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    storage, many = f"storage={tmp_path / 'runs'}", "tune.max_concurrent=6"
    overrides = [storage, many, "sac.replay_size=500_000"]
    assert main([str(DEFAULT), "--dry-run", *overrides]) == 0
    said = "the replays of 6 trials at a time take 2.16 GiB, this machine has 1 GiB free: set "
    said += "tune.max_concurrent to at most 2"
    assert f"memory     {said}" in capsys.readouterr().out
    _begin(load(DEFAULT, overrides))
    assert f"warning: {said}" in capsys.readouterr().err
    _begin(load(DEFAULT, [*overrides, "name=two", "tune.max_concurrent=2"]))
    assert capsys.readouterr().err == ""
    with pytest.raises(ConfigError, match="expected at most"):
        main([str(DEFAULT), "--dry-run", *overrides, "sac.replay_size=5_000_000"])


# -- what there is ---------------------------------------------------------------------------


def test_what_nobody_uses_in_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limited(tmp_path, monkeypatch, GIB, used=GIB // 4)
    assert room.limit_bytes() == GIB and room.free_bytes() == 3 * GIB // 4
    (tmp_path / "cgroup" / "memory.stat").write_text(f"anon 0\ninactive_file {GIB // 8}\n")
    assert room.free_bytes() == 7 * GIB // 8
    (tmp_path / "cgroup" / "memory.max").write_text("max\n")
    assert room.limit_bytes() > GIB
    limited(tmp_path, monkeypatch, GIB, used=2 * GIB)
    assert room.free_bytes() == 0


@pytest.mark.parametrize(
    ("line", "group", "names"),
    [
        ("0::/slurm/job_7/step_0", "slurm/job_7", ("memory.max", "memory.current")),
        (
            "9:memory:/slurm/job_7/step_0",
            "memory/slurm/job_7",
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ),
    ],
)
def test_the_limit_of_a_job_holds_for_its_steps(
    line: str, group: str, names: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "cgroup" / group
    here.mkdir(parents=True)
    (here / names[0]).write_text(f"{GIB}\n")
    (here / names[1]).write_text(f"{GIB // 2}\n")
    (here / "memory.stat").write_text("anon 0\n")
    (tmp_path / "own").write_text(f"12:pids:/\n{line}\n")
    monkeypatch.setattr(room, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(room, "OWN", tmp_path / "own")
    assert room.limit_bytes() == GIB and room.free_bytes() == GIB // 2


def test_worlds_on_a_gpu_keep_their_replay_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def checked(*overrides: str) -> Sweep:
        sweep = load(DEFAULT, ["world=mjx", "sac.replay_size=30_000_000", *overrides])
        room.check_sweep(sweep, check_world(sweep.base()))
        return sweep

    gpus = Library(Gpu(total=24 * GIB), Gpu(uuid="GPU-1", total=80 * GIB))
    monkeypatch.setitem(sys.modules, "pynvml", gpus)
    monkeypatch.setattr(room, "find_spec", lambda name: name == "jax_cuda12_plugin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    with pytest.raises(ConfigError, match=r"take 21.6 GiB, JAX may take 18 GiB of the GPU; expec"):
        checked()
    checked("runtime.cuda_visible_devices='1'")
    with pytest.raises(ConfigError, match="JAX may take 15 GiB of the GPU"):
        checked("runtime.cuda_visible_devices='1'", "trainer.use_gpu=true",
                "trainer.gpu_fraction=0.25")  # fmt: skip
    # On the CPU it is the host's memory that counts.
    with pytest.raises(ConfigError, match=r"this machine has .* free"):
        checked("runtime.jax_platforms=cpu", "sac.replay_size=9_000_000_000")
