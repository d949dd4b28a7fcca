"""Trackers are told which experiment a trial is."""

from __future__ import annotations

import json
from pathlib import Path

from track.told import add, reports

from booster_ray.config import Sweep
from booster_ray.store.files import CONFIG, SPEC, SWEEP, trial_directory
from booster_ray.store.files import keep_run_id as begin
from booster_ray.track.tracked_runs import TrackedFolder

GRID = {"search": "grid", "values": [0.1, 0.2]}


def test_a_trial_has_its_experiment_and_the_settings_of_all(tmp_path: Path) -> None:
    root = tmp_path / "s"
    experiments = {"plain": {}, "slow": {"sac": {"tau": GRID}}}
    raw = {"name": "s", "storage": str(tmp_path), "experiments": experiments}
    sweep = Sweep.from_raw(raw, "test")
    for number, point in enumerate(sweep.points):
        trial = trial_directory(root, number)
        trial.mkdir(parents=True)
        (trial / CONFIG).write_text(sweep.resolve(point).to_yaml())
        (trial / SPEC).write_text(json.dumps({"format": 1, "number": number, "params": point}))
        begin(trial)
        add(trial, reports(1))
    (root / SWEEP).write_text(sweep.complete().to_yaml())
    begin(root)
    top, *trials = TrackedFolder(root).subjects()
    assert top.searched == {"experiment": "plain, slow", "sac.tau": "0.1, 0.2"}
    assert [one.searched for one in trials] == [
        {"experiment": "plain", "sac.tau": 0.05},
        {"experiment": "slow", "sac.tau": 0.1},
        {"experiment": "slow", "sac.tau": 0.2},
    ]
    note = TrackedFolder(root).state(trials[2]).note
    assert note.startswith("experiment = slow, sac.tau = 0.2")
