"""MLflow, the record: every trial a run below the sweep's, with settings, lineage and results."""

from __future__ import annotations

import getpass
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from booster_ray.config import Config
from booster_ray.track.registry_mlflow import (
    ENVIRONMENT,
    artifact_root,
    mlflow_client,
    without_login,
)
from booster_ray.track.tracked_runs import Row, State, Status, TrackedRun, flattened
from booster_ray.track.where import mlflow_uri, note_mlflow_run

ID = "booster_ray.id"
"""Tag of our own id of a run."""
ONE_TRY = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""A server that does not answer is asked again later."""
BATCH_METRICS, BATCH_PARAMS = 1000, 100
"""What MLflow takes at once."""
LONGEST_PARAM = 6000
STEPS = "env_steps"
VIEW = "booster_ray"
"""Name of the view of an experiment that has the useful columns."""
SHOWN_METRICS = ("best_score", "env_steps", "env_steps_per_second")
SHOWN_TAGS = ("stage", "dr_level", "gates", "parent_model")
STATUS: dict[Status, str] = {
    "running": "RUNNING", "finished": "FINISHED", "failed": "FAILED", "waiting": "KILLED",
}  # fmt: skip


class MlflowSink:
    """A :class:`booster_ray.track.sink.Sink`.

    Args:
        config: says where.
        root: the folder of the sweep or run, by whose storage the default database lies.
    """

    def __init__(self, config: Config, root: Path) -> None:
        for name, text in {**ENVIRONMENT, **ONE_TRY}.items():
            os.environ.setdefault(name, text)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self._uri, self._name = mlflow_uri(config), config.tracking.mlflow.experiment
        self.where = without_login(self._uri)
        self._client, self._experiment = mlflow_client(self._uri), ""
        self._root = root
        self._runs: dict[str, str] = {}
        """Our id -> MLflow's."""
        self._kept: dict[Path, float] = {}
        """Files that were sent, and when they were written."""

    # -- a run begins ------------------------------------------------------------------------

    def open(self, subject: TrackedRun, newest: int) -> int:
        """See :class:`Sink`."""
        found = self._found(subject)
        if found is None:
            found = self._create(subject)
        if subject.parent is None:
            self._show(subject)
        self._runs[subject.id] = found.info.run_id
        note_mlflow_run(subject.directory, found.info.run_id)
        self._log_params(found, subject)
        return int(found.data.metrics.get(STEPS, -1))

    def _show(self, subject: TrackedRun) -> None:
        """Offer a view of the experiment whose first page has what a person looks for.

        MLflow's own shows no metric. It reads a view from a tag, as its button "Share" leaves it.
        """
        columns = [
            *(f"metrics.`{name}`" for name in SHOWN_METRICS),
            *(f"params.`{name}`" for name in subject.searched),
            *(f"tags.`{name}`" for name in SHOWN_TAGS),
            "attributes.`Description`",
        ]
        view = {
            "searchFilter": "", "orderByKey": f"metrics.`{SHOWN_METRICS[0]}`", "orderByAsc": False,
            "startTime": "ALL", "lifecycleFilter": "Active", "datasetsFilter": [],
            "modelVersionFilter": "All Runs", "selectedColumns": columns,
        }  # fmt: skip
        tag = f"mlflow.sharedViewState.{VIEW}"
        self._client.set_experiment_tag(self._experiment_id(), tag, json.dumps(view))

    def _found(self, subject: TrackedRun) -> Any:
        where = f"tags.`{ID}` = '{subject.id}'"
        runs = self._client.search_runs([self._experiment_id()], where, max_results=1)
        return runs[0] if runs else None

    def _experiment_id(self) -> str:
        if not self._experiment:
            found = self._client.get_experiment_by_name(self._name)
            self._experiment = found.experiment_id if found else self._new_experiment()
        return self._experiment

    def _new_experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        try:
            return str(
                self._client.create_experiment(
                    self._name,
                    artifact_location=artifact_root(self._uri),
                    tags={"mlflow.note.content": ABOUT},
                )
            )
        except MlflowException:
            found = self._client.get_experiment_by_name(self._name)
            if found is None:
                raise
            return str(found.experiment_id)  # another sweep was quicker

    def _create(self, subject: TrackedRun) -> Any:
        tags = {
            ID: subject.id,
            "mlflow.user": _user(),
            "mlflow.source.name": f"booster_ray.{'train' if subject.kind == 'run' else 'tune'}",
            "mlflow.source.type": "LOCAL",
            "folder": str(subject.directory),
            "kind": subject.kind,
            **subject.lineage,
        }  # fmt: skip
        if commit := subject.lineage.get("git_commit"):
            tags["mlflow.source.git.commit"] = commit
        if subject.parent:
            if subject.parent.id not in self._runs:
                self.open(subject.parent, -1)
            tags["mlflow.parentRunId"] = self._runs[subject.parent.id]
        return self._client.create_run(
            self._experiment_id(), start_time=_ms(subject.began), tags=tags, run_name=subject.name
        )

    def _log_params(self, run: Any, subject: TrackedRun) -> None:
        from mlflow.entities import Param

        flat = flattened(subject.config.to_dict()) | subject.searched
        # A member of a population changes its settings on the way; MLflow's stay the first.
        missing = [Param(k, str(v)[:LONGEST_PARAM]) for k, v in flat.items()
                   if k not in run.data.params]  # fmt: skip
        for i in range(0, len(missing), BATCH_PARAMS):
            self._client.log_batch(run.info.run_id, params=missing[i : i + BATCH_PARAMS])

    # -- and goes on -------------------------------------------------------------------------

    def send(self, subject: TrackedRun, rows: Sequence[Row]) -> None:
        """See :class:`Sink`."""
        from mlflow.entities import Metric

        run, began = self._runs[subject.id], _ms(subject.began)
        for path in (path for row in rows for path in row.videos.values()):
            self._client.log_artifact(run, str(path), "videos")
        batch: list[Any] = []
        for row in rows:
            at = began + round(1000 * row.metrics.get("wall_seconds", 0.0))
            named = {k: v for k, v in row.metrics.items() if k != STEPS}
            found = [Metric(k, float(v), at, row.env_steps) for k, v in named.items()]
            found.append(Metric(STEPS, float(row.env_steps), at, row.env_steps))
            if len(batch) + len(found) > BATCH_METRICS:
                self._client.log_batch(run, metrics=batch)
                batch = []
            batch += found
        self._client.log_batch(run, metrics=batch)

    def update(self, subject: TrackedRun, state: State) -> None:
        """See :class:`Sink`."""
        from mlflow.entities import RunTag

        run = self._runs[subject.id]
        tags = {**state.tags, "mlflow.note.content": state.note}
        if state.alerts:
            tags["alert"] = state.alerts[-1]
        self._client.log_batch(run, tags=[RunTag(k, v[:5000]) for k, v in tags.items()])
        if subject.kind == "sweep" and "best_score" in state.tags:
            self._client.log_metric(run, "best_score", float(state.tags["best_score"]))
        if not state.ended:
            self._client.update_run(run, status="RUNNING")
        for path, written in state.files.items():
            if self._kept.get(path) != written:
                self._client.log_artifact(run, str(path))
                self._kept[path] = written

    def close(self, subject: TrackedRun, state: State) -> None:
        """See :class:`Sink`."""
        status = STATUS["waiting" if state.status == "running" else state.status]
        last = subject.directory / "progress.jsonl"
        end = _ms(last.stat().st_mtime) if last.exists() else None
        self._client.set_terminated(self._runs[subject.id], status, end)

    def farewell(self) -> str:
        """See :class:`Sink`."""
        page = f"#/experiments/{self._experiment}/runs?viewStateShareKey={VIEW}"
        if self._uri.startswith("sqlite:"):
            command = f"mlflow ui --backend-store-uri {self._uri}"
            return f"MLflow: {command}\n  and then http://127.0.0.1:5000/{page}"
        return f"MLflow: {self.where}/{page}" if self._uri.startswith("http") else ""


ABOUT = """Sweeps and runs of booster_ray. A sweep is a parent run, its trials are nested below it;
the best official score so far of each is the metric `best_score`. The address of this page with
`?viewStateShareKey=booster_ray` shows the useful columns, the best trial first."""


def _ms(seconds: float) -> int:
    return round(1000 * seconds)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's nameless user
        return "unknown"
