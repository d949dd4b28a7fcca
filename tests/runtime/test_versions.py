"""Installations on which the game is not known are refused in one line, before anything starts."""

import os
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import driving
import pytest

from booster_ray.envs.official import make_official
from booster_ray.runtime import versions
from booster_ray.runtime.versions import KNOWN, VersionError, check_versions


def install(monkeypatch: pytest.MonkeyPatch, **found: str | None) -> None:
    """Make packages (``_`` for ``-``) seem to be of other versions, or not there with None."""
    real = metadata.version

    def version(package: str) -> str:
        name = found.get(package.replace("-", "_"), real(package))
        if name is None:
            raise metadata.PackageNotFoundError(package)
        return name

    monkeypatch.setattr(versions.metadata, "version", version)


def test_what_is_installed_here_is_known() -> None:
    check_versions()


@pytest.mark.parametrize(
    "found",
    [
        {"mujoco": "3.4.0"},
        {"mujoco": "3.9.0"},
        {"mujoco": "3.9.1.dev2"},
        {"sai_mujoco": "0.1.30"},
        {"sai_mujoco": "0.1.30.post1"},
    ],
)
def test_known_versions(found: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, **found)
    check_versions()


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"mujoco": "3.10.0"}, r"^mujoco is 3\.10\.0, expected >=3\.4,<3\.10 \(.*mj_fullM"),
        ({"mujoco": "3.10.0rc1"}, "mujoco is 3.10.0rc1"),
        ({"mujoco": "4.0.0"}, "mujoco is 4.0.0"),
        ({"mujoco": "3.3.7"}, "mujoco is 3.3.7"),
        ({"mujoco": None}, "mujoco is not installed"),
        ({"sai_mujoco": "0.1.31"}, "sai-mujoco is 0.1.31, expected >=0.1.30,<0.1.31"),
        ({"sai_mujoco": "0.1.9"}, "sai-mujoco is 0.1.9"),
        ({"sai_mujoco": "0.2.0"}, "sai-mujoco is 0.2.0"),
        ({"sai_mujoco": None}, "sai-mujoco is not installed"),
    ],
)
def test_other_versions_are_refused(
    found: dict[str, str | None], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, **found)
    with pytest.raises(VersionError, match=message) as refusal:
        make_official("goalie")
    assert "\n" not in str(refusal.value)
    assert f"run: pip install '{next(iter(found)).replace('_', '-')}>=" in str(refusal.value)


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(KeyError, match=r"unknown task 'golf'; expected one of \['goalie'"):
        make_official("golf")


def test_the_known_range_is_the_declared_one() -> None:
    text = (driving.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    declared = tomllib.loads(text)["project"]["dependencies"]
    mujoco = next(known for known in KNOWN if known.package == "mujoco")
    assert f"mujoco>={mujoco.least},<{mujoco.below}" in declared


@pytest.mark.parametrize("module", ["train", "tune"])
def test_commands_end_in_one_line_and_start_nothing(module: str, tmp_path: Path) -> None:
    fake = tmp_path / "path" / "mujoco-3.10.0.dist-info"
    fake.mkdir(parents=True)
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: mujoco\nVersion: 3.10.0\n")
    results = tmp_path / "results"
    done = subprocess.run(
        driving.command("debug", f"storage={results}", module=module),
        cwd=driving.ROOT,
        env=os.environ | {"PYTHONPATH": str(fake.parent)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: mujoco is 3.10.0, expected ")
    assert done.stderr.count("\n") == 1
    assert not results.exists()
