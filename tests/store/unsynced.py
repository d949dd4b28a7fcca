"""A file system that cannot sync folders, as CIFS and some of FUSE."""

from __future__ import annotations

import os
import stat

import pytest


def without_folder_sync(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """``fsync`` of any folder answers the system's ``error``; files are synced."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(error, os.strerror(error))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
