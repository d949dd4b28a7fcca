"""What every section of a config is made of: strict, frozen models, and types with bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from booster_ray.config.errors import show


def fits(value: int) -> int:
    """The value, if 64 bits hold it."""
    if abs(value) >= 2**63:
        raise PydanticCustomError("too_large", "is too large, expected an integer below 2^63")
    return value


def distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    """The values, if none is there twice."""
    for i, value in enumerate(values):
        if value in values[:i]:
            raise PydanticCustomError(
                "repeated", "has '{value}' twice, expected each name once", {"value": value}
            )
    return values


def printable(value: str) -> str:
    """The text, if it is plain."""
    # A NUL in a path or in the environment raises only once the run has started.
    if not value.isprintable():
        raise PydanticCustomError("unprintable", "has a control character, expected plain text")
    return value


class PlainDict(dict[str, Any]):
    """A mapping of plain values in a frozen setting: configs are keys of what is compiled."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(sorted(self.items())))


def plain(value: Any) -> Any:
    """The value, if it is text, a finite number, a boolean, null, or lists or mappings of them."""
    parts: list[Any] = [value]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            strange = [key for key in part if not isinstance(key, str)]
            if "search" in part:
                text = "has a search inside, expected plain values, which are not searched"
                raise PydanticCustomError("plain", text)
            parts += part.values()
        elif isinstance(part, (list, tuple)):
            strange = []
            parts += part
        else:
            known = part is None or isinstance(part, (bool, str))
            number = isinstance(part, float) and math.isfinite(part)
            whole = isinstance(part, int) and abs(part) < 2**63
            strange = [] if known or number or whole else [part]
        if strange:
            told = {"value": show(strange[0])}
            text = "has {value}, expected plain values (text, finite numbers, booleans, null)"
            raise PydanticCustomError("plain", text, told)
    return PlainDict(value) if isinstance(value, dict) else value


# YAML has lists, frozen settings want tuples; strict mode would refuse the one for the other.
Listed = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)

Count = Annotated[int, Field(ge=1), AfterValidator(fits)]
Natural = Annotated[int, Field(ge=0), AfterValidator(fits)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Widths = Annotated[tuple[Count, ...], Field(min_length=1), Listed]
Text = Annotated[str, AfterValidator(printable)]


@dataclass(frozen=True)
class Rule:
    """What settings of one section owe each other; `keys` are dotted, below that section."""

    keys: tuple[str, ...]
    holds: Callable[..., bool]
    wrong: str  # with {0}, {1}, … for the values


REPLAY_RULES = (
    Rule(
        ("batch_size", "replay_size"),
        lambda batch, replay: batch <= replay,
        "batch_size {0} is above replay_size {1}, expected batch_size <= replay_size",
    ),
    Rule(
        ("learning_starts", "replay_size"),
        lambda starts, replay: starts <= replay,
        "learning_starts {0} is above replay_size {1}, expected learning_starts <= replay_size",
    ),
)
"""What a learner's batch and start owe its replay."""


class Section(BaseModel):
    """A frozen group of settings, strict about types, unknown keys and non-finite numbers."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )
    rules: ClassVar[tuple[Rule, ...]] = ()
    shorthand: ClassVar[str] = ""
    """The setting that a string in place of the whole section means."""

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, raw: Any) -> Any:
        return {cls.shorthand: raw} if cls.shorthand and isinstance(raw, str) else raw

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        for rule in self.rules:
            values = [_get(self, key) for key in rule.keys]
            if not rule.holds(*values):
                text = rule.wrong.format(*values)
                raise PydanticCustomError("rule", "{text}", {"text": text, "keys": rule.keys})
        return self


def _get(section: Any, key: str) -> Any:
    for name in key.split("."):
        section = getattr(section, name)
    return section
