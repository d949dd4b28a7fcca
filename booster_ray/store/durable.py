"""What must be on disk before something else may rely on it."""

import errno
import os
import secrets
from pathlib import Path

NOT_OFFERED = (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems answer that cannot sync a folder: CIFS, some of FUSE and 9p."""


def sync_file(file: Path) -> None:
    """Have the system write what it holds of a file, if the file is there.

    Raises:
        OSError: it cannot: the disk is full, broken, …
    """
    try:
        descriptor = os.open(file, os.O_RDWR)  # some shares refuse it for one that is only read
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> bool:
    """Have the system write which names a folder holds; returns False where it cannot do so.

    A file system without such a call writes names in its own time. Files are synced all the same,
    so what a power cut may cost there is the newest names, and no name leads to half a file.

    Raises:
        OSError: the disk is full, broken, …
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in NOT_OFFERED:
            return False
        raise
    finally:
        os.close(descriptor)
    return True


def replace_text(path: Path, text: str) -> None:
    """Write a small text file so that readers see the old or the new one, never half.

    It is on disk before it has its name, and several processes may do so at once: one of them is
    the last.

    Raises:
        OSError: the disk is full, read-only, …
    """
    temp = path.with_name(f".{path.name}.tmp-{secrets.token_hex(8)}")
    try:
        with temp.open("x", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temp.replace(path)
    finally:
        temp.unlink(missing_ok=True)


NO_LINKS = (errno.EPERM, errno.EMLINK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""What file systems answer that know no hard links: CIFS, exFAT, some of FUSE."""


def create_file(path: Path, data: bytes) -> bool:
    """Make a small file whole, unless one of that name is there; returns whether this call made it.

    Of several processes that try at once one succeeds, and no reader ever sees half of it. Where
    the file system has no hard links, two that try in the same instant may both succeed.

    Raises:
        OSError: the disk is full, read-only, …
    """
    temp = path.with_name(f".{path.name}.tmp-{secrets.token_hex(8)}")
    try:
        with temp.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(temp, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            if path.exists():
                return False
            temp.replace(path)
        sync_folder(path.parent)
    finally:
        temp.unlink(missing_ok=True)
    return True


def names_in(folder: Path) -> list[str]:
    """The names that a folder holds, sorted; none where there is no folder.

    Raises:
        OSError: it cannot be listed at this moment. ``Path.glob`` would find nothing then, and a
            run would begin anew.
    """
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
