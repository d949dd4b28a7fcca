import pickle

import pytest

from booster_ray.config import Choice, ConfigError, FloatRange, IntRange, Sweep


def _sweep(key: str, search: object) -> Sweep:
    section, _, name = key.rpartition(".")
    return Sweep.from_raw({section: {name: search}} if section else {name: search}, "x.yaml")


@pytest.mark.parametrize(
    ("key", "search", "found"),
    [
        ("sac.tau", {"search": "uniform", "low": 0.1, "high": 1}, FloatRange(0.1, 1.0)),
        (
            "sac.actor_lr",
            {"search": "loguniform", "low": 1e-4, "high": 1e-3},
            FloatRange(1e-4, 1e-3, log=True),
        ),
        ("randomization.level", {"search": "int", "low": 0, "high": 3}, IntRange(0, 3)),
        ("sac.batch_size", {"search": "logint", "low": 8, "high": 64}, IntRange(8, 64, log=True)),
        ("rewards.fall", {"search": "int", "low": -9, "high": -1}, IntRange(-9, -1)),
        ("sac.activation", {"search": "choice", "values": ["elu"]}, Choice(("elu",))),
        (
            "sac.actor_hidden",
            {"search": "choice", "values": [[8], [8, 8]]},
            Choice(([8], [8, 8])),
        ),
        (
            "checkpoint.every_minutes",
            {"search": "choice", "values": [None, 1]},
            Choice((None, 1)),
        ),
    ],
)
def test_searches_become_distributions(key: str, search: dict, found: object) -> None:
    sweep = _sweep(key, search)
    assert sweep.space == {key: found}
    assert search["search"] == sweep.space[key].kind
    sweep.base()


@pytest.mark.parametrize(
    ("key", "search", "line"),
    [
        (
            "sac.tau",
            {"search": "unifrm", "low": 0.1, "high": 1},
            "sac.tau.search: is 'unifrm', expected uniform, loguniform, int, logint, choice or "
            "grid; did you mean 'uniform'?",
        ),
        (
            "sac.tau",
            {"search": "uniform", "low": 0.1, "hihg": 1},
            "sac.tau.hihg: unknown key, expected search, low or high in a uniform search; "
            "did you mean 'high'?",
        ),
        (
            "sac.tau",
            {"search": "uniform", "low": 0.1},
            "sac.tau: uniform search without 'high', expected search, low, high",
        ),
        (
            "sac.tau",
            {"search": "uniform", "low": 0.1, "high": "1"},
            "sac.tau.high: is '1', expected a finite number",
        ),
        (
            "sac.tau",
            {"search": "uniform", "low": True, "high": 1},
            "sac.tau.low: is true, expected a finite number",
        ),
        (
            "sac.tau",
            {"search": "uniform", "low": 0.5, "high": 0.5},
            "sac.tau: low 0.5 is not below high 0.5, expected low < high",
        ),
        (
            "sac.tau",
            {"search": "uniform", "low": 0.5, "high": 1.5},
            "sac.tau.high: is 1.5, expected a finite number > 0 and <= 1",
        ),
        (
            "sac.tau",
            {"search": "uniform", "low": 0, "high": 1},
            "sac.tau.low: is 0.0, expected a finite number > 0 and <= 1",
        ),
        (
            "rewards.fall",
            {"search": "loguniform", "low": 0, "high": 1},
            "rewards.fall.low: is 0, expected above 0 in a loguniform search",
        ),
        (
            "sac.batch_size",
            {"search": "int", "low": 1.0, "high": 2},
            "sac.batch_size.low: is 1.0, expected an integer",
        ),
        (
            "sac.batch_size",
            {"search": "loguniform", "low": 1, "high": 2},
            "sac.batch_size.search: a loguniform search gives fractions, expected search: logint",
        ),
        (
            "sac.activation",
            {"search": "choice", "values": ["silu", "rellu"]},
            "sac.activation.values.1: is 'rellu', expected silu, relu or elu; did you mean 'relu'?",
        ),
        (
            "sac.activation",
            {"search": "choice", "values": []},
            "sac.activation.values: is a list of 0, expected a non-empty list",
        ),
        (
            "sac.activation",
            {"search": "choice"},
            "sac.activation: choice search without 'values', expected search, values",
        ),
        (
            "sac.activation",
            {"search": "choice", "values": ["elu", "elu"]},
            "sac.activation.values.1: repeats an earlier value, expected each once",
        ),
        (
            "sac.actor_hidden",
            {"search": "choice", "values": [[8], [8, 0]]},
            "sac.actor_hidden.values.1.1: is 0, expected an integer >= 1",
        ),
        (
            "sac",
            {"search": "int", "low": 1, "high": 2},
            "sac.search: unknown key, expected a search on one setting of sac (and 2 more)",
        ),
        (
            "control.kp",
            [{"search": "int", "low": 1, "high": 2}] + [1] * 5,
            "control.kp.0: is a mapping, expected a finite number >= 0",
        ),
        (
            "sac.batch_size",
            {"search": "choice", "values": [64, 300_000]},
            "sac.batch_size: batch_size 300000 is above replay_size 262144, "
            "expected batch_size <= replay_size",
        ),
    ],
)
def test_bad_searches_are_refused_in_one_line(key: str, search: object, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _sweep(key, search)
    assert str(caught.value) == f"x.yaml: {line}"


def test_a_rule_between_two_searches_is_checked_at_every_pair_of_ends() -> None:
    batch = {"search": "choice", "values": [256, 1024]}
    replay = {"search": "choice", "values": [4096, 512]}
    raw = {"sac": {"batch_size": batch, "replay_size": replay, "learning_starts": 0}}
    with pytest.raises(ConfigError, match="batch_size 1024 is above replay_size 512"):
        Sweep.from_raw(raw, "x")
    worlds = {"search": "int", "low": 2, "high": 64}
    with pytest.raises(ConfigError, match=r"world\.num_envs"):
        Sweep.from_raw({"world": {"num_envs": worlds}}, "x")


RAW = {
    "seed": 5,
    "sac": {
        "tau": {"search": "uniform", "low": 0.1, "high": 0.5},
        "actor_hidden": {"search": "choice", "values": [[8], [8, 8]]},
    },
    "randomization": {"level": {"search": "int", "low": 1, "high": 3}},
}
VALUES = {"sac.tau": 0.3, "sac.actor_hidden": [8, 8], "randomization.level": 2}


def test_resolving_sets_every_searched_key() -> None:
    sweep = Sweep.from_raw(RAW, "x")
    assert list(sweep.space) == sorted(VALUES)
    config = sweep.resolve(VALUES)
    assert (config.seed, config.sac.tau, config.sac.actor_hidden) == (5, 0.3, (8, 8))
    assert config.randomization.level == 2
    base = sweep.base()
    assert (base.sac.tau, base.sac.actor_hidden, base.randomization.level) == (0.1, (8,), 1)
    assert RAW["sac"]["tau"]["low"] == 0.1  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"sac.tua": 1}, "x: sac.tua: is not searched.*did you mean 'sac.tau'"),
        ({"sac.tau": 1.5}, "x: sac.tau: is 1.5, expected a finite number > 0 and <= 1"),
        ({"sac.tau": "a"}, "x: sac.tau: is 'a', expected a sample of its uniform search"),
        (
            {"randomization.level": 1.5},
            "x: randomization.level: is 1.5, expected a sample of its int search",
        ),
        ({"randomization.level": True}, "x: randomization.level: is true"),
        ({"sac.actor_hidden": "8"}, "x: sac.actor_hidden: is '8', expected a non-empty list"),
    ],
)
def test_bad_samples_are_refused(change: dict, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        Sweep.from_raw(RAW, "x").resolve({**VALUES, **change})


def test_a_missing_sample_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"x: sac\.tau: has no value"):
        Sweep.from_raw(RAW, "x").resolve({k: v for k, v in VALUES.items() if k != "sac.tau"})


def test_foreign_numbers_become_plain() -> None:
    class Index:
        def __index__(self) -> int:
            return 3

    config = Sweep.from_raw(RAW, "x").resolve({**VALUES, "randomization.level": Index()})
    assert type(config.randomization.level) is int and config.randomization.level == 3


def test_sweeps_survive_pickling_and_rebuilding() -> None:
    sweep = Sweep.from_raw(RAW, "x")
    assert pickle.loads(pickle.dumps(sweep)) == sweep
    assert Sweep.from_raw(sweep.raw, sweep.source) == sweep


def test_errors_survive_pickling() -> None:
    error = ConfigError("a", "b", "c\n\x85")
    assert str(error) == str(pickle.loads(pickle.dumps(error))) == "a: b: c\\n\\x85"
