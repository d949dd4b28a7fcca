"""What the plans say about sizes they were not measured at."""

from __future__ import annotations

from pathlib import Path

import pytest

from booster_ray.config import ConfigError, load
from booster_ray.deploy.doctor.cost import cost, fit, slots
from booster_ray.deploy.doctor.machines import Machine, find, read_prices, this_machine
from booster_ray.deploy.doctor.measure import typical
from booster_ray.deploy.doctor.memory import MemoryPlan, Part, heaviest, plan_memory
from booster_ray.tune.plan import plan

PRICES = read_prices()
L4 = find(PRICES, "g2-standard-12")


def planned(*overrides: str, gpu: bool = False, preset: str = "default") -> MemoryPlan:
    config = load(preset, overrides).base()
    return plan_memory(config, typical(config), gpu)


def part(plan: MemoryPlan, name: str) -> Part:
    return next(one for one in plan.parts if one.name == name)


def test_the_replay_is_its_transitions() -> None:
    small, large = planned("sac.replay_size=100_000"), planned("sac.replay_size=1_100_000")
    each = 4 * (2 * 89 + 12 + 3)
    assert part(large, "replay").host - part(small, "replay").host == pytest.approx(each)
    assert large.host - small.host == pytest.approx(each + 0.1 * each, rel=1e-6)  # the copy
    assert large.resume == 0.0  # read from disk a segment at a time
    several = planned("stage=finetune", "trainer.workers=2", "ddpg.replay_size=100_000")
    own = part(several, "replay").host
    assert several.resume == pytest.approx(2 * own, rel=1e-3)
    features = "observation.features=[egocentric, clock]"
    assert part(planned(features), "replay").host > part(planned(), "replay").host


def test_what_a_demonstrator_would_have_done_is_kept_in_finetuning() -> None:
    who = "imitation.demonstrator=booster_ray.policy.experts.stander:Stander"

    def replay(*overrides: str) -> float:
        return part(planned("ddpg.replay_size=1_000_000", *overrides), "replay").host

    assert replay("stage=finetune", who) - replay("stage=finetune") == pytest.approx(4 * 12)
    assert replay(who) == replay()


def test_randomized_worlds_own_a_model() -> None:
    plain = part(planned("world.num_envs=300"), "worlds").host
    own = part(planned("world.num_envs=300", "randomization.level=2"), "worlds").host
    assert plain < 30 and own == pytest.approx(99 * (1.08 + 8.55 + 0.70))


def test_wider_networks_and_larger_batches_need_more() -> None:
    wide = "sac.critic_hidden=[2048, 2048]"
    assert part(planned(wide), "networks").host > 20 * part(planned(), "networks").host
    assert part(planned("sac.batch_size=8192"), "batch").host > 10
    finetune = planned("stage=finetune", "ddpg.batch_size=8192")
    assert part(finetune, "batch").host > 10 and finetune.device == 0


def test_a_gpu_takes_worlds_replay_and_learner() -> None:
    mjx = ("world=mjx", "world.num_envs=2048", "trainer.use_gpu=true", "trainer.workers=1")
    on_gpu, without = planned(*mjx, gpu=True), planned(*mjx)
    assert without.device == 0 and part(without, "replay").host > 200
    assert part(on_gpu, "replay").device == part(without, "replay").host
    assert part(on_gpu, "worlds").device > 200 and on_gpu.host < without.host
    native = planned("trainer.use_gpu=true", "trainer.workers=1", gpu=True)
    assert part(native, "replay").device == 0 and part(native, "networks").device > 0


def test_a_team_divides_its_replay() -> None:
    team = ("stage=finetune", "trainer.workers=4")
    assert part(planned(*team), "replay").host == pytest.approx(
        part(planned("stage=finetune"), "replay").host / 4
    )


def test_a_sweep_is_planned_at_its_heaviest() -> None:
    sweep = load("debug", [
        "world.num_envs={search: choice, values: [600, 6, 12]}",
        "sac.replay_size={search: int, low: 2048, high: 50000}",
    ])  # fmt: skip
    config = heaviest(sweep, typical(sweep.base()), gpu=False)
    assert config.world.num_envs == 600 and config.sac.replay_size == 50_000
    assert config.randomization.level == 1


def test_what_does_not_fit_says_so() -> None:
    config = load("default", ["sac.replay_size=100_000_000"]).base()
    small = Machine(cpus=2, memory_gb=8)
    found = fit(config, plan_memory(config, typical(config), gpu=False), small, trials=6)
    assert found.at_once == 2 and "host memory" in found.problem and "replay_size" in found.fix
    gpu = load("default", [
        "world=mjx", "world.num_envs=2048", "sac.replay_size=40_000_000",
        "trainer.use_gpu=true", "trainer.workers=1",
    ]).base()  # fmt: skip
    found = fit(gpu, plan_memory(gpu, typical(gpu), gpu=True), L4, trials=6)
    assert "GPU memory" in found.problem and found.device_limit == pytest.approx(0.75 * 24)


def test_trials_that_share_a_gpu() -> None:
    quarter = load("default", ["trainer.use_gpu=true", "trainer.gpu_fraction=0.25"]).base()
    assert slots(quarter, L4) == 4
    assert slots(quarter, Machine(cpus=12, memory_gb=48)) == 0
    assert slots(load("default", ["trainer.cpus=5"]).base(), L4) == 2


def test_a_preemptible_hour_is_longer_and_cheaper(tmp_path: Path) -> None:
    sweep = load("default", [
        f"storage={tmp_path}", "training.env_steps=3_600_000", "tune.trials=12",
        "checkpoint.every_env_steps=360_000",
    ])  # fmt: skip
    config = sweep.base()
    fitting = fit(config, plan_memory(config, typical(config), gpu=False), L4, trials=12)
    found = cost(plan(sweep, None), "L4", L4, PRICES, fitting, rate=1000.0)
    assert found.trials_per_machine == 12 and found.trial_hours == pytest.approx(12)
    assert found.machine_hours == pytest.approx(1) and found.on_demand == pytest.approx(1.0)
    lost = 0.05 * (5 / 60 + 0.5 * 0.1)
    assert found.preemptible_hours == pytest.approx(1 + lost)
    assert found.preemptible == pytest.approx(0.40 * (1 + lost))


def test_the_table_may_be_the_users_own(tmp_path: Path) -> None:
    table = tmp_path / "mine.yaml"
    table.write_text("machines: {mine: {cpus: 4, memory_gb: 16, on_demand: 0.1}}\n")
    assert find(read_prices(table), "mine").on_demand == 0.1
    table.write_text("machines: {mine: {cpus: 4, memory_gb: 16, on_demnd: 0.1}}\n")
    with pytest.raises(ConfigError, match=r"machines\.mine\.on_demnd"):
        read_prices(table)
    table.write_text("machines: [")
    with pytest.raises(ConfigError, match=r"mine\.yaml:\d"):
        read_prices(table)


def test_every_price_says_where_it_is_from() -> None:
    assert all(one.source and one.checked for one in PRICES.machines.values())


def test_this_machine_has_cores_and_memory() -> None:
    here = this_machine([24.0, 24.0])
    assert here.cpus >= 1 and here.memory_gb > 1
    assert here.gpus == 2 and here.gpu_memory_gb == 24.0
