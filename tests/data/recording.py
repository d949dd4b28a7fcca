"""The commands of ``booster_ray.data``, called in this process."""

from __future__ import annotations

from pathlib import Path

from booster_ray.data.command import main

STRIKER = str(Path(__file__).parents[2] / "policies/striker")


def record(folder: Path, target: str, *args: str) -> int:
    options = ("--processes", "1", "--validation", "0.5", *args)
    return main(["record", target, "--output", str(folder), *options])


def shards(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((folder / "data").glob("shard_*"))}
