import math
from collections.abc import Callable

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from booster_ray.config import load, yaml12


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("1e6", 1e6),
        ("-1.5E+3", -1500.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("500_000", 500_000),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("-7", -7),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("'3e-4'", "3e-4"),
        ("e5", "e5"),
        ("1e", "1e"),
        (".", "."),
        ("_1", "_1"),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("!!str 3", "3"),
        ("!!float 3", 3.0),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    read = yaml12.read(text)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("a: 1\nb: [\n", 3, "expected"),
        ("a: 1\nb: 2\na: 3\n", 3, "'a' appears twice"),
        ("x:\n  a: 1\n  a: 1\n", 3, "'a' appears twice"),
        ("x: {a: 1, a: 1}\n", 1, "'a' appears twice"),
        ("a: &x [1]\nb: *x\n", 2, "aliases"),
        ("&x [*x]", 1, "aliases"),
        ("1: 2", 1, "not a name"),
        ("? [a]\n: b", 1, "not a name"),
        ("a: !!python/name:os.system ''", 1, "tag"),
        ("a: !!int x", 1, "not a value"),
        ("a: !!bool maybe", 1, "not a value"),
        ("a: !!timestamp x", 1, "tag"),
        ("a: !!set {x}", 1, "tag"),
        ("a: \x07", 1, "not allowed"),
        ("a: 1\n---\nb: 2", 2, "document"),
        ("9" * 5000, 1, "not a value"),
        ("[" * 5000, None, "deeply"),
        ("a: 1\n\tb: 2", 2, "\\t"),
    ],
)
def test_what_is_not_read_says_where(text: str, line: int | None, part: str) -> None:
    with pytest.raises(yaml12.YamlError) as caught:
        yaml12.read(text)
    assert caught.value.line == line
    assert part in caught.value.text


_PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from(["3e-4", "yes", "1_0", "0o7", "", "null", "~", "1:30", "- x", "#"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(_PLAIN)
def test_what_is_dumped_is_read_back_by_us_and_by_yaml_1_1(value: object) -> None:
    text = yaml12.dump(value)
    assert yaml12.read(text) == value
    assert yaml.safe_load(text) == value


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(st.text(alphabet=st.sampled_from("ab:-[]{}!&*?#|>'\"%@, \n\t0.e_~\x00\ud800é"), max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        yaml12.read(text)
    except yaml12.YamlError as error:
        assert error.text


CONFIG = load("default").base().to_yaml()
_LINES = st.lists(
    st.sampled_from(
        [*CONFIG.splitlines(), "  a: 1", "a: 2", "a:", "  a:", "- 1", "# x", "  'x", "    b: 'y",
         "true:", "b: [1,", "c: 2]", "", "d: |", "  e: x y", "   f: *g", "h: &i 1", "\ta: 1"]
    ),
    max_size=12,
)  # fmt: skip


def _outcome(read: Callable[[str], object], text: str) -> object:
    try:
        return read(text)
    except yaml12.YamlError as error:
        return error.args


@settings(max_examples=400, deadline=None)
@given(_LINES)
def test_what_is_read_entry_by_entry_is_what_the_whole_text_says(lines: list[str]) -> None:
    text = "\n".join(lines)
    assert _outcome(yaml12.read, text) == _outcome(yaml12._read, text)


def test_a_config_like_another_is_read_by_its_new_lines_alone() -> None:
    yaml12.read(CONFIG)
    before = yaml12._remembered.cache_info().misses
    assert yaml12.read(CONFIG.replace("seed: 0", "seed: 1234567"))["seed"] == 1234567
    assert yaml12._remembered.cache_info().misses == before + 1


def test_what_is_read_twice_is_not_shared() -> None:
    yaml12.read("a: [1]")["a"].append(2)
    assert yaml12.read("a: [1]") == {"a": [1]}
