"""YAML as configs use it: the scalars of YAML 1.2 (`3e-4` is a float, `yes` a string).

Beyond that, `500_000` is an integer. Refused: duplicate keys, keys that are not strings,
tags outside the core schema, and aliases (they can blow up, and `base:` does their job).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from functools import lru_cache
from typing import Any, cast

import yaml

_TAG = "tag:yaml.org,2002:"
_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_SCALARS = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", rf"[-+]?{_DIGITS}|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        rf"[-+]?(?:\.{_DIGITS}|{_DIGITS}(?:\.(?:{_DIGITS})?)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
)


class YamlError(ValueError):
    """Text that is not YAML we read; `line` counts from 1, None where it is not known."""

    def __init__(self, text: str, line: int | None = None) -> None:
        super().__init__(text, line)
        self.text, self.line = text, line


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = cast(Any, self).peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases are not supported", mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Quotes whatever either version of YAML would take for something else."""


_Loader.yaml_implicit_resolvers = {}  # none of YAML 1.1's
for _name, _pattern, _first in _SCALARS:
    for _class in (_Loader, _Dumper):
        # '\0' stands for the empty scalar, which PyYAML files under ''.
        _class.add_implicit_resolver(
            _TAG + _name,
            re.compile(rf"^(?:{_pattern})\Z"),
            [c if c != "\0" else "" for c in _first],
        )
_Dumper.add_representer(
    list, lambda dumper, data: dumper.represent_sequence(_TAG + "seq", data, flow_style=True)
)


def read(text: str) -> Any:
    """The value of one YAML document, None where there is none. Raises YamlError."""
    try:
        return _mapping_of(text.splitlines(keepends=True))
    except YamlError:
        return _read(text)  # other YAML, or an error, whose line counts from the text's first


_ENTRY = re.compile(r"( *)[A-Za-z_]\w*:(?: +(?P<value>[^ #].*))?\n?")


def _mapping_of(lines: list[str]) -> dict[str, Any]:
    """The value of a block mapping, from its entries one by one.

    PyYAML takes 25 ms for a resolved config. A sweep has a thousand, which are alike but for a few
    lines, so what a line means is remembered.

    Raises:
        YamlError: an entry is not whole by itself, or the text is something else.
    """
    found: dict[str, Any] = {}
    for entry in _entries(lines):
        head = _ENTRY.fullmatch(entry[0])
        nested = head and head["value"] is None and len(entry) > 1 and _ENTRY.fullmatch(entry[1])
        ((key, value),) = _remembered("".join(entry[:1] if nested else entry)).items()
        if key in found:
            raise YamlError("a key appears twice")
        found[key] = _mapping_of(entry[1:]) if nested else deepcopy(value)
    return found


def _entries(lines: list[str]) -> Iterator[list[str]]:
    """The lines of each entry of a block mapping."""
    first = lines and _ENTRY.fullmatch(lines[0])
    if not first:
        raise YamlError("no block mapping")
    margin, entry = first[1], [lines[0]]
    for line in lines[1:]:
        if line.startswith(f"{margin} "):
            entry.append(line)
            continue
        yield entry
        entry = [line]
        found = _ENTRY.fullmatch(line)
        if not found or found[1] != margin:
            raise YamlError("no block mapping")
    yield entry


@lru_cache(4096)
def _remembered(text: str) -> dict[str, Any]:
    found = _read(text)
    if not isinstance(found, dict) or len(found) != 1:
        raise YamlError("no entry of a mapping")
    return found


def _read(text: str) -> Any:
    loader = None
    try:
        loader = _Loader(text)  # reads ahead, so this can fail too
        node = loader.get_single_node()
        return None if node is None else _value(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        raise YamlError(error.problem or error.context or "not YAML", line) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlError(f"character {error.character:#x} is not allowed", line) from None
    except RecursionError:
        raise YamlError("nested too deeply") from None
    finally:
        if loader is not None:
            loader.dispose()


def dump(value: Any) -> str:
    """YAML of plain data, keys in their order, lists on one line."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _value(node: yaml.Node) -> Any:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        return _mapping(node)
    if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        return [_value(item) for item in node.value]
    if isinstance(node, yaml.ScalarNode):
        try:
            return _scalar(node.tag.removeprefix(_TAG), node.value)
        except ValueError:
            raise YamlError(f"{node.value[:40]!r} is not a value of its kind", line) from None
        except KeyError:
            pass
    raise YamlError(f"tag {node.tag!r} is not supported", line)


def _mapping(node: yaml.MappingNode) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key, line = _value(key_node), key_node.start_mark.line + 1
        if not isinstance(key, str):
            raise YamlError("a key is not a name, expected a string", line)
        if key in found:
            raise YamlError(f"key {key!r} appears twice", line)
        found[key] = _value(value_node)
    return found


def _scalar(kind: str, text: str) -> object:
    match kind:
        case "str":
            return text
        case "null":
            return None
        case "bool" if text.lower() in ("true", "false"):
            return text.lower() == "true"
        case "int":
            return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))
        case "float":
            return float(re.sub(r"^([-+]?)\.(?=[a-zA-Z])", r"\1", text))
        case "bool":
            raise ValueError(text)
    raise KeyError(kind)
