"""The Optuna study of a sweep: a view of its ledger, for samplers, dashboards and users."""

from __future__ import annotations

import json
import logging
import math
import sqlite3
import warnings
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
import sqlalchemy.exc
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from booster_ray.config import Choice, Config, ConfigError, Distribution, IntRange, Sweep
from booster_ray.config.errors import choices
from booster_ray.config.paths import expanded
from booster_ray.store.database import sqlite_url
from booster_ray.store.files import STUDY
from booster_ray.tune.ledger import Ledger, Spec, Verdict
from booster_ray.tune.patience import FAILURES, StorageLost, patiently
from booster_ray.tune.points import Points

LOCK_SECONDS = 60
"""How long a writer waits for another's lock on the SQLite file."""
BEHIND_SECONDS = 60
"""How long the database may be away without missing anything; the next opening adds what it lacks.
"""
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
REMEMBERED = 250
"""Trials with a score that TPE reads. It calls 25 of 241 or more good, and weighs the others less
the older they are; with a thousand it would need a fifth of a second to draw one."""
GOOD = 25
CURVE, MANY = 16, 200
"""Scores of an ended trial that a database is given which has nothing of it; of a sweep of more
trials than ``MANY`` it is given the last one alone, for each costs milliseconds."""

_log = logging.getLogger(__name__)


def study_url(config: Config, root: Path) -> str:
    """Where the study of the sweep in ``root`` is kept; ``$NAME`` is read from the environment.

    Raises:
        ConfigError: a variable in ``tune.study_url`` is not set.
    """
    if config.tune.study_url is None:
        return sqlite_url(root / STUDY)
    return expanded(config.tune.study_url, "tune.study_url")


def refuse_taken(config: Config, source: str) -> None:
    """For a new sweep: a shared database must not hold a study of its name.

    Raises:
        ConfigError: it does, or it cannot be opened.
    """
    if config.tune.study_url is None:
        return
    names = optuna.get_all_study_names(_storage(study_url(config, Path())))
    if config.name in names:
        text = f"study '{config.name}' exists at tune.study_url, expected another name"
        raise ConfigError(source, "name", text)


def _opened(config: Config, root: Path, *, rebuildable: bool) -> optuna.storages.RDBStorage:
    """The sweep's database.

    Raises:
        ConfigError: it cannot be opened.
    """
    url = study_url(config, root)
    if config.tune.study_url is not None:
        return _storage(url)
    try:
        database = _storage(url)
    except ConfigError as error:
        cause = getattr(error.__context__, "orig", None)
        if not rebuildable or type(cause) is not sqlite3.DatabaseError:
            raise
        aside = (root / STUDY).replace(root / f"{STUDY}.damaged")
        warnings.warn(f"{root / STUDY} is damaged: it is now {aside.name}", stacklevel=2)
        database = _storage(url)

    def hasty(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    # What a power cut costs of it is made again.
    sqlalchemy.event.listen(database.engine, "connect", hasty)
    database.engine.dispose()
    return database


def _storage(url: str) -> optuna.storages.RDBStorage:
    lite = url.startswith("sqlite:")
    engine = {"connect_args": {"timeout": LOCK_SECONDS}} if lite else {"pool_pre_ping": True}
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs=engine)
    except (ImportError, sqlalchemy.exc.SQLAlchemyError) as error:
        # SQLAlchemy's texts do not hold the URL, whose password nobody may see.
        text = f"cannot open the study's database: {str(error).splitlines()[0]}"
        raise ConfigError("tune.study_url", text) from None


class SweepStudy:
    """The trials of a sweep, rebuilt from its ledger; in memory, and shown in a database.

    What is settled stands in the ledger alone. The database is what dashboards read and where a
    user enqueues trials; it is brought up to date when a sweep is opened, and written to by a
    thread of its own, so that nobody waits for it but who draws a new trial.

    Args:
        sweep: the checked config.
        root: the sweep's folder.
        ledger: of the sweep, read.

    Raises:
        ConfigError: the database cannot be opened.
        OSError: the ledger's storage cannot be used.
    """

    def __init__(self, sweep: Sweep, root: Path, ledger: Ledger) -> None:
        config = sweep.base()
        self._sweep, self._trials = sweep, config.tune.trials
        self._points = Points(sweep.points)
        self._targets: dict[int, int] = {}
        self._space, self._seed = sweep.space, config.seed
        self._sampler, self._name = config.tune.sampler, config.name
        self._distributions = {key: _optuna(found) for key, found in self._space.items()}
        self._directions = [StudyDirection.MAXIMIZE] * len(config.tune.objectives)
        self.ledger = ledger
        self._memory, self._ids = _Memory(), dict[int, int]()
        self._memory_id = self._memory.create_new_study(self._directions, self._name)
        self._writing = ThreadPoolExecutor(1, "study")
        self._database = _opened(config, root, rebuildable=bool(ledger.specs))
        self._study_id = self._made_study()
        rows = self._database.get_all_trials(self._study_id, deepcopy=False)
        self._adopt(rows)
        self._show(rows)

    # -- reading -----------------------------------------------------------------------------

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """All trials in the order of their numbers, or those in one of ``states``."""
        return self._memory.get_all_trials(self._memory_id, False, states or None)

    def entered(self) -> list[FrozenTrial]:
        """Trials that run or have ended, without those that are enqueued."""
        return self.trials(TrialState.RUNNING, *ENDED)

    def trial(self, number: int) -> FrozenTrial:
        """One trial."""
        return self._memory.get_trial(number)

    def params(self, number: int) -> dict[str, Any]:
        """A trial's parameters as config values."""
        return dict(self.ledger.specs[number].params)

    def wanted(self) -> int:
        """Trials that the sweep is to have: `tune.trials`, or all that are listed.

        Beside a list those count that a user entered in the database by hand.
        """
        if not self._points:
            return self._trials
        self._points.settle(self.ledger.specs)
        return len(self._points) + self._points.strangers

    def target(self, number: int) -> int:
        """Env steps at which each of a trial's runs has spent its budget."""
        if number not in self._targets:
            self._targets[number] = self._sweep.env_steps(self.params(number))
        return self._targets[number]

    def scored(self) -> optuna.Study:
        """All trials that reached a score, those that the scheduler stopped like the others."""
        found = optuna.create_study(directions=self._directions)
        optuna_trials = [t for t in self.trials(*ENDED) if t.values is not None]
        found.add_trials([_with_state(t, TrialState.COMPLETE) for t in optuna_trials])
        return found

    # -- what happens ------------------------------------------------------------------------

    def ask(self) -> int:
        """Settle the next trial and enter it; returns its number.

        First those that a user enqueued, with what is fixed as it is; the rest is drawn. The
        sampler is seeded by the trial's number, so that a resumed driver does not repeat its
        first draws. Cut short anywhere, the next call goes on with the same trial. One that was
        enqueued with what cannot be has failed when this returns. Where trials are listed, the
        next of the list is entered, and what a user enqueued is another number for it.
        """
        self._look()
        if not self.trials(TrialState.WAITING):
            # The database gives its number: a user may enqueue one at this moment.
            row = optuna.trial.create_trial(state=TrialState.WAITING)
            self._database.create_new_trial(self._study_id, row)
            self._look()
        return self._begin(self.trials(TrialState.WAITING)[0])

    def report(self, number: int, env_steps: float, score: float | None) -> None:
        """Note a trial's score at ``env_steps``; a second time changes nothing."""
        step, known = int(env_steps), self.trial(number)
        if len(self._directions) > 1 or not step or score is None or known.state in ENDED:
            return
        if known.intermediate_values.get(step) != score:
            self._memory.set_trial_intermediate_value(number, step, score)
            row = self._ids[number]
            self._later(lambda: self._database.set_trial_intermediate_value(row, step, score))

    def tell(self, number: int, verdict: Verdict) -> None:
        """Settle how a trial ended; one that has ended stays as it is."""
        if number in self.ledger.verdicts:
            return
        for env_steps, score in verdict.scores:
            self.report(number, env_steps, score)
        found = self.ledger.close(number, verdict)
        state, values, row = TrialState[found.state], _floats(found.values), self._ids[number]
        self._memory.set_trial_state_values(number, state, values)
        self._later(lambda: self._database.set_trial_state_values(row, state, values))

    def flush(self) -> None:
        """Wait for a while until the database shows all that there is."""
        with suppress(TimeoutError):
            self._writing.submit(lambda: None).result(BEHIND_SECONDS)

    # -- a trial begins ----------------------------------------------------------------------

    def _look(self) -> None:
        """Take in what a user has entered in the database."""
        rows = self._database.get_all_trials(self._study_id, False, (TrialState.WAITING,))
        new = [row for row in rows if row.number not in self._ids]
        first = len(self._ids)
        if [row.number for row in new] != list(range(first, first + len(new))):
            # Others than waiting ones lie between them.
            rows = self._database.get_all_trials(self._study_id, deepcopy=False)
            new = [row for row in rows if row.number not in self._ids]
            self._adopt(new)
        self._take(new)

    def _take(self, rows: Sequence[FrozenTrial]) -> None:
        for row in sorted(rows, key=lambda row: row.number):
            if row.number not in self._ids:
                self._ids[row.number] = row._trial_id
                self._memory.create_new_trial(self._memory_id, self._settled(row.number) or row)

    def _begin(self, waiting: FrozenTrial) -> int:
        number, row = waiting.number, self._ids[waiting.number]
        fixed, error = self._fixed(waiting)
        params = self._drawn(number, fixed)
        error = None if self._points else error
        spec = self.ledger.enter(Spec(number, params, dict(waiting.user_attrs)))
        if error:
            self.ledger.close(number, Verdict("FAIL", None, error))
        frozen = self._frozen(spec.params, state=TrialState.RUNNING)
        missing = {k: v for k, v in frozen.params.items() if k not in waiting.params}
        for key in missing:
            self._memory.set_trial_param(number, key, *_internal(frozen, key))
        state = TrialState.FAIL if error else TrialState.RUNNING
        self._memory.set_trial_state_values(number, state)

        def show() -> None:
            for key in missing:
                self._database.set_trial_param(row, key, *_internal(frozen, key))
            self._database.set_trial_state_values(row, state)

        self._later(show)
        return number

    def _fixed(self, waiting: FrozenTrial) -> tuple[dict[str, Any], str | None]:
        """What of a waiting trial is fixed, as config values, and what is wrong with it."""
        given = {**waiting.params, **waiting.system_attrs.get("fixed_params", {})}
        fixed: dict[str, Any] = {}
        for key, value in given.items():
            if key not in self._space:
                return fixed, f"it was enqueued with '{key}', expected {choices(self._space)}"
            known, fixed[key] = _decoded(self._space[key], value)
            if not known:
                del fixed[key]
                return fixed, f"it was enqueued with {key}: {value!r}, not of {self._space[key]}"
        return fixed, None

    def _drawn(self, number: int, fixed: Mapping[str, Any]) -> dict[str, Any]:
        """A trial's parameters as config values: what is fixed, and what the sampler draws."""
        if self._points:
            self._points.settle(self.ledger.specs)
            return self._points.of(number, fixed)
        study = optuna.load_study(study_name=self._name, storage=self._memory)
        drawing = make_sampler(self._sampler, self._seed + number)
        blank = optuna.trial.create_trial(state=TrialState.RUNNING)
        blank.number = number
        params: dict[str, Any] = {}
        with self._memory.bounded():
            for key, found in self._distributions.items():
                if key in fixed:
                    params[key] = fixed[key]
                else:
                    value = drawing.sample_independent(study, blank, key, found)
                    params[key] = _decoded(self._space[key], value)[1]
        return params

    # -- opening -----------------------------------------------------------------------------

    def _made_study(self) -> int:
        with suppress(KeyError):
            return self._database.get_study_id_from_name(self._name)
        return self._database.create_new_study(self._directions, self._name)

    def _adopt(self, rows: Sequence[FrozenTrial]) -> None:
        """Enter in the ledger what only the database knows of.

        A trial of an earlier release's sweep, one that a user added or ended by hand.
        """
        ledger, specs, verdicts = self.ledger, list[Spec](), dict[int, Verdict]()
        for row in rows:
            if row.number not in ledger.specs and row.state != TrialState.WAITING:
                specs.append(self._spec_of(row))
            if row.number not in ledger.verdicts and row.state in ENDED:
                verdicts[row.number] = _verdict_of(row)
        ledger.enter_all(specs, verdicts)

    def _spec_of(self, row: FrozenTrial) -> Spec:
        known = {key: row.params[key] for key in self._space if key in row.params}
        params = {key: _decoded(self._space[key], value)[1] for key, value in known.items()}
        if row.state == TrialState.RUNNING:
            params = self._drawn(row.number, {**params, **self._fixed(row)[0]})
        return Spec(row.number, params, dict(row.user_attrs))

    def _show(self, rows: Sequence[FrozenTrial]) -> None:
        """Bring the database up to date with the ledger, and memory with both."""
        kept = rows
        if not all(self._agrees(row) for row in rows):
            self._database.delete_study(self._study_id)
            self._study_id, rows = self._made_study(), []
        count = max((*self.ledger.specs, len(kept) - 1), default=-1) + 1
        for number in range(len(rows), count):
            # A number that nobody has settled waits for its settings.
            before = kept[number] if number < len(kept) else self._frozen({}, TrialState.WAITING)
            template = self._settled(number) or before
            template.system_attrs = before.system_attrs
            template.user_attrs = {**template.user_attrs, **before.user_attrs}
            self._database.create_new_trial(self._study_id, template)
        if count > len(rows):
            rows = self._database.get_all_trials(self._study_id, deepcopy=False)
        for row in rows:
            self._mend(row)
        self._take(rows)

    def _agrees(self, row: FrozenTrial) -> bool:
        """Whether a row can be made what the ledger says."""
        settled = self._settled(row.number)
        if settled is None:
            return row.state == TrialState.WAITING
        shared = self._space.keys() & row.params.keys()
        fits = all(_same(row.params[key], settled.params.get(key)) for key in shared)
        if row.state in ENDED:
            return fits and row.state == settled.state and _same(row.values, settled.values)
        return fits

    def _mend(self, row: FrozenTrial) -> None:
        """Make a row of the database what the ledger says."""
        settled = self._settled(row.number)
        if settled is None or row.state == settled.state:
            return
        for key in settled.params.keys() - row.params.keys():
            self._database.set_trial_param(row._trial_id, key, *_internal(settled, key))
        for step, score in settled.intermediate_values.items():
            if step not in row.intermediate_values:
                self._database.set_trial_intermediate_value(row._trial_id, step, score)
        self._database.set_trial_state_values(row._trial_id, settled.state, settled.values)

    def _settled(self, number: int) -> FrozenTrial | None:
        """A trial as the ledger has it; None where nothing is settled."""
        spec, verdict = self.ledger.specs.get(number), self.ledger.verdicts.get(number)
        if spec is None:
            return None
        if verdict is None:
            return self._frozen(spec.params, TrialState.RUNNING, user_attrs=spec.user_attrs)
        most = CURVE if len(self.ledger.specs) <= MANY else 1
        curve = thinned(verdict.scores, most) if len(self._directions) == 1 else []
        return self._frozen(
            spec.params,
            TrialState[verdict.state],
            values=_floats(verdict.values),
            user_attrs=spec.user_attrs,
            intermediate_values={int(step): score for step, score in curve},
        )

    def _frozen(self, params: Mapping[str, Any], state: TrialState, **more: Any) -> FrozenTrial:
        known = {key: found for key, found in self._distributions.items() if key in params}
        encoded = {key: _encode(params[key]) for key in known}
        distributions = {key: _widened(found, encoded[key]) for key, found in known.items()}
        return optuna.trial.create_trial(
            state=state, params=encoded, distributions=distributions, **more
        )

    def _later(self, call: Callable[[], object]) -> None:
        self._writing.submit(_written, call)


class _Memory(optuna.storages.InMemoryStorage):
    """Trials in memory; a trial's id is its number."""

    def __init__(self) -> None:
        super().__init__()
        self._read: list[FrozenTrial] | None = None

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """Within, samplers read of many trials the best and the newest."""
        self._read = remembered(self.get_all_trials(0, deepcopy=False))
        try:
            yield
        finally:
            self._read = None

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """See Optuna."""
        if self._read is None:
            return super().get_all_trials(study_id, deepcopy, states)
        return [trial for trial in self._read if states is None or trial.state in states]


def remembered(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Of trials in the order of their numbers, what a sampler reads of them.

    That is all of up to ``REMEMBERED`` with a score; of more the best, in TPE's order, and the
    newest. Of several objectives it is all.
    """
    scored = [trial for trial in trials if trial.values is not None]
    if len(scored) <= REMEMBERED or len(scored[0].values) > 1:
        return trials
    best = {trial.number for trial in sorted(scored, key=_place)[:GOOD]}
    newest = [trial.number for trial in scored if trial.number not in best][GOOD - REMEMBERED :]
    dropped = {trial.number for trial in scored} - best - set(newest)
    return [trial for trial in trials if trial.number not in dropped]


def _place(trial: FrozenTrial) -> tuple[float, ...]:
    """TPE takes those for the best that ran to their end, then those that came farthest."""
    if trial.state == TrialState.COMPLETE:
        return (0, -trial.values[0])
    step, score = max(trial.intermediate_values.items(), default=(0, -math.inf))
    return (1, -step, -score)


def make_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """``tpe`` (aware of trials still running) or ``random``."""
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, constant_liar=True, n_startup_trials=5)


def thinned(scores: Sequence[Sequence[float]], most: int) -> list[Sequence[float]]:
    """At most so many of a trial's scores, evenly, the last among them."""
    return list(scores[:: -max(1, math.ceil(len(scores) / most))])[::-1]


def _floats(values: Sequence[float] | None) -> list[float] | None:
    """Optuna multiplies them in place."""
    return None if values is None else [float(value) for value in values]


def _verdict_of(row: FrozenTrial) -> Verdict:
    """What a database's row says of how its trial ended."""
    values = row.values if row.state != TrialState.FAIL else None
    scores = [[step, score] for step, score in sorted(row.intermediate_values.items())]
    best = {"env_steps": 0, "score": values[0]} if values else {}
    return Verdict(row.state.name, values, None, 0, best, scores)  # type: ignore[arg-type]


def _with_state(trial: FrozenTrial, state: TrialState) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=state,
        values=trial.values,
        params=trial.params,
        distributions=trial.distributions,
    )


def _internal(trial: FrozenTrial, key: str) -> tuple[float, BaseDistribution]:
    found = trial.distributions[key]
    return found.to_internal_repr(trial.params[key]), found


def _written(call: Callable[[], object]) -> None:
    """Write to the database; what it does not take, it gets at the next opening."""
    try:
        patiently(call, BEHIND_SECONDS)
    except (*FAILURES, StorageLost, optuna.exceptions.OptunaError, KeyError) as error:
        _log.warning("the study's database is behind: %s", str(error).splitlines()[0])


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=1e-9)
    return bool(one == other)


def _decoded(found: Distribution, value: Any) -> tuple[bool, Any]:
    """Whether a setting can have a value, and the value as configs have it."""
    if isinstance(found, Choice):
        alike = [v for v in found.values if repr(_encode(v)) == repr(_encode(value))]
        return bool(alike), (alike or [value])[0]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or (found.log and value <= 0):
        return False, value
    if isinstance(found, IntRange):
        return value == int(value), int(value)
    return True, float(value)


def _widened(found: BaseDistribution, value: Any) -> BaseDistribution:
    """The distribution, grown to hold a value that a user chose outside of it."""
    if isinstance(found, FloatDistribution) and not found.low <= value <= found.high:
        return FloatDistribution(min(found.low, value), max(found.high, value), log=found.log)
    if isinstance(found, IntDistribution) and not found.low <= value <= found.high:
        return IntDistribution(min(found.low, value), max(found.high, value), log=found.log)
    return found


def _optuna(found: Distribution) -> BaseDistribution:
    if isinstance(found, Choice):
        return CategoricalDistribution([_encode(value) for value in found.values])
    if isinstance(found, IntRange):
        return IntDistribution(found.low, found.high, log=found.log)
    return FloatDistribution(found.low, found.high, log=found.log)


def _encode(value: Any) -> Any:
    """Optuna's categories are scalars; lists travel as JSON."""
    return value if isinstance(value, (bool, int, float, str, type(None))) else json.dumps(value)
