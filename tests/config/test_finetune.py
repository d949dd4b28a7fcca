"""Settings of finetuning: presets, schedules and what is refused."""

from pathlib import Path

import pytest

from booster_ray.config import Config, ConfigError, load
from booster_ray.config.finetune import DDPG, moment, value_at

PRESETS = Path(__file__).parents[2] / "tune_configs"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("ddpg.thawing=[{start: 0, lr: 2}]", "ddpg.thawing.0.lr: is 2, expected a finite number"),
        ("ddpg.thawing=[{start: 0, layers: 0}]", "ddpg.thawing.0.layers: is 0, expected an int"),
        ("ddpg.thawing=[{begin: 0}]", "ddpg.thawing.0.begin: unknown key, expected start, layers"),
        ("ddpg.thawing=[{start: 5}, {start: 5}]", "ddpg.thawing: thawing has stages out of order"),
        ("ddpg.dense=[[0, 1, 2]]", "ddpg.dense.0: is a list of 3, expected a list of 2"),
        ("ddpg.dense=[[0.5, 1], [0.2, 1]]", "ddpg.dense: dense has points out of order in a run"),
        ("ddpg.noise=[[0.0, 0.1], [2e6, 0.1], [1.0, 0.0]]", "ddpg.noise: noise has points out of"),
        ("ddpg.official=[]", "ddpg.official: is a list of 0, expected a non-empty list"),
        ("ddpg.critics=3", "ddpg.critics: is 3, expected an integer >= 1 and <= 2"),
        ("ddpg.pretrain_share=1.0", "ddpg.pretrain_share: is 1.0, expected a finite number"),
        ("ddpg.batch_size=1_000_000", "batch_size 1000000 is above replay_size 262144"),
        ("ddpg.replay_size=600", "learning_starts 4096 is above replay_size 600"),
        ("stage=tune", "is 'tune', expected pretrain, clone or finetune; did you mean 'finetune'"),
        (
            "start_from=here",
            "start_from: start_from is set with stage pretrain, expected stage fin",
        ),
    ],
)
def test_what_is_refused(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(PRESETS / "default.yaml", [override])
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_kept_transitions_do_not_tell_what_a_demonstrator_would_have_done() -> None:
    overrides = [
        "imitation.demonstrator=booster_ray.policy.experts.stander:Stander",
        "ddpg.pretrain_share=0.1",
    ]
    load(PRESETS / "default.yaml", overrides)
    with pytest.raises(ConfigError, match=r"pretrain_share 0\.1 with demonstrator .*expected 0"):
        load(PRESETS / "default.yaml", [*overrides, "stage=finetune"])


@pytest.mark.parametrize("kind", ["mjx", "brax:ant"])
def test_worlds_on_a_device_are_not_finetuned_in(kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"stage finetune with world\.kind {kind}, expected wo"):
        load(PRESETS / "default.yaml", ["stage=finetune", f"world={kind}"])


@pytest.mark.parametrize("preset", ["finetune", "demonstrated"])
def test_the_ablation_differs_in_thawing_and_annealing_alone(preset: str) -> None:
    full, plain = (load(PRESETS / f"{n}.yaml").base() for n in (preset, f"{preset}_plain"))
    changed = {"thawing", "dense", "official"}
    assert full.ddpg.model_dump(exclude=changed) == plain.ddpg.model_dump(exclude=changed)
    rest = {"name", "ddpg"}
    assert full.model_dump(exclude=rest) == plain.model_dump(exclude=rest)
    assert [stage.layers for stage in full.ddpg.thawing[:3]] == [1, 2, None]
    assert plain.ddpg.thawing[0].start == 0
    rates = {stage.start: stage.lr for stage in full.ddpg.thawing}
    for stage in plain.ddpg.thawing:
        assert stage.layers is None
        assert stage.lr == (rates[stage.start] if stage.start else full.ddpg.thawing[2].lr)


def test_the_default_stages_are_the_specified_ones() -> None:
    ddpg = DDPG(critic_warmup=1000)
    told = {n: ddpg.stage_at(n) for n in (0, 999, 1000, 20_999, 21_000, 51_000, 10**9)}
    layers = [stage and (stage.layers or "all") for stage in told.values()]
    assert layers == [None, None, 1, 1, 2, "all", "all"]


def test_the_default_annealing_is_the_specified_one() -> None:
    ddpg = Config().ddpg
    for name, first, last in (("dense", 1.0, 0.1), ("official", 0.1, 1.0)):
        values = [value_at(getattr(ddpg, name), n, 1000) for n in (0, 500, 1000, 2000)]
        assert values == pytest.approx([first, 0.55, last, last])


def test_when_is_a_fraction_up_to_one_and_env_steps_above() -> None:
    assert [moment(when, 500) for when in (0.0, 0.5, 1.0, 1.5, 20.0)] == [0, 250, 500, 1.5, 20]
    assert value_at(((0.0, 3.0),), 123, 500) == 3.0
