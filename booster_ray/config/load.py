"""From YAML files and `key=value` overrides to a sweep, or one line that says what is wrong."""

from __future__ import annotations

import itertools
import operator
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from booster_ray.config import experiments as listed
from booster_ray.config import space, yaml12
from booster_ray.config.errors import ConfigError, Problem, choices, hint, near, show
from booster_ray.config.experiments import EXPERIMENT, KEY, Experiment
from booster_ray.config.explain import explain, findings
from booster_ray.config.paths import settled
from booster_ray.config.schema import Config
from booster_ray.config.section import Section
from booster_ray.config.space import Distribution, FloatRange
from booster_ray.config.trees import Key, Tree, drop, merge, put, sets
from booster_ray.soccer.entry_points import PROBLEMS

PRESETS = Path("tune_configs")
"""Folder, under the current one, where bare preset names are looked up first."""
SHIPPED = next(
    (folder for at in Path(__file__).parents[1:3] if (folder := at / PRESETS).is_dir()), PRESETS
)
"""Where they are looked up next: inside of an installed package, beside it in a checkout."""


@dataclass(frozen=True)
class Sweep:
    """A checked config whose searched settings are still open.

    `raw` holds what was set, searches and experiments included, and paths in full; `space` maps
    each searched setting's dotted key, sorted, to its distribution. Of a config with experiments it
    begins with `experiment`, and holds what any of them searches.
    """

    source: str
    raw: Tree
    space: dict[str, Distribution]
    experiments: dict[str, Experiment] = field(default_factory=dict)

    @classmethod
    def from_raw(cls, raw: Mapping[str, Any], source: str) -> Sweep:
        """Checks a merged tree, such as another sweep's `raw`. Raises ConfigError."""
        return _checked(raw, source, ())

    def resolve(self, values: Mapping[str, object]) -> Config:
        """The config with a value for every searched key; what its experiment does not search is
        not looked at. Raises ConfigError.
        """
        for key in values:
            if key not in self.space:
                text = f"is not searched, expected {choices(self.space or ['no value'])}"
                raise ConfigError(self.source, str(key), text + hint(key, self.space))
        if not self.experiments:
            return self._resolved(self.raw, self.space, values)
        name = values.get(EXPERIMENT)
        if not isinstance(name, str) or name not in self.experiments:
            text = f"is {show(name)}, expected {choices(self.experiments)}"
            raise ConfigError(self.source, EXPERIMENT, text + hint(name, self.experiments))
        chosen = self.experiments[name]
        return self._resolved(merge(self._common(), chosen.overrides), chosen.space, values)

    def _common(self) -> Tree:
        """The tree without its experiments."""
        return {key: value for key, value in self.raw.items() if key != KEY}

    def _resolved(
        self, tree: Tree, space: Mapping[str, Distribution], values: Mapping[str, object]
    ) -> Config:
        for key, found in space.items():
            if key not in values:
                raise ConfigError(
                    self.source, key, f"has no value, expected a sample of its {found.kind} search"
                )
            try:
                value = found.cast(values[key])
            except (TypeError, ValueError, OverflowError):
                text = f"is {show(values[key])}, expected a sample of its {found.kind} search"
                raise ConfigError(self.source, key, text) from None
            tree = put(tree, tuple(key.split(".")), value)
        try:
            return Config.model_validate(tree)
        except ValidationError as error:
            problems = [_problem(one, {}, {}) for one in findings(error)]
            raise _error(problems, self.source, ()) from None

    def base(self) -> Config:
        """The config with each searched setting at its low end or first value.

        Of a sweep of experiments it is what they have in common, none of them applied.
        """
        return self._base

    @cached_property
    def _base(self) -> Config:
        found = self._searched()
        return self._resolved(self._common(), found, {k: _first(one) for k, one in found.items()})

    def _searched(self) -> dict[str, Distribution]:
        """What is searched, but in experiments."""
        if not self.experiments:
            return self.space
        return {".".join(key): found for key, found in _searches(self._common())[0].items()}

    def variants(self) -> list[Config]:
        """A config of each experiment, as :meth:`base` is; where there are none, that one."""
        if not self.experiments:
            return [self.base()]
        firsts = [
            named | {key: _first(found) for key, found in space.items()}
            for named, space in self.spaces()
        ]
        return [self.resolve(values) for values in firsts]

    def spaces(self) -> Iterator[tuple[dict[str, Any], Mapping[str, Distribution]]]:
        """What is searched in each experiment, behind the value that names it; or in the sweep."""
        for name, one in self.experiments.items():
            yield {EXPERIMENT: name}, one.space
        if not self.experiments:
            yield {}, self.space

    @cached_property
    def points(self) -> tuple[dict[str, Any], ...]:
        """The parameters of each trial in turn; empty where a sampler draws them."""
        grids = any(map(listed.is_grid, self.space.values()))
        return listed.points(self.experiments, self.space) if grids else ()

    def env_steps(self, values: Mapping[str, object]) -> int:
        """The budget of a trial with such values, control steps."""
        key = ("training", "env_steps")
        chosen = self.experiments.get(str(values.get(EXPERIMENT)))
        if ".".join(key) in values or (chosen and sets(chosen.overrides, key)):
            with suppress(ConfigError):  # of a trial that cannot run
                return self.resolve(values).training.env_steps
        return self.base().training.env_steps

    def complete(self) -> Sweep:
        """The same sweep with every default written out, so that new defaults do not change it."""
        tree = self.base().to_dict()
        for key in self._searched():
            path = tuple(key.split("."))
            tree = put(tree, path, reduce(operator.getitem, path, self.raw))
        if self.experiments:
            tree[KEY] = self.raw[KEY]
        return replace(self, raw=tree)

    def to_yaml(self) -> str:
        """`raw` as YAML that `load` reads back."""
        return yaml12.dump(self.raw)


def load(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Sweep:
    """Reads a config file, its bases and `key=value` overrides, and checks all of it.

    A bare name such as `demo` means `tune_configs/demo.yaml`, where that exists, and else the
    preset that came with the package; so does a `base` that is not beside its file. Paths mean
    what they mean in the current folder, see :mod:`booster_ray.config.paths`. Raises ConfigError
    when anything is wrong, at either end of any search range included.
    """
    file = _find(os.fspath(path))
    layers = [*_files(file, ()), *map(_override, overrides)]
    tree: Tree = {}
    for layer in layers:
        tree = put(tree, layer.key, layer.value) if layer.key else merge(tree, layer.value)
    return _checked(tree, str(file), layers)


@dataclass(frozen=True)
class _Layer:
    """What one file (`key` is empty) or one override sets, and how errors name it."""

    place: str
    key: Key
    value: Any

    def sets(self, key: Key) -> bool:
        """Whether `key`, or something inside it, was written here."""
        if key[: len(self.key)] != self.key[: len(key)]:
            return False
        return sets(self.value, key[len(self.key) :])


# --- files and overrides ---


def _find(path: str) -> Path:
    preset = PRESETS / f"{path}.yaml"
    bare = bool(path) and not Path(path).suffix and Path(path).name == path
    try:
        if bare and preset.is_file():
            return preset
        if path and Path(path).exists():
            return Path(path)
        if bare and (shipped := SHIPPED / f"{path}.yaml").is_file():
            return shipped
    except (OSError, ValueError) as error:
        raise ConfigError(path, _reason(error)) from None
    raise ConfigError(path or "''", "no such file, expected a config" + _nearby(path))


def _nearby(path: str) -> str:
    """What a missing path may have meant, from its own folder and the presets'."""
    folder = Path(path).parent
    wanted = Path(path).stem
    found = {p.stem: str(p) for at in (PRESETS, folder) for p in sorted(_listing(at))}
    shipped = {p.stem: p.stem for p in sorted(_listing(SHIPPED)) if p.stem not in found}
    if close := near(wanted, found | shipped):
        return f"; did you mean '{(found | shipped)[close]}'?"
    there = [*sorted(found.values()), *shipped][:8]
    return f"; found {', '.join(there)}" if there else ""


def _listing(folder: Path) -> list[Path]:
    try:
        return [p for p in folder.iterdir() if p.suffix in (".yaml", ".yml")]
    except (OSError, ValueError):
        return []


def _files(file: Path, above: Sequence[Path]) -> list[_Layer]:
    """The file and its bases, the lowest base first; `above` are the files that led here."""
    tree = _read(file)
    try:
        own = _spelt({key: value for key, value in tree.items() if key != "base"})
    except Problem as problem:
        raise _error([problem], str(file), ()) from None
    layer = _Layer(str(file), (), own)
    if "base" not in tree:
        return [layer]
    base = tree["base"]
    if not isinstance(base, str) or not base or not base.isprintable():
        text = f"is {show(base)}, expected the name or the path of a config"
        raise ConfigError(str(file), "base", text)
    named = file.parent / base
    below = named if named.suffix in (".yaml", ".yml") else named.with_name(f"{named.name}.yaml")
    if Path(base).name == base and not Path(base).suffix and not os.path.exists(below):
        shipped = SHIPPED / below.name
        below = shipped if os.path.exists(shipped) else below
    chain = [*above, file]
    if any(os.path.realpath(below) == os.path.realpath(seen) for seen in chain):
        text = " -> ".join(str(p) for p in [*chain, below])
        raise ConfigError(str(file), "base", f"goes in a circle, {text}, expected a last base")
    if not os.path.exists(below):
        text = f"no file {below}, expected a config{_nearby(str(below))}"
        raise ConfigError(str(file), "base", text)
    return [*_files(below, chain), layer]


def _read(file: Path) -> Tree:
    try:
        tree = yaml12.read(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ConfigError(str(file), "not UTF-8, expected a text file in YAML") from None
    except OSError as error:
        raise ConfigError(str(file), _reason(error)) from None
    except yaml12.YamlError as error:
        place = f"{file}:{error.line}" if error.line else str(file)
        raise ConfigError(place, f"{error.text}, expected YAML") from None
    if not isinstance(tree, dict):
        is_ = "is empty" if tree is None else f"is {show(tree)}"
        raise ConfigError(str(file), f"{is_}, expected a mapping of settings")
    return tree


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{text[:1].lower()}{text[1:]}, expected a readable config file"


def _override(text: str) -> _Layer:
    name, equals, value = text.partition("=")
    name = name.strip()
    if not equals or not all(name.split(".")) or name.count(".") > 8:
        raise ConfigError("command line", f"{show(text)} is no override, expected key=value")
    if name == "base":
        raise ConfigError("command line", name, "cannot be overridden, expected in a file")
    try:
        read = yaml12.read(value)
    except yaml12.YamlError as error:
        raise ConfigError("command line", name, f"{error.text}, expected YAML") from None
    if short := _shorthand(name, read):
        return _Layer("command line", (name, short), read)
    if name == KEY:
        try:
            read = _spelt({KEY: read})[KEY]
        except Problem as problem:
            raise _error([problem], "command line", ()) from None
    return _Layer("command line", tuple(name.split(".")), read)


def _spelt(tree: Tree) -> Tree:
    """A file's settings with sections spelt out that stand in short, experiments by their names.

    Raises Problem.
    """
    found = {
        key: {short: value} if (short := _shorthand(key, value)) else value
        for key, value in tree.items()
    }
    if KEY in found:
        named = listed.by_name(found[KEY])
        found[KEY] = {name: _spelt(overrides) for name, overrides in named.items()}
    return found


def _shorthand(name: str, value: Any) -> str:
    """The setting that `value` in place of the whole section `name` means, or nothing.

    It is spelt out here already, so that the section's other settings, from a base or another
    override, stay.
    """
    field = Config.model_fields.get(name)
    section = _section(field.annotation) if field and isinstance(value, str) else None
    return section.shorthand if section else ""


# --- trees ---


def _plain(value: Any) -> Any:
    """Plain mappings, lists and scalars, sharing nothing with the caller's."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise Problem((), f"key {show(key)} is not a name, expected a string")
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


# --- checks ---


def _checked(raw: Any, source: str, layers: Sequence[_Layer]) -> Sweep:
    if not isinstance(raw, Mapping):
        raise ConfigError(source, f"is {show(raw)}, expected a mapping of settings")
    if PROBLEMS:
        raise ConfigError("entry points", PROBLEMS[0])
    named: dict[str, Experiment] = {}
    try:
        tree = _plain(raw)
        overrides = _spelt({KEY: tree.pop(KEY)})[KEY] if KEY in tree else {}
        tree, unsettled = settled(tree) if layers else (tree, [])  # once, where it was typed
        found, problems = _searches(tree)
        problems += [*_probe(tree, found), *unsettled]
        if not problems:
            tree, named, problems = _listed(tree, found, overrides, layers)
    except Problem as problem:
        problems = [problem]
    except RecursionError:
        raise ConfigError(source, "nested too deeply, expected a config") from None
    if problems:
        raise _error(problems, source, layers)
    if named:
        tree |= {KEY: {name: one.overrides for name, one in named.items()}}
        return Sweep(source, tree, listed.union(named), named)
    return Sweep(source, tree, {".".join(key): found[key] for key in sorted(found)})


def _listed(
    tree: Tree, found: dict[Key, Distribution], overrides: Tree, layers: Sequence[_Layer]
) -> tuple[Tree, dict[str, Experiment], list[Problem]]:
    """A config that is right by itself, with its experiments; how many trials there are is set."""
    named: dict[str, Experiment] = {}
    problems: list[Problem] = []
    for name, raw in overrides.items():
        named[name], wrong = _experiment(tree, name, raw, bool(layers))
        problems += wrong
    spaces = [one.space for one in named.values()] or [{".".join(k): f for k, f in found.items()}]
    if problems or not (named or any(listed.is_grid(one) for one in found.values())):
        return tree, named, problems
    what, give = ("experiments", "experiments give") if named else ("a grid", "the grid gives")
    problems += listed.not_grids(found, what)
    if tree.get("tune", {}).get("scheduler") == "pbt":
        text = f"is pbt beside {what}, expected asha or none (a population changes what its "
        problems.append(Problem(("tune", "scheduler"), text + "members search)"))
    trials = listed.count(spaces)
    if trials > listed.MOST:
        text = f"are {trials:,} trials, expected at most {listed.MOST:,}"
        problems.append(Problem((KEY,) if named else next(iter(found)), text))
    told, key = tree.get("tune", {}).get("trials"), ("tune", "trials")
    lists = [(KEY,), *(k for k in found if listed.is_grid(found[k]))]
    # A base's number is of its own sweep; one that is set with the list or after it is meant.
    meant = not layers or _last(layers, key) >= max(_last(layers, k) for k in lists)
    if told is not None and told != trials and meant:
        text = f"is {told}, expected {trials}, which {give}, or no such setting"
        problems.append(Problem(key, text))
    return put(tree, key, min(trials, listed.MOST)), named, problems


def _experiment(
    tree: Tree, name: str, overrides: Tree, typed: bool
) -> tuple[Experiment, list[Problem]]:
    """One experiment in the config around it, and what is wrong with it."""
    problems = listed.fixed(name, overrides)
    overrides, unsettled = settled(overrides) if typed else (overrides, [])
    whole = merge(tree, overrides)
    found, wrong = _searches(whole)
    wrong += [*_probe(whole, found), *unsettled]
    own = {key: one for key, one in found.items() if sets(overrides, key)}
    wrong += listed.not_grids(own, "experiments")
    if not wrong:
        wrong = list(_unlike(tree, whole, found))
    problems += [listed.inside(problem, name, overrides) for problem in wrong]
    return Experiment(overrides, {".".join(key): found[key] for key in sorted(found)}), problems


def _unlike(tree: Tree, whole: Tree, found: Mapping[Key, Distribution]) -> Iterator[Problem]:
    """What of an experiment cannot be compared, or run beside the others."""
    ours, theirs = _at_first(tree, _searches(tree)[0]), _at_first(whole, found)
    if ours.world.is_soccer != theirs.world.is_soccer:
        text = f"is {theirs.world.kind} beside {ours.world.kind}, whose scores are of another kind"
        yield Problem(("world", "kind"), f"{text}; expected experiments of one game")
    if ours.gpus() != theirs.gpus():
        text = f"needs {theirs.gpus():g} GPUs, other trials {ours.gpus():g}, expected the same"
        yield Problem(("sac", "devices"), text, (("stage",), ("sac", "devices")))


def _at_first(tree: Tree, found: Mapping[Key, Distribution]) -> Config:
    """A checked config with its searches at their first ends."""
    for key, one in found.items():
        tree = put(tree, key, _first(one))
    return Config.model_validate(tree)


def _searches(tree: Tree) -> tuple[dict[Key, Distribution], list[Problem]]:
    found: dict[Key, Distribution] = {}
    problems = []
    for key, raw in list(_candidates(Config, tree, ())):
        try:
            found[key] = space.parse(raw)
        except Problem as problem:
            problems.append(Problem(key + problem.path, problem.text))
    return found, problems


def _candidates(model: type[Section], tree: Tree, key: Key) -> Iterator[tuple[Key, Tree]]:
    """Search mappings on known settings; those elsewhere are left for the schema to refuse."""
    for name, value in tree.items():
        field = model.model_fields.get(name)
        if field is None or not isinstance(value, dict):
            continue
        if section := _section(field.annotation):
            yield from _candidates(section, value, (*key, name))
        elif "search" in value:
            yield (*key, name), value


def _section(annotation: Any) -> type[Section] | None:
    is_section = isinstance(annotation, type) and issubclass(annotation, Section)
    return annotation if is_section else None


def _probe(tree: Tree, found: dict[Key, Distribution]) -> list[Problem]:
    """What the schema says with every search at its first end, and with others at each end."""
    for key, _ in list(_candidates(Config, tree, ())):
        # A search that could not be read has been reported; the default stands in for it.
        tree = put(tree, key, _first(found[key])) if key in found else drop(tree, key)
    seen: dict[tuple[Key, str], Problem] = {}
    for ends in _probes(found):
        probe = tree
        for key, end in ends.items():
            probe = put(probe, key, found[key].ends()[end])
        try:
            Config.model_validate(probe)
        except ValidationError as error:
            for one in findings(error):
                problem = _problem(one, found, ends)
                seen.setdefault((problem.path, problem.text), problem)
    return list(seen.values())


def _probes(found: dict[Key, Distribution]) -> Iterator[dict[Key, str]]:
    """Ends to try: none, each alone, and both where a rule ties two searched settings."""
    yield {}
    for key in found:
        yield from ({key: end} for end in list(found[key].ends())[1:])
    for first, second in _tied(Config, ()):
        if first in found and second in found:
            for one, two in itertools.product(found[first].ends(), found[second].ends()):
                yield {first: one, second: two}


def _tied(model: type[Section], key: Key) -> Iterator[tuple[Key, Key]]:
    for rule in model.rules:
        keys = [(*key, *name.split(".")) for name in rule.keys]
        yield from itertools.combinations(keys, 2)
    for name, setting in model.model_fields.items():
        if section := _section(setting.annotation):
            yield from _tied(section, (*key, name))


def _problem(
    error: ErrorDetails, found: Mapping[Key, Distribution], ends: Mapping[Key, str]
) -> Problem:
    path = tuple(map(str, error["loc"]))
    if error["type"] == "rule":
        either = tuple((*path, *key.split(".")) for key in error["ctx"]["keys"])
        return Problem(either[0], explain(error), either)
    for key, search in found.items():
        if path[: len(key)] == key:
            if isinstance(search, FloatRange) and error["type"] == "int_type":
                whole = "logint" if search.log else "int"
                text = f"a {search.kind} search gives fractions, expected search: {whole}"
                return Problem((*key, "search"), text)
            end = ends.get(key, next(iter(search.ends())))
            return Problem((*key, *end.split("."), *path[len(key) :]), explain(error))
    return Problem(path, explain(error))


def _error(problems: Sequence[Problem], source: str, layers: Sequence[_Layer]) -> ConfigError:
    first = problems[0]
    path = max(first.either, key=lambda key: _last(layers, key), default=first.path)
    # A setting that nothing sets is blamed on what set something beside it.
    beside = (path[:size] for size in range(len(path), 0, -1))
    layer = next((i for key in beside if (i := _last(layers, key)) >= 0), None)
    place = source if layer is None else layers[layer].place
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return ConfigError(place, ".".join(path), first.text + more)


def _last(layers: Sequence[_Layer], key: Key) -> int:
    return max((i for i, layer in enumerate(layers) if layer.sets(key)), default=-1)


def _first(found: Distribution) -> Any:
    return next(iter(found.ends().values()))
