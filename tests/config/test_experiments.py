"""Experiments and grids: trials that a config lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from booster_ray.config import ConfigError, Sweep, load

GRID = "{search: grid, values: [0.1, 0.2, 0.3]}"


def swept(folder: Path, text: str, *overrides: str) -> Sweep:
    file = folder / "a.yaml"
    file.write_text(text, encoding="utf-8")
    return load(file, overrides)


def refused(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        swept(folder, text, *overrides)
    line = str(caught.value).replace(f"{folder}/", "")
    assert line.splitlines() == [line]
    return line


@pytest.mark.parametrize(
    "text",
    [
        "experiments:\n- name: plain\n- name: slow\n  sac: {tau: 0.01}\n  world: official\n",
        "experiments:\n  plain:\n  slow: {sac: {tau: 0.01}, world: {kind: official}}\n",
    ],
)
def test_a_list_and_a_mapping_mean_the_same(tmp_path: Path, text: str) -> None:
    sweep = swept(tmp_path, f"world: {{num_envs: 7}}\n{text}")
    assert sweep.points == ({"experiment": "plain"}, {"experiment": "slow"})
    plain, slow = map(sweep.resolve, sweep.points)
    assert plain == sweep.base() and plain.tune.trials == 2
    assert (slow.sac.tau, slow.world.kind, slow.world.num_envs) == (0.01, "official", 7)
    assert slow.model_copy(update={"sac": plain.sac, "world": plain.world}) == plain


def test_a_grid_is_every_combination_and_an_experiment_leaves_it_or_has_its_own(
    tmp_path: Path,
) -> None:
    sweep = swept(tmp_path, f"sac: {{tau: {GRID}, discount: {{search: grid, values: [0.9, 0.8]}}}}")
    assert len(sweep.points) == sweep.base().tune.trials == 6
    assert sweep.points[:2] == tuple({"sac.discount": 0.9, "sac.tau": t} for t in (0.1, 0.2))
    sweep = swept(
        tmp_path,
        f"sac: {{tau: {GRID}}}\nexperiments:\n  a:\n  b: {{sac: {{tau: 0.5}}}}\n"
        "  c: {sac: {tau: {search: grid, values: [0.6, 0.3]}}}\n",
    )
    taus = [(p["experiment"], sweep.resolve(p).sac.tau) for p in sweep.points]
    assert taus == [*(("a", t) for t in (0.1, 0.2, 0.3)), ("b", 0.5), ("c", 0.6), ("c", 0.3)]
    assert "sac.tau" not in sweep.points[3]
    assert list(sweep.space["sac.tau"].ends().values()) == [0.1, 0.2, 0.3, 0.6]
    assert [config.sac.tau for config in sweep.variants()] == [0.1, 0.5, 0.6]


def test_what_is_written_back_with_all_defaults_says_the_same(tmp_path: Path) -> None:
    text = f"sac: {{tau: {GRID}}}\nexperiments: {{a: , b: {{seed: 4, sac: {{tau: 1}}}}}}\n"
    sweep = swept(tmp_path, text)
    complete = sweep.complete()
    assert complete.raw["sac"]["batch_size"] == sweep.base().sac.batch_size
    (tmp_path / "sweep.yaml").write_text(complete.to_yaml())
    again = load(tmp_path / "sweep.yaml")
    assert (again.points, again.space) == (sweep.points, sweep.space)
    assert [again.resolve(p) for p in again.points] == [sweep.resolve(p) for p in sweep.points]
    assert Sweep.from_raw(sweep.raw, "x").points == sweep.points


def test_a_file_adds_experiments_to_those_of_its_base(tmp_path: Path) -> None:
    (tmp_path / "below.yaml").write_text("tune: {trials: 9}\nexperiments: {a: {seed: 1}, b: {}}\n")
    sweep = swept(
        tmp_path,
        "base: below\nexperiments: [{name: c, seed: 3}, {name: a, sac: {tau: 0.4}}]\n",
        "experiments.b.seed=2",
    )
    assert [(p["experiment"], sweep.resolve(p).seed) for p in sweep.points] == [
        ("a", 1), ("b", 2), ("c", 3),
    ]  # fmt: skip
    assert sweep.resolve({"experiment": "a"}).sac.tau == 0.4
    assert sweep.base().tune.trials == 3, "the base's number is of its own sweep"


def test_values_of_a_trial_are_checked(tmp_path: Path) -> None:
    sweep = swept(tmp_path, "experiments: {a: , bee: {training: {env_steps: 7}}}\n")
    for values, text in (
        ({}, "experiment: is null, expected a or bee"),
        ({"experiment": "be"}, "is 'be', expected a or bee; did you mean 'bee'?"),
        ({"experiment": "a", "sac.tau": 0.1}, "sac.tau: is not searched"),
    ):
        with pytest.raises(ConfigError) as caught:
            sweep.resolve(values)
        assert text in str(caught.value)
    budget = sweep.base().training.env_steps
    assert [sweep.env_steps(point) for point in sweep.points] == [budget, 7]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("experiments: []\n", "a.yaml: experiments: is empty, expected a list of"),
        ("experiments: 3\n", "a.yaml: experiments: is 3, expected a list of experiments"),
        ("experiments: [3]\n", "a.yaml: experiments.0: is 3, expected a mapping with a name"),
        ("experiments: [{seed: 1}]\n", "a.yaml: experiments.0: has no name, expected name: NAME"),
        ("experiments: [{name: 1}]\n", "experiments.0.name: is 1, expected a name of letters"),
        ("experiments: {a b: {}}\n", "experiments.a b: is 'a b', expected a name of letters"),
        ("experiments: [{name: a}, {name: b}, {name: a}]\n",
         "a.yaml: experiments.2.name: is 'a' as that of experiments.0, expected each name once"),
        ("experiments: {a: 3}\n", "experiments.a: is 3, expected a mapping of what it sets"),
        ("experiments: {a: {experiments: {b: }}}\n",
         "a.yaml: experiments.a.experiments: is in an experiment itself, expected settings"),
        ("experiments: {a: {sac: {tua: 1}}}\n",
         "a.yaml: experiments.a.sac.tua: unknown key, expected a key of sac; did you mean 'tau'?"),
        ("experiments: {a: {sac: {tau: 3}}}\n",
         "a.yaml: experiments.a.sac.tau: is 3, expected a finite number > 0 and <= 1"),
        ("sac: {replay_size: 600}\nexperiments: {a: {sac: {learning_starts: 601}}}\n",
         "a.yaml: sac.replay_size: learning_starts 4096 is above replay_size 600"),
        ("sac: {replay_size: 5000}\nexperiments: {a: {sac: {learning_starts: 6000}}}\n",
         "a.yaml: experiments.a.sac.learning_starts: learning_starts 6000 is above replay_size"),
        ("experiments: {a: {tune: {trials: 2}}}\n",
         "a.yaml: experiments.a.tune.trials: is the same for the whole sweep, expected beside"),
        ("experiments: {a: {name: x}}\n", "experiments.a.name: is the same for the whole sweep"),
        ("experiments: {a: {start_from: $NOT_SET_9, stage: finetune}}\n",
         "a.yaml: experiments.a.start_from: names $NOT_SET_9, expected a variable that is set"),
        ("experiments: {a: {world: gym:Pendulum-v1}}\n",
         "a.yaml: experiments.a.world.kind: is gym:Pendulum-v1 beside native, whose scores"),
        ("trainer: {use_gpu: true}\nexperiments: {a: {sac: {devices: 2}}}\n",
         "a.yaml: experiments.a.sac.devices: needs 2 GPUs, other trials 1, expected the same"),
        ("experiments: {a: }\ntune: {scheduler: pbt}\n",
         "a.yaml: tune.scheduler: is pbt beside experiments, expected asha or none"),
        (f"sac: {{tau: {GRID}}}\ntune: {{scheduler: pbt}}\n",
         "a.yaml: tune.scheduler: is pbt beside a grid, expected asha or none"),
        ("experiments: {a: }\nsac: {tau: {search: uniform, low: 0.1, high: 0.2}}\n",
         "a.yaml: sac.tau.search: is uniform beside experiments, whose trials are listed"),
        ("experiments: {a: {sac: {tau: {search: choice, values: [0.1]}}}}\n",
         "a.yaml: experiments.a.sac.tau.search: is choice beside experiments"),
        (f"sac: {{tau: {GRID}, discount: {{search: uniform, low: 0.8, high: 0.9}}}}\n",
         "a.yaml: sac.discount.search: is uniform beside a grid"),
        (f"sac: {{tau: {GRID}}}\ntune: {{trials: 4}}\n",
         "a.yaml: tune.trials: is 4, expected 3, which the grid gives, or no such setting"),
        (f"seed: {{search: grid, values: {list(range(4000))}}}\nsac: {{tau: {GRID}}}\n",
         "are 12,000 trials, expected at most 10,000"),
        ("experiment: {a: }\n", "a.yaml: experiment: unknown key, expected a top-level key; did"),
        ("global: {devices: 1}\n", "a.yaml: global: unknown key, expected runtime: devices, XLA"),
    ],
)  # fmt: skip
def test_each_mistake_is_one_line_that_names_the_place(
    tmp_path: Path, text: str, line: str
) -> None:
    assert line in refused(tmp_path, text)


def test_a_number_of_trials_contradicts_only_where_it_is_meant(tmp_path: Path) -> None:
    text = f"tune: {{trials: 7}}\nsac: {{tau: {GRID}}}\n"
    assert refused(tmp_path, text).startswith("a.yaml: tune.trials: is 7, expected 3")
    assert refused(tmp_path, "experiments: {a: }\n", "tune.trials=2").startswith("command line")
    assert swept(tmp_path, "experiments: {a: }\n", "tune.trials=1").points
    fewer = swept(tmp_path, "tune: {trials: 7}\n", f"sac.tau={GRID}")
    assert fewer.base().tune.trials == 3
