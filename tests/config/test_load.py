import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from booster_ray.config import Config, ConfigError, FloatRange, Sweep, load

PRESETS = Path(__file__).parents[2] / "tune_configs"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tune_configs").mkdir()
    return tmp_path


def _write(name: str, text: str) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")
    return name


def _refused(path: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    line = str(caught.value)
    assert line.splitlines() == [line]
    return line


def test_the_default_preset_spells_out_every_default() -> None:
    sweep = load(PRESETS / "default.yaml")
    assert sweep.base() == Config()
    assert sweep.base().to_dict().keys() == sweep.raw.keys()
    for name, section in Config().to_dict().items():
        if isinstance(section, dict):
            # A reward term that weighs nothing may be new.
            missing = section.keys() - sweep.raw[name].keys()
            assert not missing or (name == "rewards" and not any(section[m] for m in missing))


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_loads(path: Path) -> None:
    load(path)


def test_bases_merge_deeply_and_the_nearer_file_wins(folder: Path) -> None:
    _write("tune_configs/a.yaml", "seed: 1\nsac: {tau: 0.1, discount: 0.9}\nname: a\n")
    _write("tune_configs/b.yaml", "base: a\nsac: {tau: 0.2, batch_size: 8}\nname: b\n")
    _write("c.yaml", "base: tune_configs/b.yaml\nsac: {batch_size: 16}\n")
    config = load("c.yaml").base()
    assert (config.seed, config.name) == (1, "b")
    assert (config.sac.tau, config.sac.discount, config.sac.batch_size) == (0.2, 0.9, 16)
    assert "base" not in load("c.yaml").raw


def test_searches_replace_and_are_replaced(folder: Path) -> None:
    _write("a.yaml", "sac: {tau: {search: int, low: 1, high: 2}}\n")
    _write("b.yaml", "base: a\nsac: {tau: {search: choice, values: [0.1]}}\n")
    _write("c.yaml", "base: b\nsac: {tau: 0.5}\n")
    assert load("b.yaml").space["sac.tau"].kind == "choice"
    assert load("c.yaml").space == {}
    over = load("c.yaml", ["sac.tau={search: loguniform, low: 1e-4, high: 1e-1}"])
    assert over.space == {"sac.tau": FloatRange(1e-4, 1e-1, log=True)}
    assert load("b.yaml", ["sac.tau=3e-4"]).base().sac.tau == 3e-4


def test_overrides_replace_whatever_stood_there(folder: Path) -> None:
    _write("a.yaml", "sac: {tau: 0.1, discount: 0.9}\n")
    config = load("a.yaml", ["sac={tau: 0.2}", "seed=1", "seed=2", "tasks=[goalie]"]).base()
    assert config.sac.tau == 0.2 and config.sac.discount == Config().sac.discount
    assert config.seed == 2 and config.tasks == ("goalie",)
    assert load("a.yaml", ["runtime.xla_flags=--a=b"]).base().runtime.xla_flags == "--a=b"


def test_bare_names_are_presets_of_the_current_folder(folder: Path) -> None:
    _write("tune_configs/demo.yaml", "seed: 3\n")
    Path("demo").mkdir()
    assert load("demo").source == os.path.join("tune_configs", "demo.yaml")
    assert load("demo").base().seed == 3


def test_missing_files_name_near_ones(folder: Path) -> None:
    _write("tune_configs/demo.yaml", "{}")
    found = f"no such file, expected a config; did you mean '{Path('tune_configs/demo.yaml')}'?"
    assert _refused("dmeo") == f"dmeo: {found}"
    assert _refused("demo.yaml") == f"demo.yaml: {found}"
    assert _refused("tune_configs/demos.yaml") == f"tune_configs/demos.yaml: {found}"
    assert "found tune_configs/demo.yaml" in _refused("zzzz")
    _write("a.yaml", "base: b\n")
    _write("bb.yaml", "{}")
    assert _refused("a.yaml") == (
        "a.yaml: base: no file b.yaml, expected a config; did you mean 'bb.yaml'?"
    )


@pytest.mark.parametrize("path", ["", ".", "a\0b", "tune_configs", "x" * 5000, "a\nb"])
def test_paths_that_are_no_files_are_refused(folder: Path, path: str) -> None:
    assert "expected a" in _refused(path)


def test_base_circles_are_refused(folder: Path) -> None:
    _write("a.yaml", "base: b\n")
    _write("b.yaml", "base: ./a.yaml\n")
    assert _refused("a.yaml") == (
        "b.yaml: base: goes in a circle, a.yaml -> b.yaml -> a.yaml, expected a last base"
    )
    _write("c.yaml", "base: c\n")
    assert "circle" in _refused("c.yaml")
    for base in ("3", "[a]", "''", '"a\\0b"', "null", "{}"):
        _write("d.yaml", f"base: {base}\n")
        assert _refused("d.yaml").startswith("d.yaml: base: is ")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "x.yaml: is empty, expected a mapping of settings"),
        ("# nothing\n", "x.yaml: is empty, expected a mapping of settings"),
        ("[1]", "x.yaml: is a list of 1, expected a mapping of settings"),
        ("seed", "x.yaml: is 'seed', expected a mapping of settings"),
        ("seed: 1\nseed: 2\n", "x.yaml:2: key 'seed' appears twice, expected YAML"),
        ("sed: 1", "x.yaml: sed: unknown key, expected a top-level key; did you mean 'seed'?"),
        (
            "sac: {bach_size: 1}",
            "x.yaml: sac.bach_size: unknown key, expected a key of sac; did you mean 'batch_size'?",
        ),
        (
            "batch_size: 1",
            "x.yaml: batch_size: unknown key, expected a top-level key; "
            "did you mean 'sac.batch_size'?",
        ),
        ("bse: a", "x.yaml: bse: unknown key, expected a top-level key; did you mean 'base'?"),
        ("seed: yes", "x.yaml: seed: is 'yes', expected an integer >= 0 and <= 4294967295"),
        (
            "sac: {replay_size: 1e6}",
            "x.yaml: sac.replay_size: is 1000000.0, expected an integer >= 1 (write 1000000)",
        ),
        ("sac:", "x.yaml: sac: is null, expected a mapping"),
        ("sac: 1", "x.yaml: sac: is 1, expected a mapping"),
        (
            "tasks: [goalie, obstacel]",
            "x.yaml: tasks.1: is 'obstacel', expected goalie, obstacle or kick_to_target; "
            "did you mean 'obstacle'?",
        ),
        (
            "tasks: [goalie, goalie]",
            "x.yaml: tasks: has 'goalie' twice, expected each name once",
        ),
        (
            "control: {kp: [1, 2]}",
            "x.yaml: control.kp: is a list of 2, expected a list of 6, each a finite number >= 0",
        ),
        (
            "control: {kp: [1, 2, 3, 4, 5, 6, 7]}",
            "x.yaml: control.kp: is a list of 7, expected a list of 6, each a finite number >= 0",
        ),
        ("rewards: {alive: .inf}", "x.yaml: rewards.alive: is inf, expected a finite number"),
        (
            "runtime: {cuda_visible_devices: 0}",
            "x.yaml: runtime.cuda_visible_devices: is 0, expected a string or null "
            "(in quotes: '0')",
        ),
        (
            "runtime: {mujoco_gl: elg}",
            "x.yaml: runtime.mujoco_gl: is 'elg', expected egl, osmesa, disabled or null; "
            "did you mean 'egl'?",
        ),
        (
            'storage: "a\\0b"',
            "x.yaml: storage: has a control character, expected plain text",
        ),
        (
            "trainer: {use_gpu: true, gpu_fraction: 0.5}\nsac: {devices: 2}",
            "x.yaml: trainer.gpu_fraction: gpu_fraction 0.5 with 2 devices, expected 1 "
            "(each device is a whole GPU)",
        ),
        (
            "seed: -1\nsac: {tau: 2, zzz: 1}",
            "x.yaml: seed: is -1, expected an integer >= 0 and <= 4294967295 (and 2 more)",
        ),
        (
            "sac: {tau: {serach: int}}",
            "x.yaml: sac.tau: is a mapping, expected a finite number > 0 and <= 1; "
            "did you mean 'search'?",
        ),
    ],
)
def test_bad_files_get_one_line(folder: Path, text: str, line: str) -> None:
    assert _refused(_write("x.yaml", text)) == line


def test_syntax_errors_name_file_and_line(folder: Path) -> None:
    assert _refused(_write("x.yaml", "seed: 1\nsac: {\n")).startswith("x.yaml:3: ")
    Path("y.yaml").write_bytes(b"seed: \xff\n")
    assert _refused("y.yaml") == "y.yaml: not UTF-8, expected a text file in YAML"


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("seed", "command line: 'seed' is no override, expected key=value"),
        ("=1", "command line: '=1' is no override, expected key=value"),
        ("sac..tau=1", "command line: 'sac..tau=1' is no override, expected key=value"),
        ("base=b", "command line: base: cannot be overridden, expected in a file"),
        (
            "sac.bach_size=1",
            "command line: sac.bach_size: unknown key, expected a key of sac; "
            "did you mean 'batch_size'?",
        ),
        ("sac.tau=2", "command line: sac.tau: is 2, expected a finite number > 0 and <= 1"),
        ("seed=", "command line: seed: is null, expected an integer >= 0 and <= 4294967295"),
        (
            "seed.x=1",
            "command line: seed: is a mapping, expected an integer >= 0 and <= 4294967295",
        ),
        (
            "sac.replay_size=100",
            "command line: sac.replay_size: batch_size 512 is above replay_size 100, "
            "expected batch_size <= replay_size",
        ),
        (
            "sac.tau={search: uniform, low: 0.1, high: 2}",
            "command line: sac.tau.high: is 2.0, expected a finite number > 0 and <= 1",
        ),
    ],
)
def test_bad_overrides_are_blamed_on_the_command_line(
    folder: Path, override: str, line: str
) -> None:
    got = _refused(_write("x.yaml", "sac: {batch_size: 512, learning_starts: 0}"), override)
    assert got == line


@pytest.mark.parametrize("override", ["seed=[", "a." * 3000 + "b=1", "se\ned=1", "seed=\udcff"])
def test_hostile_overrides_get_one_line(folder: Path, override: str) -> None:
    assert _refused(_write("x.yaml", "{}"), override).startswith("command line: ")


def test_errors_in_a_base_name_the_base(folder: Path) -> None:
    _write("a.yaml", "sac: {tau: 2}\nseed: 1\n")
    _write("b.yaml", "base: a\nseed: 2\n")
    assert _refused("b.yaml").startswith("a.yaml: sac.tau: is 2")
    _write("c.yaml", "base: a\nsac: {tau: 3}\n")
    assert _refused("c.yaml").startswith("c.yaml: sac.tau: is 3")


def test_a_sweep_as_yaml_loads_as_that_sweep(folder: Path) -> None:
    text = "name: '3e-4'\nsac: {tau: {search: choice, values: [0.1, 1e-5]}}\n"
    sweep = load(_write("x.yaml", text))
    assert load(_write("x.yaml", sweep.to_yaml())) == sweep


def test_from_raw_refuses_what_is_no_tree() -> None:
    loop: dict[str, Any] = {}
    loop["sac"] = loop
    trees: list[Any] = [[], None, 3, "x", {1: 2}, {"sac": {None: 1}}, loop, {"seed": object()}]
    for raw in trees:
        with pytest.raises(ConfigError, match=r"^x: "):
            Sweep.from_raw(raw, "x")


# --- anything at all is a sweep or one line ---

_NAMES = sorted(
    {"base", "search", "low", "high", "values", *Config.model_fields}
    | {name for part in Config().to_dict().values() if isinstance(part, dict) for name in part}
)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([0, 1, 2, 0.5, 10**400, -(2**63), "goalie", "pd", "a\nb", "\ud800"])
)
_SEARCHES = st.fixed_dictionaries(
    {"search": st.sampled_from(["uniform", "loguniform", "int", "logint", "choice", "x", None])},
    optional={"low": _SCALARS, "high": _SCALARS, "values": st.lists(_SCALARS, max_size=3)},
)
_VALUES = st.recursive(
    _SCALARS | _SEARCHES,
    lambda inner: (
        st.lists(inner, max_size=7)
        | st.dictionaries(st.sampled_from(_NAMES) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=10,
)


def _section(part: object) -> st.SearchStrategy[Any]:
    if not isinstance(part, dict):
        return _VALUES
    return _VALUES | st.dictionaries(st.sampled_from(sorted(part)), _VALUES, max_size=4)


_TREES = st.fixed_dictionaries(
    {}, optional={name: _section(part) for name, part in Config().to_dict().items()}
)
_OVERRIDES = {
    "key": st.sampled_from(_NAMES) | st.sampled_from(["sac.tau", "control.kp", "tasks", "a.b"]),
    "value": st.text(max_size=12) | _VALUES.map(repr),
}
_few, _many = (
    settings(max_examples=count, deadline=None, database=None, derandomize=True)
    for count in (80, 1000)
)


def _sweep_or_line(make: Any) -> None:
    try:
        sweep = make()
    except ConfigError as error:
        line = str(error)
        assert line.splitlines() == [line] and line.isprintable()
    else:
        sweep.base().digest()
        assert Sweep.from_raw(sweep.raw, sweep.source) == sweep


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is read at once, unlike the presets, with something to replace."""
    path = tmp_path_factory.mktemp("short") / "short.yaml"
    path.write_text("tasks: [goalie]\nsac: {tau: 0.01, actor_hidden: [8]}\ncontrol: {mode: pd}\n")
    return path


@_few
@given(_VALUES | _TREES)
def test_any_tree_is_a_sweep_or_one_line(raw: Any) -> None:
    _sweep_or_line(lambda: Sweep.from_raw(raw, "x.yaml"))


@pytest.mark.slow
@_many
@given(_VALUES | _TREES)
def test_many_trees_are_sweeps_or_one_line(raw: Any) -> None:
    _sweep_or_line(lambda: Sweep.from_raw(raw, "x.yaml"))


@pytest.mark.slow
@_many
@given(**_OVERRIDES)
def test_many_overrides_are_sweeps_or_one_line(key: str, value: str) -> None:
    _sweep_or_line(lambda: load(PRESETS / "default.yaml", [f"{key}={value}"]))


@_few
@given(**_OVERRIDES)
def test_any_override_is_a_sweep_or_one_line(short: Path, key: str, value: str) -> None:
    _sweep_or_line(lambda: load(short, [f"{key}={value}"]))


# --- a section's shorthand ---


def test_a_string_for_the_world_is_its_kind(tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    base.write_text("world: {num_envs: 7, threads: 2}\ntasks: [goalie]\n")
    above = tmp_path / "above.yaml"
    above.write_text("base: base\nworld: brax:ant\n")
    config = load(above).base()
    assert (config.world.kind, config.world.num_envs, config.world.threads) == ("brax:ant", 7, 2)
    config = load(above, ["world=gym:Pendulum-v1", "world.num_envs=3"]).base()
    assert (config.world.kind, config.world.num_envs) == ("gym:Pendulum-v1", 3)
    assert Sweep.from_raw({"world": "mjx"}, "x").base().world.kind == "mjx"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["world=mjx", "world.num_envs=9", "sac.devices=2"], "does not divide among 2 devices"),
        (["world=brax:ant", "sac.symmetry=augment"], "symmetry augment is the game's"),
        (["world.num_envs=300_000"], "replay_size 262144 cannot hold one step of 300000 worlds"),
    ],
)
def test_worlds_keep_their_rules(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load("default", overrides)
    assert load("default", ["world=brax:ant", "world.num_envs=1"]).base()  # tasks do not count
