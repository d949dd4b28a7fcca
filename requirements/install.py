"""Make a virtual environment of the locked versions, with this project and its tools in it.

python requirements/install.py .venv                      for a CPU
python requirements/install.py .venv --extra cuda12       for a GPU, with a driver from 550
python requirements/install.py .venv --torch-index URL    torch from an index of CPU builds

The versions are looked up, not resolved. torch comes without a hash, since its builds for a CPU
and for CUDA have one version but different files: it is looked at once it is there, and what a
build with CUDA needs to be imported is installed only then.

Only the standard library is used: it runs in the Python that the environment is made from.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "requirements"
CHOICE = ".choice"
"""File in an environment with the arguments it was made with, one a line."""
STAMP = ".installed"
"""File in an environment that is whole."""


class InstallError(RuntimeError):
    """What is wrong, in one line, with what to do about it."""


def main(argv: list[str]) -> None:
    """Make the environment that the command line asks for.

    Without a choice it is the one that was made last time. What else was in the environment is
    gone. Raises InstallError.
    """
    parser = argparse.ArgumentParser(description="Make an environment of the locked versions.")
    parser.add_argument("folder", type=Path, help="of the environment; it is emptied")
    parser.add_argument("--extra", choices=["cuda12", "cuda13"], help="for a GPU")
    parser.add_argument("--torch-index", metavar="URL", help="where torch is taken from")
    folder = parser.parse_args(argv).folder.absolute()
    choice = argv[1:] or before(folder)
    args = parser.parse_args([str(folder), *choice])
    if args.extra and args.torch_index:
        raise InstallError("--torch-index: a GPU's torch is locked; leave it out, or the extra")
    check_python()
    start = time.monotonic()
    what = f"{args.extra}, a few GB" if args.extra else "for a CPU"
    print(f"Installing into {folder} ({what}; once, a few minutes) …", flush=True)
    python = make(folder, choice)
    install_lock(python, "pip.lock")  # Python's own takes twice as long for the rest
    install_lock(python, "cpu.lock")
    if args.extra:  # the pins that both have are the same
        install_lock(python, f"{args.extra}.lock")
    else:
        install_torch(python, args.torch_index)
    install(python, "--no-build-isolation", "--editable", str(ROOT))
    (folder / STAMP).touch()
    print(f"Installed in {time.monotonic() - start:.0f} s.", flush=True)


def before(folder: Path) -> list[str]:
    """The choice that an environment was made with; empty: none, or there is no environment."""
    file = folder / CHOICE
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def check_python() -> None:
    """Raise InstallError if this Python is not one that the project runs on."""
    have = sys.version_info[:2]
    if not (3, 11) <= have < (3, 14):
        raise InstallError(
            f"booster_ray needs Python 3.11 to 3.13, {sys.executable} is {have[0]}.{have[1]}: "
            "run make with PYTHON=/path/to/python3.12"
        )


def make(folder: Path, choice: list[str]) -> Path:
    """An environment with pip alone; returns its Python."""
    run(sys.executable, "-m", "venv", "--clear", str(folder))
    (folder / CHOICE).write_text("".join(f"{line}\n" for line in choice), encoding="utf-8")
    return folder / "bin" / "python"


def install(python: Path, *args: str) -> None:
    """Let pip install exactly what the arguments name.

    Bytecode is left to the first import: most of the modules are never imported.
    """
    quiet = ("-qq", "--disable-pip-version-check")
    run(str(python), "-m", "pip", "install", *quiet, "--no-deps", "--no-compile", *args)


def install_lock(python: Path, name: str) -> None:
    """Install one of the sets beside this file, if all of it has the hashes written there."""
    install(python, "--require-hashes", "--requirement", str(LOCKS / name))


def install_torch(python: Path, index: str | None) -> None:
    """The pinned torch and, only if it was built with CUDA, the libraries it loads."""
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pin = re.search(r"^torch==\S+", pins, re.MULTILINE)
    assert pin, "constraints.txt has no torch"
    install(python, pin[0], *(["--index-url", index] if index else []))
    cuda = torch_cuda(python.parents[1])
    if cuda is None:
        return
    lock = LOCKS / "torch-cuda.lock"
    locked = re.search(r"^nvidia-cudnn-cu(\d+)==", lock.read_text(encoding="utf-8"), re.MULTILINE)
    assert locked, f"{lock} has no cuDNN"
    if cuda.split(".")[0] != locked[1]:
        raise InstallError(
            f"{pin[0]} came as a build with CUDA {cuda}, {lock.name} is of {locked[1]}: "
            "name an index of CPU builds, make install TORCH_INDEX=URL"
        )
    print(f"  torch is a build with CUDA {cuda} here, which needs its libraries …", flush=True)
    install_lock(python, lock.name)


def torch_cuda(environment: Path) -> str | None:
    """CUDA's version that the torch of an environment was built with; None: for a CPU."""
    (file,) = environment.glob("lib/python*/site-packages/torch/version.py")
    built = re.search(r"^cuda\b[^=]*= *'([\d.]+)'", file.read_text(encoding="utf-8"), re.MULTILINE)
    return built[1] if built else None


def run(*command: str) -> None:
    """Run a command to its end; what it says is shown. Raises InstallError where it fails."""
    if subprocess.run(command, cwd=ROOT).returncode:
        raise InstallError(f"this failed, see above: {' '.join(command)}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InstallError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
