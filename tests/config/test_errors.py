"""Whose fault a failure of other people's code is, in one line."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from booster_ray.config.errors import OWN, blame
from booster_ray.config.load import load


def caught(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BaseException:
    """What the import of a module of that text raises."""
    (tmp_path / "my_env.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_env", raising=False)
    importlib.invalidate_caches()
    with pytest.raises(BaseException) as raised:
        importlib.import_module("my_env")
    return raised.value


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (
            "\nraise ValueError('no such map\\nsecond line')",
            "ValueError: no such map (my_env.py:2)",
        ),
        ("import json\njson.loads('{')", "JSONDecodeError: Expecting property name"),
        ("import numpy\n\nnumpy.zeros(2).reshape(3)", "ValueError: cannot reshape"),
        ("def f(:\n    pass", "SyntaxError: invalid syntax (my_env.py:1)"),
        ("import sys\nsys.exit(3)", "SystemExit: 3 (my_env.py:2)"),
        ("raise RuntimeError", "RuntimeError (my_env.py:1)"),
        ("{}['x']", "KeyError: 'x' (my_env.py:1)"),
        ("class E(Exception):\n    def __str__(self):\n        1 / 0\nraise E", "E (my_env.py:4)"),
        ("raise ValueError('x' * 9999)", "x… (my_env.py:1)"),
    ],
)
def test_one_line_with_the_users_own_place(
    code: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = blame(caught(code, tmp_path, monkeypatch))
    assert told in line and "\n" not in line and len(line) < 400
    assert line.endswith(f"(my_env.py:{len(code.splitlines()) if 'def f' not in code else 1})")


def test_the_innermost_line_of_a_user_not_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from booster_ray.config import load\n\ndef f():\n    load('no_such_preset')\n\nf()"
    line = blame(caught(code, tmp_path, monkeypatch))
    assert line.startswith("ConfigError: ") and line.endswith("(my_env.py:4)")


def test_an_installed_package_where_no_line_is_the_users() -> None:
    try:
        np.stack([])
    except ValueError as error:
        # As it would be, had our own code called it.
        assert error.__traceback__ is not None
        error.__traceback__ = error.__traceback__.tb_next
        assert blame(error).startswith("ValueError: need at least one array to stack (")
        assert "test_errors" not in blame(error)


def test_no_place_where_only_our_code_ran() -> None:
    try:
        load("no_such_preset")
    except ValueError as error:
        assert error.__traceback__ is not None
        error.__traceback__ = error.__traceback__.tb_next
        assert blame(error).startswith("ConfigError: ") and ".py:" not in blame(error)
    with pytest.raises(ModuleNotFoundError) as missing:
        importlib.import_module("no_such_module")
    missing.value.__traceback__ = missing.tb.tb_next  # the standard library is nobody's fault
    assert blame(missing.value) == "ModuleNotFoundError: No module named 'no_such_module'"
    assert blame(ValueError("never raised")) == "ValueError: never raised"
    assert OWN.name == "booster_ray"
