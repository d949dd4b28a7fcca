"""Compiled programs that outlive who compiled them, so that the next equal run compiles nothing.

What differs between two runs in number only is an argument of a program; the rest, its structure,
is the name by which the program is found again in the same process.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Programs(Generic[T]):
    """The most recently used programs, by structure.

    A program keeps what its code refers to, such as a model of the physics, in memory: the oldest
    goes when there are more than ``bound``, and whoever holds it may use it on.

    Args:
        bound: how many are kept.
    """

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._kept: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, structure: Hashable, make: Callable[[], T]) -> T:
        """The programs of a structure, made if they are not kept.

        ``make`` must read nothing of its surroundings that ``structure`` does not decide.
        """
        with self._lock:
            if structure not in self._kept:
                self._kept[structure] = make()
                while len(self._kept) > self._bound:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(structure)
            return self._kept[structure]
