"""Stand-ins for the packages that a torch built with CUDA brings into an environment.

python tests/install/cuda_packages.py FOLDER

makes an environment there that has all that this one has, and them. They look as pip leaves the
real ones: the names and versions of requirements/torch-cuda.lock, and libraries below ``nvidia/``,
where CUDA's own packages share one folder. What is in the libraries is Python's, so that they can
be loaded.
"""

from __future__ import annotations

import _ctypes
import re
import shutil
import sys
import sysconfig
import venv
from pathlib import Path

LOCK = Path(__file__).parents[2] / "requirements" / "torch-cuda.lock"
LIBRARIES = {
    "nvidia-cublas": ("cu13", "libcublas.so.13"),
    "nvidia-cuda-nvrtc": ("cu13", "libnvrtc.so.13"),
    "nvidia-cuda-runtime": ("cu13", "libcudart.so.13"),
    "nvidia-cudnn-cu13": ("cudnn", "libcudnn.so.9"),
    "nvidia-cusparselt-cu13": ("cusparselt", "libcusparseLt.so.0"),
    "nvidia-nccl-cu13": ("nccl", "libnccl.so.2"),
    "nvidia-nvshmem-cu13": ("nvshmem", "libnvshmem_host.so.3"),
}
"""Package to the folder below ``nvidia/`` and a library of those it puts there."""


def write(folder: Path) -> None:
    """Write the stand-ins into a folder, which is made if it is not there."""
    pins = re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    assert LIBRARIES.keys() <= dict(pins).keys(), "requirements/torch-cuda.lock has other packages"
    for name, version in pins:
        files = []
        if name in LIBRARIES:
            part, library = LIBRARIES[name]
            files.append(f"nvidia/{part}/lib/{library}")
            (folder / files[0]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(_ctypes.__file__, folder / files[0])
        record(folder, name, version, files)


def record(folder: Path, name: str, version: str, files: list[str]) -> None:
    """What pip writes about a package: ``importlib.metadata`` reads it."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    told = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n"
    (info / "METADATA").write_text(told, encoding="utf-8")
    files = [*files, f"{info.name}/METADATA", f"{info.name}/RECORD"]
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files), encoding="utf-8")


def environment(folder: Path) -> Path:
    """Make an environment with the stand-ins beside what this one has; returns its Python.

    They are among its own packages, as pip's are: on PYTHONPATH, a test that sets the variable
    for a process of its own would hide them.
    """
    venv.create(folder, clear=True, symlinks=True)
    (own,) = folder.absolute().glob("lib/python*/site-packages")
    ours = sysconfig.get_path("purelib")
    (own / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n", encoding="utf-8")
    write(own)
    return folder.absolute() / "bin" / "python"


if __name__ == "__main__":
    print(environment(Path(sys.argv[1])))
