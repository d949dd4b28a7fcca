"""A policy on disk, in three formats: torch's numbers, TorchScript, ONNX."""

from __future__ import annotations

import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from booster_ray.policy.contract import to_metadata
from booster_ray.policy.onnx_export import export_onnx
from booster_ray.rl.torch_actor import TorchActor
from booster_ray.store.checkpoint.errors import CheckpointError
from booster_ray.store.files import ACTOR

WEIGHTS, SCRIPT, ONNX = "actor.safetensors", "actor.pt", "actor.onnx"
"""State dict; TorchScript; ONNX; and JSON that says what they are."""

FORMAT = "booster_ray-actor/1"

TOLERANCE = 1e-5
"""Largest difference of an action between a format and the actor that it was written from."""

PROBES = 256
"""Observations that formats are compared on."""


class ConversionError(CheckpointError):
    """An actor that cannot be converted; one line says what it is and what was expected."""


Policy = Callable[[np.ndarray], np.ndarray]


def save_actor(
    actor: TorchActor,
    directory: Path,
    metadata: dict[str, Any] | None = None,
    contract: Mapping[str, Any] | None = None,
) -> None:
    """Write the actor to the new ``directory`` in every format, wholly or not at all.

    Each file is loaded again and compared with the actor before the directory appears.

    Args:
        actor: what to write.
        directory: must not exist.
        metadata: JSON that :func:`load_actor` gives back.
        contract: what the ONNX file tells of how it is played.

    Raises:
        FileExistsError: ``directory`` exists; it is left as it is.
        ConversionError: a format, loaded again, acts differently.
        OSError: it cannot be written.
    """
    if os.path.lexists(directory):
        raise FileExistsError(f"{directory} exists; choose another folder")
    about = {"format": FORMAT, "spec": actor.spec(), "metadata": metadata or {}}
    text = json.dumps(about, indent=2) + "\n"
    directory.parent.mkdir(parents=True, exist_ok=True)
    temp = directory.with_name(f".{directory.name}.tmp-{os.getpid()}")
    shutil.rmtree(temp, ignore_errors=True)
    temp.mkdir()
    try:
        _write(actor, temp, to_metadata(contract or {}))
        (temp / ACTOR).write_text(text, encoding="utf-8")
        for name, difference in compare(actor, temp).items():
            if not difference < TOLERANCE:
                raise ConversionError(
                    f"{name}, loaded again, acts differently by {difference:.1e}; "
                    f"expected below {TOLERANCE:.0e}"
                )
        temp.rename(directory)
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def load_actor(directory: Path) -> tuple[TorchActor, dict[str, Any]]:
    """The actor and the metadata that :func:`save_actor` wrote.

    Raises:
        ConversionError: there is none, or one of another format, cut short, or whose numbers do
            not fit what is said of it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    about = _read_about(directory / ACTOR)
    file = directory / WEIGHTS
    try:
        actor = TorchActor.from_spec(about["spec"])
        actor.load_state_dict(load_file(file))
    except FileNotFoundError:
        raise ConversionError(f"{file}: no such file") from None
    except SafetensorError as error:
        raise ConversionError(f"{file}: not whole: {error}") from None
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConversionError(f"{file}: does not fit {ACTOR}: {reason}") from None
    return actor.eval(), about["metadata"]


def compare(actor: TorchActor, directory: Path) -> dict[str, float]:
    """Largest |Δ action| of each file's policy from the actor's, over observations of its range.

    Raises:
        ConversionError: a file is missing or cannot be loaded.
    """
    rng = np.random.default_rng(0)
    mean, deviation = actor.mean.numpy(), actor.deviation.numpy()
    unit = 3.0 * rng.standard_normal((PROBES, actor.observation_size))
    probes = (mean + deviation * unit).astype(np.float32)
    # One at a time too: an exporter may have taken the batch's size for a constant.
    batches = probes, probes[:1]
    wanted = [torch_policy(actor)(batch) for batch in batches]
    loaders = {WEIGHTS: _weights_policy, SCRIPT: _script_policy, ONNX: _onnx_policy}
    found = {}
    for name, loader in loaders.items():
        policy = loader(directory)
        gaps = [np.abs(policy(batch) - w).max() for batch, w in zip(batches, wanted, strict=True)]
        found[name] = float(max(gaps))
    return found


def torch_policy(actor: torch.nn.Module) -> Policy:
    """A module as a function of arrays, (n, obs) float32 → (n, act) float32."""

    def policy(observation: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            # JAX hands out arrays that are not writable, which torch warns of: those are copied.
            given = torch.from_numpy(np.require(observation, np.float32, ["C", "W"]))
            acted: np.ndarray = actor(given).numpy()
        return acted

    return policy


def _write(actor: TorchActor, directory: Path, metadata: dict[str, str]) -> None:
    from safetensors.torch import save_file

    state = {name: value.contiguous() for name, value in actor.state_dict().items()}
    save_file(state, directory / WEIGHTS)
    actor = TorchActor.from_spec(actor.spec()).eval()
    actor.load_state_dict(state)
    with quiet_exporters():
        torch.jit.script(actor).save(str(directory / SCRIPT))
        taken, given = "observation", ["action"]
        export_onnx(directory / ONNX, actor, actor.observation_size, taken, given, metadata)


@contextmanager
def quiet_exporters() -> Iterator[None]:
    """Keep the exporters' notes on packages that are not here, and deprecations, to themselves."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _read_about(file: Path) -> dict[str, Any]:
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConversionError(f"{file}: {error.strerror}; expected an exported actor") from None
    except ValueError:
        raise ConversionError(f"{file}: not JSON, or cut short") from None
    found = about.get("format") if isinstance(about, dict) else None
    if found != FORMAT or not {"spec", "metadata"} <= about.keys():
        raise ConversionError(f"{file}: format is {found!r}; expected {FORMAT!r}")
    return dict(about)


def _weights_policy(directory: Path) -> Policy:
    return torch_policy(load_actor(directory)[0])


def _script_policy(directory: Path) -> Policy:
    file = directory / SCRIPT
    try:
        with quiet_exporters():
            return torch_policy(torch.jit.load(str(file)))
    except (RuntimeError, ValueError) as error:
        raise ConversionError(f"{file}: {' '.join(str(error).split())[:200]}") from None


def _onnx_policy(directory: Path) -> Policy:
    import onnxruntime

    file = directory / ONNX
    try:
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class of their own
        raise ConversionError(f"{file}: {' '.join(str(error).split())[:200]}") from None

    def policy(observation: np.ndarray) -> np.ndarray:
        (acted,) = session.run(None, {"observation": observation})
        return np.asarray(acted)

    return policy
