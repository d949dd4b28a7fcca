"""requirements/install.py and the Makefile around it, with packages of a few bytes."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from install import cuda_packages, locks


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install_script", locks.FOLDER / "install.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = _script()
PIN = locks.read(locks.ROOT / "constraints.txt")["torch"].version


def wheel(folder: Path, name: str, version: str, **files: str) -> str:
    """Build a package; returns its hash."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    content = {path.replace("__", "/") + ".py": text for path, text in files.items()}
    content[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    content[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    content[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*content, f"{info}/RECORD"])
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of an environment with pip alone, which knows no registry."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("PIP_", "PYTHONPATH"))]:
            patch.delenv(name)
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        patch.setenv("PIP_NO_INDEX", "1")
        yield script.make(tmp_path_factory.mktemp("made") / ".venv", [])


def installed(python: Path) -> set[str]:
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    return {path.name.split("-")[0] for path in site.glob("*.dist-info")} - {"pip", "setuptools"}


@pytest.mark.parametrize(
    ("cuda", "brings"),
    [
        ("cuda: Optional[str] = None\nhip: Optional[str] = '6.4'", {"torch"}),
        ("cuda = '13.0'\nhip = None", {"torch", "nvidia_cudnn_cu13"}),
    ],
)
def test_cuda_comes_only_with_a_torch_that_was_built_with_it(
    cuda: str, brings: set[str], python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(tmp_path, "torch", PIN, torch__version=cuda)
    digest = wheel(tmp_path, "nvidia-cudnn-cu13", "9.20.0.48")
    text = f"nvidia-cudnn-cu13==9.20.0.48 \\\n    --hash=sha256:{digest}\n"
    (tmp_path / "torch-cuda.lock").write_text(text)
    monkeypatch.setattr(script, "LOCKS", tmp_path)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    script.run(str(python), "-m", "pip", "uninstall", "-qq", "-y", "torch", "nvidia-cudnn-cu13")
    script.install_torch(python, None)
    assert installed(python) == brings


def test_torch_is_taken_from_the_index_that_is_named_and_refused_with_another_cuda(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(tmp_path / "index" / "torch", "torch", PIN, torch__version="cuda = '12.6'")
    (file,) = (tmp_path / "index" / "torch").iterdir()
    page = f'<a href="{file.name}">{file.name}</a>'
    (tmp_path / "index" / "torch" / "index.html").write_text(page)
    monkeypatch.delenv("PIP_NO_INDEX")
    script.run(str(python), "-m", "pip", "uninstall", "-qq", "-y", "torch", "nvidia-cudnn-cu13")
    with pytest.raises(script.InstallError, match=r"CUDA 12\.6, torch-cuda\.lock is of 13: name"):
        script.install_torch(python, (tmp_path / "index").as_uri())
    assert installed(python) == {"torch"}


def test_a_package_with_another_hash_is_refused(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    wheel(tmp_path, "nvidia-cudnn-cu13", "9.20.0.48")
    text = f"nvidia-cudnn-cu13==9.20.0.48 --hash=sha256:{'0' * 64}\n"
    (tmp_path / "one.lock").write_text(text)
    monkeypatch.setattr(script, "LOCKS", tmp_path)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(script.InstallError, match="this failed, see above: "):
        script.install_lock(python, "one.lock")
    assert "DO NOT MATCH THE HASHES" in capfd.readouterr().err


def test_the_last_choice_is_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    monkeypatch.setattr(script, "install", lambda python, *args: taken.extend(args))
    monkeypatch.setattr(script, "install_torch", lambda python, index: taken.append(f"at {index}"))
    environment = tmp_path / ".venv"
    monkeypatch.setattr(script, "run", lambda *command: environment.mkdir(exist_ok=True))
    for argv, last, other in (
        (["--extra", "cuda12"], "cuda12.lock", "cuda13.lock"),
        ([], "cuda12.lock", "at None"),
        (["--torch-index", "file:///cpu"], "at file:///cpu", "cuda12.lock"),
        ([], "at file:///cpu", "cuda12.lock"),
    ):
        taken.clear()
        script.main([str(environment), *argv])
        text = " ".join(taken)
        assert text.index("pip.lock") < text.index("cpu.lock") < text.index(last)
        assert other not in text and (environment / ".installed").exists()


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (
            ["--extra", "cuda12", "--torch-index", "x"],
            "error: --torch-index: a GPU's torch is locked",
        ),
        (["--extra", "cuda"], "argument --extra: invalid choice: 'cuda'"),
    ],
)
def test_a_choice_that_is_none_leaves_the_environment(
    argv: list[str], says: str, tmp_path: Path
) -> None:
    (tmp_path / "kept").touch()
    done = subprocess.run(
        [sys.executable, locks.FOLDER / "install.py", tmp_path, *argv],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_another_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script.sys, "version_info", (3, 10, 2, "final", 0))
    with pytest.raises(script.InstallError, match=r"needs Python 3\.11 to 3\.13.* is 3\.10: run"):
        script.check_python()


def test_make_installs_anew_when_a_lock_changes_or_a_choice_is_made(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(locks.ROOT / name, tmp_path)
    shutil.copytree(locks.FOLDER, tmp_path / "requirements")
    stamp = tmp_path / ".venv" / script.STAMP
    stamp.parent.mkdir()
    stamp.touch()

    # Of the `make test` around this, and of the user's environment.
    outer = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "ARGS", "EXTRA", "TORCH_INDEX"}
    bare = {name: value for name, value in os.environ.items() if name not in outer}

    def would_run(*args: str) -> str:
        done = subprocess.run(
            ["make", "-n", *args],
            cwd=tmp_path, env=bare, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "install.py" not in would_run("test")
    assert ".venv --extra cuda13" in would_run("install", "EXTRA=cuda13")
    assert ".venv  --torch-index file:///cpu" in would_run("demo", "TORCH_INDEX=file:///cpu")
    newer = stamp.stat().st_mtime + 5
    os.utime(tmp_path / "requirements" / "cpu.lock", (newer, newer))
    assert would_run("test").index("install.py .venv") < would_run("test").index("pytest")


def test_the_stand_ins_look_like_a_build_with_cuda(tmp_path: Path) -> None:
    python = cuda_packages.environment(tmp_path / ".venv")
    code = """
import ctypes
from importlib import metadata
from booster_ray.runtime.environment import pip_cuda_folders
folders = pip_cuda_folders()
ctypes.CDLL(next(one for one in folders if "cudnn" in one) + "/libcudnn.so.9")
print(metadata.version("nvidia-cudnn-cu13"), metadata.version("jax"), *folders)
"""
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", code],
        cwd=locks.ROOT, env=bare, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cudnn, jax, *folders = done.stdout.split()
    assert cudnn == locks.read(locks.FOLDER / "torch-cuda.lock")["nvidia-cudnn-cu13"].version
    assert jax == metadata.version("jax")
    names = [Path(one).parent.name for one in folders if Path(one).is_relative_to(tmp_path)]
    assert names == ["cu13", "cudnn", "cusparselt", "nccl", "nvshmem"]
