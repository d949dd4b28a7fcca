"""Settings as nested mappings: merged, changed and looked up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Key = tuple[str, ...]
Tree = dict[str, Any]


def merge(below: Tree, above: Tree) -> Tree:
    """Both trees in one; of what both set, what is above counts."""
    merged = dict(below)
    for name, value in above.items():
        under = below.get(name)
        # A search replaces a search: keys of two kinds do not mix.
        nested = isinstance(under, dict) and isinstance(value, dict) and "search" not in value
        merged[name] = merge(under, value) if nested else value  # type: ignore[arg-type]
    return merged


def put(tree: Any, key: Key, value: Any) -> Tree:
    """A copy of the tree with one value replaced; the rest is shared."""
    copy: Tree = dict(tree) if isinstance(tree, dict) else {}
    copy[key[0]] = put(copy.get(key[0]), key[1:], value) if len(key) > 1 else value
    return copy


def drop(tree: Tree, key: Key) -> Tree:
    """A copy of the tree without one of its values."""
    if len(key) > 1:
        return {**tree, key[0]: drop(tree[key[0]], key[1:])}
    return {name: value for name, value in tree.items() if name != key[0]}


def sets(tree: Any, key: Key) -> bool:
    """Whether a value, or something inside it, is in the tree."""
    for name in key:
        if not isinstance(tree, dict) or name not in tree:
            return False
        tree = tree[name]
    return True


def leaves(tree: Tree, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Every value that is no mapping of settings, a search being one value, with its key."""
    for name, value in tree.items():
        if isinstance(value, dict) and value and "search" not in value:
            yield from leaves(value, (*key, name))
        else:
            yield (*key, name), value
