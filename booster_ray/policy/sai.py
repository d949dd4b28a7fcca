"""What sai_rl asks of a package, done as it does it, with errors of one line.

Sources: ``CustomCodeManager`` and the PyTorch handler of sai_rl 0.1.37. sai_rl itself need not be
installed; a test holds the two together.
"""

from __future__ import annotations

import re
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from booster_ray.config import ConfigError
from booster_ray.soccer import game

_IMPORTS = re.compile(
    r"^\s*#?\s*(from\s+\w+\s+import\s+.*|import\s+\w+.*|from\s+\w+\s+import\s+\(.*\)"
    r"|import\s+\(.*\))",
    re.MULTILINE,
)
_OBJECT = re.compile(r"^\s*(def|class)\s+([A-Za-z_]\w*)", re.MULTILINE)


class Rejected(ConfigError):
    """One line: what sai_rl would refuse, or fail on."""


def load_code(text: str, kind: str, what: str, env: Any = None) -> Any:
    """The function that ``text`` begins with, or an instance of its class: a preprocessor.

    Nothing but ``np`` and ``env`` is known in it.

    Args:
        text: source.
        kind: ``function`` or ``class``, as it should be.
        what: how an error names it.
        env: what the name ``env`` means in it.

    Raises:
        Rejected: there is none, it cannot be made, or it has no ``modify_state``.
    """
    clean = _IMPORTS.sub("", text)
    found = _OBJECT.search(clean)
    if found is None:
        raise Rejected(f"{what}: has no {kind} (the loader takes the first def or class)")
    defined = "function" if found[1] == "def" else "class"
    if defined != kind:
        raise Rejected(f"{what}: begins with the {defined} {found[2]}, expected a {kind} first")
    namespace: dict[str, Any] = {"np": np, "env": env}
    try:
        exec(compile(clean, what, "exec"), namespace)
        loaded = namespace[found[2]]
        loaded = loaded() if kind == "class" else loaded
    except Exception as error:
        raise Rejected(f"{what}: {describe(error, what)}") from None
    if kind == "class" and not callable(getattr(loaded, "modify_state", None)):
        raise Rejected(f"{what}: {found[2]} has no method modify_state(obs, info)")
    return loaded


def describe(error: BaseException, what: str) -> str:
    """An error of package code: its type, first line and, in ``what``, where."""
    text = str(error).splitlines()
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == what]
    where = f"line {lines[-1]}: " if lines else ""
    if isinstance(error, SyntaxError):
        where = f"line {error.lineno}: "
    hint = ""
    if isinstance(error, NameError):
        hint = " (the loader strips imports; only np and env are known)"
    return f"{where}{type(error).__name__}: {text[0] if text else 'no message'}{hint}"


def load_model(path: Path) -> Any:
    """A TorchScript module.

    Raises:
        Rejected: the file is missing, cut short, or something else.
    """
    import torch

    if not path.is_file():
        raise Rejected(f"{path}: missing")
    try:
        with warnings.catch_warnings():
            # torch announces another format; the competition loads this one.
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(str(path), map_location="cpu").eval()
    except Exception:
        # What torch says are pages of its own C++.
        raise Rejected(f"{path}: not a TorchScript file, or a damaged one") from None


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in this thread alone: for a few rows, others cost more than they give."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Player:
    """One batch of episodes of one task, played as sai_rl's ``ModelManager`` plays them.

    Args:
        model: of :func:`load_model`.
        preprocessor: with ``modify_state``; new for each batch of episodes.
        action_function: model outputs to the environment's actions; None: sai_rl's scaling.
    """

    def __init__(
        self, model: Any, preprocessor: Any, action_function: Callable[..., Any] | None
    ) -> None:
        self.model = model
        self._preprocessor, self._action_function = preprocessor, action_function
        self.seen = np.zeros((0, 0), np.float32)
        """What the preprocessor told the model last."""

    def __call__(self, observation: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        """Official observations (n, D) and infos (n, …) to torques (n, 12) N·m.

        Raises:
            Rejected: the package's code fails, or gives something of another shape.
        """
        import torch

        try:
            seen = self._preprocessor.modify_state(observation, info)
        except Exception as error:
            file = _file(self._preprocessor.modify_state)
            raise Rejected(f"preprocessor: {describe(error, file)}") from None
        if not isinstance(seen, np.ndarray):
            raise Rejected(f"preprocessor: gives a {type(seen).__name__}, expected a NumPy array")
        if seen.ndim < 2:
            seen = seen[None]
        self.seen = seen
        try:
            with torch.no_grad():
                output = self.model(torch.from_numpy(seen)).numpy()
        except Exception:
            text = f"does not take the preprocessor's output, {seen.dtype}{list(seen.shape)}"
            raise Rejected(f"policy: {text}") from None
        return self._actions(output, len(observation))

    def _actions(self, output: np.ndarray, n: int) -> np.ndarray:
        if self._action_function is None:
            limits = np.array(game.TORQUE_LIMITS, np.float32)
            action = -limits + 2 * limits * np.clip((output + 1) / 2, 0, 1)
        else:
            try:
                action = self._action_function(output)
            except Exception as error:
                text = describe(error, _file(self._action_function))
                raise Rejected(f"action function: {text}") from None
        if np.shape(action) != (n, game.ACTION_SIZE):
            expected = (n, game.ACTION_SIZE)
            raise Rejected(f"package: gives actions of {np.shape(action)}, expected {expected}")
        return np.asarray(action)


def _file(function: Callable[..., Any]) -> str:
    """Where a function of :func:`load_code` was read from."""
    return str(getattr(getattr(function, "__code__", None), "co_filename", ""))
