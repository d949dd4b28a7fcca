"""SQLite files as URLs, the way SQLAlchemy, Optuna and MLflow read them."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote

from booster_ray.config import ConfigError

SQLITE = "sqlite:///"
_PLAIN = re.compile(r"/[A-Za-z0-9_./-]*")


def sqlite_url(path: Path) -> str:
    """The URL of a database file, whatever characters are in its path.

    A path of letters, digits, ``_``, ``.`` and ``-`` stands in it as it is. Of another everything
    is quoted, its slashes too: MLflow creates the folder of what it takes for the path, unquoted.

    Args:
        path: of the file; a relative one lies below the current folder.

    Raises:
        ConfigError: the SQLAlchemy that is installed reads another path from it.
    """
    whole = str(path.absolute())
    if _PLAIN.fullmatch(whole):
        return SQLITE + whole
    from sqlalchemy.engine import make_url

    url = SQLITE + quote(whole, safe="")
    read = make_url(url)
    if read.database != whole or read.query:
        text = f"SQLAlchemy cannot be told of '{whole}', expected a path of A-Z a-z 0-9 _ . - /"
        raise ConfigError("storage", text)
    return url


def sqlite_path(url: str) -> Path:
    """The file that an SQLite URL names: :func:`sqlite_url`'s, or one that a user typed."""
    return Path(unquote(url.removeprefix(SQLITE).partition("?")[0]))
