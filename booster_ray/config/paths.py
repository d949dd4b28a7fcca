"""What a user types where paths are expected: ``~``, ``$NAME`` and relative paths.

They mean what they mean where they are typed, and there alone: workers have other folders, and
other nodes other variables. So a path is settled once, when a config is read, and the config that
is kept has the whole path. Not so the address of a server, in which a variable may stand for a
password: it stays as it is typed, and :func:`expanded` reads it where it is used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from booster_ray.config.errors import ConfigError, Problem

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_VARIABLE = re.compile(rf"\$(?:({_NAME})|\{{({_NAME})\}})")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_SQLITE = re.compile(r"(sqlite(?:\+[a-z]+)?:///)(?!file:|:memory:)(.+)")
SECRET_QUERY = re.compile(
    r"(?P<name>[?&](?:ssl)?(?:pass|passwd|password|pwd|(?:[a-z]+_)?token|sig|signature|secret"
    r"|(?:secret|access|secret_access|api|account)_?key)=)(?P<value>[^&#\s]+)",
    re.IGNORECASE,
)
"""Parts of a URL's query that are secrets."""
_REGISTRY = ("models:", "wandb:")
_SERVERS = ("databricks", "databricks-uc", "uc")
"""Of MLflow, named without a scheme."""


def expanded(text: str, place: str) -> str:
    """The text with ``$NAME`` and ``${NAME}`` replaced from the environment.

    Raises:
        ConfigError: a variable is not set; the line names it and ``place``, the setting.
    """
    try:
        return _variables(text)
    except ValueError as error:
        raise ConfigError(place, str(error)) from None


def storage_name(text: str) -> str:
    """A name of storage with variables and ``~`` replaced; a relative one stays so.

    Raises ValueError, here and below: one line without the name of the setting.
    """
    name = _home(_without_variables(text))
    if secrets_of(name):
        raise ValueError(
            "has a secret in it, which every config and log would hold; expected it in the "
            "environment, as AWS_SECRET_ACCESS_KEY, or in the storage's own settings"
        )
    return name


def secrets_of(url: str) -> list[str]:
    """The values in a URL that nobody else may see: a password, or what a query calls one."""
    rest = url.partition("://")[2]
    login = rest.partition("?")[0].rpartition("@")[0]
    found = [login.partition(":")[2], *(m["value"] for m in SECRET_QUERY.finditer(rest))]
    return [value for value in found if value]


def settled(tree: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """A config's tree with its paths settled, those that are searched too, and what is wrong.

    Values that are no text are left for the schema to refuse.
    """
    whole, problems = dict(tree), []
    for key, settle in _SETTLED.items():
        for path, text in _texts(whole, key):
            try:
                whole = _replaced(whole, path, settle(text))
            except ValueError as error:
                problems.append(Problem(path, str(error)))
    return whole, problems


# -- kinds of settings -----------------------------------------------------------------------


def _policy(text: str) -> str:
    """A checkpoint's path, or a version in a registry."""
    return text if text.startswith(_REGISTRY) else _absolute(_home(_without_variables(text)))


def _folder(text: str) -> str:
    """A folder that is there when the config is read."""
    return _absolute(_home(_without_variables(text)))


def _cache(text: str) -> str:
    """A folder that every machine has for itself: below its own ``~``."""
    whole = _without_variables(text)
    return whole if whole.startswith("~") else _absolute(whole)


def _address(text: str) -> str:
    """A server's stays as it is typed; a database file's or a folder's is settled."""
    try:
        whole = _variables(text)
    except ValueError:
        return text  # it may be a server's, which this process need not know
    if lite := _SQLITE.fullmatch(whole):
        return lite[1] + _database(lite[2])
    scheme = _SCHEME.match(whole)
    if scheme and scheme[0] == "file:":
        path = whole.removeprefix("file:")
        return whole if path.startswith("/") else Path(_absolute(_home(unquote(path)))).as_uri()
    if scheme or whole in _SERVERS:
        return text
    return _absolute(_home(whole))


def _database(text: str) -> str:
    """The path and the query of an SQLite file's URL."""
    path, mark, query = text.partition("?")
    if unquote(path).startswith("/"):  # as the trackers' own URLs of odd paths are
        return text
    whole = _absolute(_home(unquote(path)))
    plain = quote(whole) == whole
    # Quoted whole, see booster_ray.store.database.
    return (whole if plain else quote(whole, safe="")) + mark + query


_SETTLED: dict[tuple[str, ...], Callable[[str], str]] = {
    ("storage",): storage_name,
    ("start_from",): _policy,
    ("replay", "demonstrations"): _folder,
    ("tune", "study_url"): _address,
    ("tracking", "mlflow", "uri"): _address,
    ("models", "uri"): _address,
    ("models", "cache"): _cache,
    ("runtime", "compilation_cache"): _cache,
}
SETTINGS = frozenset(".".join(key) for key in _SETTLED)
"""All that is a path, or may be one."""


# -- texts -----------------------------------------------------------------------------------


def _variables(text: str) -> str:
    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in os.environ:
            raise ValueError(f"names ${name}, expected a variable that is set")
        return os.environ[name]

    return _VARIABLE.sub(value, text)


def _without_variables(text: str) -> str:
    """What is kept is read again, and must then mean the same."""
    whole = _variables(text)
    for found in _VARIABLE.finditer(text):
        if not os.environ[found[1] or found[2]]:
            raise ValueError(f"names {found[0]}, which is empty, expected a folder")
    if again := _VARIABLE.search(whole):
        raise ValueError(f"is '{whole}' in full, expected a path without {again[0]}")
    return whole


def _home(text: str) -> str:
    whole = os.path.expanduser(text)
    if whole.startswith("~"):
        user = whole.partition("/")[0]
        raise ValueError(f"begins with {user}, expected a user of this machine (or ./{user})")
    return whole


def _absolute(text: str) -> str:
    # Links stay: what they lead to may move.
    return str(Path(text).absolute())


# -- trees -----------------------------------------------------------------------------------


def _texts(tree: Any, key: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The texts at a setting with their paths: its value, or those of its search."""
    for name in key:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    if isinstance(tree, str) and tree:
        yield key, tree
    if isinstance(tree, Mapping) and isinstance(tree.get("values"), list):
        for i, text in enumerate(tree["values"]):
            if isinstance(text, str) and text:
                yield (*key, "values", str(i)), text


def _replaced(node: Any, path: tuple[str, ...], value: str) -> Any:
    """A copy of a tree with one value replaced; the rest is shared."""
    if not path:
        return value
    if isinstance(node, list):
        i = int(path[0])
        return [*node[:i], _replaced(node[i], path[1:], value), *node[i + 1 :]]
    return {**node, path[0]: _replaced(node[path[0]], path[1:], value)}
