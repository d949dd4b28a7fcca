"""The command with its storage on S3: stopped on one machine, finished by another."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import driving
import pytest
from store import s3_server

from booster_ray.store.remote import RemoteFolder

OVERRIDES = ("name=far", "randomization.level=0", "rewards.height=1.0", "sac.critic_lr=3e-4",
             "training.env_steps=1200")  # fmt: skip


def reports(url: str) -> list[int]:
    text = RemoteFolder(url).read("far/progress.jsonl") or b""
    return [json.loads(line)["env_steps"] for line in text.splitlines() if line.endswith(b"}")]


@pytest.mark.slow
def test_a_run_stopped_on_one_machine_is_finished_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server.serving() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        url = f"s3://{s3_server.BUCKET}/runs"
        first = driving.start(
            "debug", f"storage={url}", *OVERRIDES, module="train", TMPDIR=str(tmp_path / "one")
        )
        driving.wait_for(lambda: any("step_" in n for n in RemoteFolder(url).names("far")))
        first.send_signal(signal.SIGTERM)
        code, output = driving.finish(first)
        assert code == 130, output
        assert f"--resume far --storage {url}" in output
        # It went as far as its last report, and all of that is there.
        reached = reports(url)[-1]
        steps = [n for n in RemoteFolder(url).names("far") if n.startswith("step_")]
        assert max(steps) == f"step_{reached:012d}"
        second = driving.start(
            "--resume", "far", "--storage", url, module="train", TMPDIR=str(tmp_path / "two")
        )
        code, output = driving.finish(second)
        assert code == 0, output
        assert reports(url)[-1] == 1200
        assert reports(url) == sorted(set(reports(url)))
