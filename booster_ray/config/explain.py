"""Pydantic's findings in our words: what stands there, and what was expected."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from booster_ray.config.errors import choices, hint, near, show
from booster_ray.config.schema import Config

_BOUNDS = (
    ("minimum", ">="),
    ("exclusiveMinimum", ">"),
    ("maximum", "<="),
    ("exclusiveMaximum", "<"),
)
_KINDS = {
    "integer": "an integer",
    "number": "a finite number",
    "boolean": "true or false",
    "null": "null",
}


def findings(error: ValidationError) -> list[ErrorDetails]:
    """Pydantic's errors, less those that only follow from another: a bad item is not counted."""
    errors = error.errors(include_url=False)
    inside = {one["loc"][:-1] for one in errors}
    return [one for one in errors if one["type"] != "too_short" or one["loc"] not in inside]


def explain(error: ErrorDetails) -> str:
    """`what was wrong, what was expected[; did you mean 'X'?]` for one error under Config."""
    loc, value = error["loc"], error["input"]
    match error["type"]:
        case "extra_forbidden":
            return _unknown(loc)
        case "rule" | "kind" | "plain" | "repeated" | "too_large" | "unprintable":
            return error["msg"]
        case "invalid_key":
            return "a key is not a name, expected a string"
    node = _node(loc)
    return f"is {show(value)}, expected {_expected(node)}{_advice(node, value)}"


def _unknown(loc: Sequence[int | str]) -> str:
    *parents, name = loc
    section = ".".join(map(str, parents))
    names = list(_node(parents)["properties"])
    if (name, section) == ("global", ""):
        return "unknown key, expected runtime: devices, XLA flags and platforms are settings there"
    if name == "search":
        return f"unknown key, expected a search on one setting of {section or 'the config'}"
    # What the loader reads itself arrives here mistyped.
    loaders = [one for one in ("base", "experiments") if one != name and not parents]
    close = near(name, [*names, *loaders])
    elsewhere = [path for path in _leaves() if path.rpartition(".")[2] == name]
    if not close and elsewhere:
        close = elsewhere[0]
    if close:
        place = f"a key of {section}" if section else "a top-level key"
        return f"unknown key, expected {place}; did you mean '{close}'?"
    more = "; a package that adds it may be missing here" if section == "rewards" else ""
    return f"unknown key, expected {choices(names)}{more}"


def _advice(node: dict[str, Any], value: object) -> str:
    if isinstance(value, dict) and "properties" not in node:
        return "" if "search" in value else hint(next(iter(value), None), ["search"])
    if isinstance(value, str):
        return hint(value, [name for name in _options(node) if name])
    kinds = {option.get("type") for option in node.get("anyOf", [node])}
    if "integer" in kinds and isinstance(value, float) and value.is_integer():
        return f" (write {int(value)})" if abs(value) < 2**63 else ""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f" (in quotes: '{show(value)}')" if "string" in kinds and number else ""


def _expected(node: dict[str, Any]) -> str:
    node = _deref(node)
    if options := _options(node):
        return choices([*options, "null"] if "anyOf" in node else options)
    if "anyOf" in node:
        return " or ".join(map(_expected, node["anyOf"]))
    kind = node["type"]
    if kind == "object":
        return "a mapping"
    if kind == "array":
        return _list(node)
    if kind == "string":
        long = "a non-empty string" if node.get("minLength") else "a string"
        return f"{long} matching {node['pattern']}" if "pattern" in node else long
    bounds = [f"{sign} {node[key]:.15g}" for key, sign in _BOUNDS if key in node]
    return " ".join([_KINDS[kind], " and ".join(bounds)]).rstrip()


def _list(node: dict[str, Any]) -> str:
    item, least, most = _expected(node["items"]), node.get("minItems"), node.get("maxItems")
    size = f"a list of {least}" if least == most else "a non-empty list"
    return f"{size}, each {item}"


def _options(node: dict[str, Any]) -> list[str]:
    nodes = [_deref(option) for option in node.get("anyOf", [node])]
    return [name for n in nodes for name in n.get("enum", [n["const"]] if "const" in n else [])]


def _node(loc: Sequence[int | str]) -> dict[str, Any]:
    node = _schema()
    for part in loc:
        node = _deref(node["items"] if isinstance(part, int) else node["properties"][part])
    return node


def _deref(node: dict[str, Any]) -> dict[str, Any]:
    ref = node.get("$ref")
    return _deref(_schema()["$defs"][ref.rpartition("/")[2]]) if ref else node


def _leaves(path: str = "", node: dict[str, Any] | None = None) -> Iterator[str]:
    for name, child in _deref(node or _schema()).get("properties", {}).items():
        if "properties" in _deref(child):
            yield from _leaves(f"{path}{name}.", child)
        else:
            yield path + name


class Setting(NamedTuple):
    """One setting, for people."""

    section: str
    """Dotted; empty for the config itself."""
    about_section: str
    name: str
    default: str
    """As YAML."""
    expected: str
    about: str


def reference() -> Iterator[Setting]:
    """Every setting of a config, by sections."""
    for section, node in _sections("", _schema()):
        for name, child in node["properties"].items():
            if "properties" in _deref(child):
                continue
            default = json.dumps(child.get("default"), ensure_ascii=False)
            told = child.get("description", "")
            about = node.get("description", "")
            yield Setting(section, about, name, default, _expected(child), told)


def _sections(path: str, node: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node["properties"].items():
        if "properties" in (inner := _deref(child)):
            yield from _sections(f"{path}.{name}".lstrip("."), inner)


@functools.cache
def _schema() -> dict[str, Any]:
    return Config.model_json_schema()
