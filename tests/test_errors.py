"""``errors.txt`` is what bad input gets, line by line; every line in it is what a command says.

Commands run in this process, in a folder that holds what the catalogue's head lists.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import driving
import gymnasium
import pytest

from booster_ray.__main__ import main
from booster_ray.track.registry_mlflow import mlflow_client

CATALOGUE = Path(__file__).with_name("errors.txt")


class Case(NamedTuple):
    line: int
    files: dict[str, str]
    command: str
    says: str


def cases(text: str) -> Iterator[Case]:
    """Of the catalogue: ``FILE | line of it`` any number of times, ``$ command``, what it says."""
    files: dict[str, str] = {}
    command = ""
    for number, line in enumerate(text.splitlines(), 1):
        if found := re.match(r"([\w.]+) \| ?(.*)", line):
            files[found[1]] = files.get(found[1], "") + found[2] + "\n"
        elif line.startswith("$ "):
            assert not command, f"errors.txt:{number}: says nothing yet"
            command = line[2:]
        elif line.startswith("error: "):
            yield Case(number, files, command, line)
            files, command = {}, ""
        else:
            assert not line or line.startswith("#"), f"errors.txt:{number}: what is this?"
    assert not command, f"{command} says nothing"


def said(command: str) -> tuple[int, str, str]:
    """Exit code, output and error output of ``COMMAND …``, as the console script runs it."""
    out, err, argv, before = io.StringIO(), io.StringIO(), sys.argv, dict(os.environ)
    known = dict(gymnasium.registry)
    try:
        # What other tests registered (a class each) is nothing to suggest for a name.
        for name in [n for n, spec in known.items() if callable(spec.entry_point)]:
            del gymnasium.registry[name]
        sys.argv = ["booster-ray", *command.split(" ")]
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
            main()
    finally:
        sys.argv = argv
        os.environ.clear()
        os.environ.update(before)
        gymnasium.registry.update(known)
    return int(end.value.code or 0), out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Path:
    """What the catalogue's head lists."""
    here = tmp_path_factory.mktemp("errors")
    (here / "notes.txt").write_text("nothing to play\n")
    (here / "broken.onnx").write_text("no protobuf")
    with zipfile.ZipFile(here / "model.zip", "w") as archive:
        names = ("policy_class", "policy_kwargs", "observation_space", "action_space")
        archive.writestr("data", "{" + ", ".join(f'"{name}": {{}}' for name in names) + "}")
    (here / "empty").mkdir()
    (here / "torn").mkdir()
    (here / "torn" / "manifest.json").write_text('{"format": 1, "files"')
    (here / "results" / "taken").mkdir(parents=True)
    (here / "results" / "taken" / "config.yaml").write_text("name: taken\n")
    registry = shutil.copy(empty_mlflow, here / "results" / "mlflow.db")
    client = mlflow_client(f"sqlite:///{registry}")
    client.create_registered_model("booster_t1")
    version = client.create_model_version("booster_t1", str(here / "empty")).version
    client.set_registered_model_alias("booster_t1", "champion", version)
    return here


def test_the_catalogue(folder: Path) -> None:
    """One line, exit code 2, nothing on standard output, nothing written."""
    found = list(cases(CATALOGUE.read_text(encoding="utf-8")))
    wrong = []
    with chdir(folder):
        for case in found:
            for name, text in case.files.items():
                Path(name).write_text(text, encoding="utf-8")
            before = sorted(folder.rglob("*"))
            code, out, err = said(case.command)
            err = err.replace(f"{driving.ROOT}/", "").replace(f"{folder}/", "")
            if (code, out, err) != (2, "", case.says + "\n"):
                wrong.append(f"errors.txt:{case.line}: $ {case.command}\n{code}: {out}{err}")
            assert sorted(folder.rglob("*")) == before, case.command
            for name in case.files:
                Path(name).unlink()
    assert not wrong, "\n".join(wrong)
    assert len(found) > 50
