"""Pydantic's findings in our words: what stands there, and what was expected."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

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
    if name == "search":
        return f"unknown key, expected a search on one setting of {section or 'the config'}"
    # `base` is read by the loader, but a mistyped one arrives here.
    close = near(name, names if parents or name == "base" else [*names, "base"])
    elsewhere = [path for path in _leaves() if path.rpartition(".")[2] == name]
    if not close and elsewhere:
        close = elsewhere[0]
    if close:
        place = f"a key of {section}" if section else "a top-level key"
        return f"unknown key, expected {place}; did you mean '{close}'?"
    return f"unknown key, expected {choices(names)}"


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


@functools.cache
def _schema() -> dict[str, Any]:
    return Config.model_json_schema()
