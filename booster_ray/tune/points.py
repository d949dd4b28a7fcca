"""The trials of a sweep that lists them: which number has which settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from booster_ray.tune.ledger import Spec

Params = Mapping[str, Any]


class Points:
    """Gives each listed trial to one number, its own place in the list where nothing is in the way.

    Nothing of it is kept: what the ledger has settled is all that it needs, so that every driver
    gives out the same.

    Args:
        points: parameters of each trial, as configs have them; all differ.
    """

    def __init__(self, points: Sequence[Params]) -> None:
        self._points = {_text(point): dict(point) for point in points}
        self._order = list(self._points)
        self._settled: dict[int, str] = {}
        self._given: dict[int, str] = {}
        """What numbers have that are not settled yet."""

    def __len__(self) -> int:
        return len(self._points)

    def settle(self, specs: Mapping[int, Spec]) -> None:
        """Take in with what trials are run."""
        for number in specs.keys() - self._settled.keys():
            self._settled[number] = _text(specs[number].params)
            self._given.pop(number, None)

    @property
    def strangers(self) -> int:
        """Settled trials that are not of the list, or in it once more."""
        return len(self._settled) - len(self._points.keys() & set(self._settled.values()))

    def of(self, number: int, known: Params) -> dict[str, Any]:
        """The parameters of a trial that is not settled; there must be some left.

        Args:
            number: of the trial.
            known: what is known of them; they are these if it is all.
        """
        taken = {*self._settled.values(), *self._given.values()}
        wishes = (_text(known), *self._order[number : number + 1], *self._order)
        text = next(text for text in wishes if text in self._points and text not in taken)
        self._given[number] = text
        return dict(self._points[text])


def _text(params: Params) -> str:
    return json.dumps(params, sort_keys=True)
