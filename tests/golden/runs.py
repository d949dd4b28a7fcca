"""Six small seeded runs through the command line, and a digest of everything that they write.

    python tests/golden/runs.py OUT.json [--only NAME] [--folder DIR]
    python tests/golden/runs.py --compare A.json B.json

The first line runs the scenarios and writes their digests, with a fingerprint of the machine and
of the libraries; the second prints where two digests differ and exits with 1 if they do. Two
digests of one fingerprint must be equal whatever was refactored in between, so nothing of
booster_ray is imported here: commands are run as subprocesses, and files are read as their
formats say.

A digest maps paths to JSON scalars. Of an array it has the type, the shape and the beginning of
the SHA-256 of its bytes; of a replay's log those of its rows, however they lie in segments.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
RUNS = "results"
"""Folder of the runs below a scenario's folder; relative, so that no config names a machine."""

Digest = dict[str, Any]

CLOCKS = {
    "compile_seconds", "env_steps_per_second", "evaluation_seconds", "updates_per_second",
    "wall_seconds",
}  # fmt: skip
"""Metrics that depend on the machine's speed."""
RANDOM = {"run_id"}
"""Metadata that is drawn anew for each run, for trackers."""
PLACES = {"storage", "start_from", "imitation/demonstrator"}
"""Settings that say where something lies: two paths, and the import path of a class."""
HASHED = {"digest"}
"""Metadata that is a hash of what stands in the digest anyway, and of what is left out of it."""

ADDED = re.compile(r"/state/|/(?:metadata|progress/\d+)/(?:evaluation/)?reward/")
"""Paths that a newer digest may have beside those of an older one: new leaves of the state, and
the weighted sum of each reward term."""

THREADS = ("NPROC", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAY_ADDRESS")
"""Variables that would decide among how many threads or machines a sum is split."""
LIBRARIES = (
    "jax", "jaxlib", "mujoco", "mujoco-mjx", "torch", "numpy", "numba", "flax", "optax", "optuna",
    "ray", "sai-mujoco", "onnxruntime",
)  # fmt: skip


# --- configs ---

WEIGHTS = {
    "alive": 1.0, "upright": 0.5, "height": 1.0, "approach": 0.5, "ball_velocity": 0.4,
    "ball_contact": 0.3, "pose": 0.2, "torque": -0.001, "smoothness": -0.05,
    "joint_velocity": -0.002, "joint_limits": -0.1, "foot_slip": -0.1, "vertical_velocity": -0.2,
    "fall": -5.0, "facing_ball": 0.3, "behind_ball": 0.2, "ball_speed": 0.3, "goal": 5.0,
    "gait": 0.4, "stepping": 0.3, "feet_air_time": 0.5, "feet_distance": -0.3,
    "angular_velocity": -0.05,
}  # fmt: skip
"""Every dense reward term takes part."""

TINY: dict[str, Any] = {
    "storage": RUNS,
    "world": {"num_envs": 6, "episode_seconds": 1.12},
    "observation": {"features": ["egocentric", "clock", "previous_action"]},
    "rewards": WEIGHTS,
    "randomization": {"level": 1},
    "sac": {
        "actor_hidden": [16],
        "critic_hidden": [16],
        "batch_size": 32,
        "updates_per_step": 1,
        "replay_size": 96,  # wraps
        "learning_starts": 64,
        "actor_lr": 0.003,
        "critic_lr": 0.003,
    },
    "training": {"env_steps": 720, "report_every": 120},
    "evaluation": {"episodes_per_task": 1, "every": 360},
    "checkpoint": {"every_env_steps": 360, "keep": 2},
    "tracking": {"listeners": []},
    "models": {"registry": "none"},
}

SAC: dict[str, Any] = {
    "name": "sac",
    "sac": {"n_step": 3, "symmetry": "augment"},
    "curriculum": [
        {"terms": ["gait", "stepping"], "factor": [[0.0, 1.0], [0.5, 0.2]]},
        {"terms": ["costs"], "factor": [[0.0, 0.5], [1.0, 1.0]]},
    ],
}
MJX: dict[str, Any] = {
    "name": "mjx",
    "world": {"kind": "mjx", "impl": "jax", "num_envs": 3, "steps_per_dispatch": 4},
    "randomization": {"level": 2},
    "sac": {
        "batch_size": 16, "learning_starts": 48, "critic": "c51", "num_atoms": 11,
        "q_target": "mean", "actor_every": 2, "max_grad_norm": 1.0,
    },
    "training": {"env_steps": 240, "report_every": 60},
    "evaluation": {"every": 120},
    "checkpoint": {"every_env_steps": 120},
}  # fmt: skip
IMITATION: dict[str, Any] = {
    "name": "imitation",
    "control": {"action_scale": 1.0},
    "imitation": {"own_share": [[0.0, 0.0], [0.5, 1.0]]},
}
DDPG: dict[str, Any] = {
    "name": "ddpg",
    "stage": "finetune",
    "start_from": f"{RUNS}/sac/step_000000000720",  # its best is the untrained one
    "seed": 1,
    "rewards": {"official": 2.0},
    "ddpg": {
        "critic_hidden": [16], "critics": 2, "critic_lr": 0.003, "batch_size": 32,
        "replay_size": 96, "learning_starts": 64, "critic_warmup": 90,
        "thawing": [
            {"start": 0, "layers": 1, "lr": 0.001}, {"start": 150, "layers": None, "lr": 0.0003},
        ],
        "anchor": [[0.0, 1.0], [1.0, 0.5]], "target_noise": 0.2, "actor_every": 2, "n_step": 3,
        "idle_penalty": 0.5, "smoothness_penalty": 1.0, "pretrain_share": 0.25,
    },
}  # fmt: skip
PBT: dict[str, Any] = {
    "name": "pbt",
    "rewards": {"height": {"search": "uniform", "low": 0.5, "high": 2.0}},
    # At a low rate some policies become better than the untrained one, and some worse.
    "sac": {
        "critic_lr": {"search": "loguniform", "low": 0.0003, "high": 0.01},
        "actor_lr": 0.0003,
    },
    "training": {"env_steps": 300, "report_every": 150},
    "evaluation": {"every": 150},
    "checkpoint": {"every_env_steps": 150, "keep_replay": True},
    # Members wait for one another, so that two at a time come out as one after another.
    "tune": {"trials": 2, "max_concurrent": 2, "scheduler": "pbt", "perturb_env_steps": 150,
             "gate_trials": 0},
}  # fmt: skip
SWEEP: dict[str, Any] = {
    "name": "sweep",
    "training": {"env_steps": 600, "report_every": 150},
    "evaluation": {"every": 150},
    "checkpoint": {"every_env_steps": 300, "keep_replay": True},
    "rewards": {"height": {"search": "uniform", "low": 0.5, "high": 2.0}},
    "randomization": {"level": {"search": "choice", "values": [0, 1]}},
    # Each learning rate is compiled anew: two of them are enough.
    "sac": {
        "critic_lr": {"search": "choice", "values": [0.001, 0.003]},
        "actor_lr": 0.0003,
    },
    # One at a time: with more, whoever reaches a rung first decides who is stopped there. From the
    # sixth trial on TPE has enough to model.
    "tune": {"trials": 6, "max_concurrent": 1, "sampler": "tpe", "scheduler": "asha",
             "grace_env_steps": 150, "reduction_factor": 2, "gate_trials": 0},
}  # fmt: skip


def merged(*trees: dict[str, Any]) -> dict[str, Any]:
    """Nested mappings laid over one another; the later counts."""
    result: dict[str, Any] = {}
    for tree in trees:
        for key, value in tree.items():
            below = result.get(key)
            both = isinstance(value, dict) and isinstance(below, dict)
            result[key] = merged(below, value) if both else value
    return result


# --- scenarios ---


def environment() -> dict[str, str]:
    """Of the commands: this code, the CPU, and the threads that a config asks for.

    Torch reads OMP_NUM_THREADS when it loads, and rounds a matrix product otherwise with more
    threads than one. It is set here, so that a digest does not depend on whether a command loads
    torch before or after it sets the variable itself.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in THREADS}
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    own = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}
    return {**cache, **inherited, **own, "TF_CPP_MIN_LOG_LEVEL": "3"}


def command(folder: Path, module: str, *args: str) -> None:
    """Run ``python -m booster_ray.MODULE`` in ``folder``.

    Raises:
        RuntimeError: its exit code is not 0; with its output.
    """
    done = subprocess.run(
        [sys.executable, "-m", f"booster_ray.{module}", *args],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(args)}: exit code {done.returncode}\n{done.stdout}")


def begin(folder: Path, module: str, *parts: dict[str, Any]) -> Path:
    """Run a config to its end; returns the run's or sweep's folder."""
    config = merged(TINY, *parts)
    file = folder / f"{config['name']}.yaml"
    file.write_text(json.dumps(config, indent=1), encoding="utf-8")  # JSON is YAML
    command(folder, module, file.name)
    return folder / RUNS / str(config["name"])


def trained(folder: Path) -> Path:
    """The SAC run, trained here if it is not there yet."""
    done = folder / RUNS / "sac"
    return done if done.exists() else begin(folder, "train", SAC)


def sac(folder: Path) -> Digest:
    """SAC on native worlds, and the package of its last policy."""
    return {**run_digest(trained(folder)), **exported(folder, "sac")}


def mjx(folder: Path) -> Digest:
    """SAC on MJX worlds."""
    return run_digest(begin(folder, "train", MJX))


def imitation(folder: Path) -> Digest:
    """DAgger on the demonstrator that needs no file; its module may move within the package."""
    (file,) = (ROOT / "booster_ray").rglob("stander.py")
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    expert = {"imitation": {"demonstrator": f"{module}:Stander"}}
    return run_digest(begin(folder, "train", IMITATION, expert))


def ddpg(folder: Path) -> Digest:
    """DDPG from the SAC run's last policy and replay, and the package of its own last policy."""
    trained(folder)
    return {**run_digest(begin(folder, "train", DDPG)), **exported(folder, "ddpg")}


def pbt(folder: Path) -> Digest:
    """A population over two generations."""
    root = begin(folder, "tune", PBT)
    generations = json.loads((root / "population.json").read_text(encoding="utf-8"))
    return {**sweep_digest(root), **leaves(generations, "population/")}


def sweep(folder: Path) -> Digest:
    """Trials that TPE suggests and ASHA stops."""
    return sweep_digest(begin(folder, "tune", SWEEP))


SCENARIOS: dict[str, Callable[[Path], Digest]] = {
    scenario.__name__: scenario for scenario in (sac, mjx, imitation, ddpg, pbt, sweep)
}


RELEASE = Path(__file__).parent / "release"
"""What an earlier release wrote, each run cut short; see test_release."""
RESUMED = ("sac", "ddpg")


def resumed(folder: Path, name: str) -> Digest:
    """A run of an earlier release, to its end by today's code."""
    copied = folder / RUNS / name
    shutil.copytree(RELEASE / name, copied)
    command(folder, "train", "--resume", name)
    return run_digest(copied)


# --- digests ---


def leaves(tree: Any, prefix: str) -> Digest:
    """JSON as paths to scalars. Numbers that are not finite become text: NaN equals nothing."""
    if isinstance(tree, dict | list) and tree:
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        found: Digest = {}
        for key, value in items:
            found |= leaves(value, f"{prefix}{key}/")
        return found
    path = prefix.removesuffix("/")
    strange = isinstance(tree, float) and not math.isfinite(tree)
    return {path: repr(tree) if strange or isinstance(tree, dict | list) else tree}


def array_digest(array: np.ndarray, kind: str | None = None) -> str:
    """Type (``kind``, if given), shape and the beginning of the SHA-256 of the bytes."""
    sha = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return f"{kind or array.dtype.str}{list(array.shape)} {sha[:16]}"


def read_array(file: Path, offset: int) -> np.ndarray:
    """The .npy image at ``offset`` of a file."""
    with file.open("rb") as stream:
        stream.seek(offset)
        return np.lib.format.read_array(stream, allow_pickle=False)


def log_rows(checkpoint: Path, entry: dict[str, Any]) -> np.ndarray:
    """The rows of a log, put together from its segments."""
    parts = []
    for segment in entry["segments"]:
        rows = read_array(checkpoint.parent / "segments" / segment["file"], 0)
        parts.append(rows[max(0, entry["start"] - segment["start"]) :])
    return np.concatenate(parts) if parts else np.empty((0, *entry["shape"]), entry["dtype"])


def leaf_digest(checkpoint: Path, entry: dict[str, Any]) -> Any:
    """What the digest says of one leaf of a checkpoint's manifest."""
    if "value" in entry:
        return next(iter(leaves(entry["value"], "").values()))
    if "segments" in entry:
        rows = f"rows {entry['start']} to {entry['stop']}"
        return f"{rows} {array_digest(log_rows(checkpoint, entry))}"
    # Extended types, such as bfloat16, lie in the file as integers of their size.
    array = read_array(checkpoint / entry["file"], entry.get("offset", 0))
    return array_digest(array, entry["dtype"])


def checkpoint_digest(path: Path) -> Digest:
    """The leaves of a checkpoint's state, and its metadata without the config."""
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    left_out = CLOCKS | RANDOM | HASHED | {"config"}
    about = {k: v for k, v in manifest["metadata"].items() if k not in left_out}
    found = leaves(about, f"{path.name}/metadata/")
    for name, entry in manifest["leaves"].items():
        found[f"{path.name}/state/{name}"] = leaf_digest(path, entry)
    return found


def config_digest(path: Path) -> Digest:
    """The settings that a checkpoint was trained with, but for places."""
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    settings = leaves(manifest["metadata"]["config"], "")
    return {f"config/{k}": v for k, v in settings.items() if k not in PLACES}


def progress_digest(run: Path) -> Digest:
    """Every metric of every report, but for clocks."""
    lines = (run / "progress.jsonl").read_text(encoding="utf-8").splitlines()
    found: Digest = {}
    for number, line in enumerate(lines):
        metrics = {k: v for k, v in json.loads(line).items() if k not in CLOCKS}
        found |= leaves(metrics, f"progress/{number}/")
    return found


def run_digest(run: Path) -> Digest:
    """All checkpoints that a run kept, its config and its reports."""
    found = progress_digest(run)
    checkpoints = sorted([*run.glob("step_*"), *run.glob("best_*")])
    for path in checkpoints:
        found |= checkpoint_digest(path)
    return found | config_digest(checkpoints[-1])


def sweep_digest(root: Path) -> Digest:
    """Leaderboard, study, and of each trial the reports and, if it ended by itself, its policies.

    Of a trial that ASHA stopped, checkpoints are left out: it is stopped while one may still be
    being written. Of a leaderboard, the checkpoint's path.
    """
    board = json.loads((root / "leaderboard.json").read_text(encoding="utf-8"))
    rows = [{k: v for k, v in row.items() if k != "checkpoint"} for row in board]
    found = {**leaves(rows, "leaderboard/"), **study_digest(root)}
    scores = json.loads((root / "best" / "scores.json").read_text(encoding="utf-8"))
    found |= leaves(scores, "best/")
    for row in board:
        trial = root / "trials" / f"{row['number']:04d}"
        of_trial = progress_digest(trial)
        if row["status"] == "TERMINATED":
            for path in [*trial.glob("step_*"), *trial.glob("best_*")]:
                of_trial |= {k: v for k, v in checkpoint_digest(path).items() if _learned(k)}
        found |= {f"trials/{row['number']}/{k}": v for k, v in of_trial.items()}
    return found


def _learned(path: str) -> bool:
    """Whether a leaf is the learner's; a sweep's worlds and replays are those of a single run."""
    return "/state/learner/" in path


def study_digest(root: Path) -> Digest:
    """State, objectives and parameters of the study's trials, in the order of suggestion."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = f"sqlite:///{root / 'study.db'}"
    study = optuna.load_study(study_name=root.name, storage=url)
    told = [
        {"state": trial.state.name, "values": trial.values, "params": trial.params}
        for trial in study.get_trials(deepcopy=False)
    ]
    return leaves(told, "study/")


# --- packages ---

INFOS = {
    "robot_gyro": 3, "robot_accelerometer": 3, "robot_velocimeter": 3, "goal_team_0_rel_robot": 3,
    "goal_team_1_rel_robot": 3, "goal_team_0_rel_ball": 3, "goal_team_1_rel_ball": 3,
    "ball_xpos_rel_robot": 3, "ball_velp_rel_robot": 3, "ball_velr_rel_robot": 3, "player_team": 2,
    "goalkeeper_team_0_xpos_rel_robot": 3, "goalkeeper_team_0_velp_rel_robot": 3,
    "goalkeeper_team_1_xpos_rel_robot": 3, "goalkeeper_team_1_velp_rel_robot": 3,
    "target_xpos_rel_robot": 3, "target_velp_rel_robot": 3, "defender_xpos": 9,
}  # fmt: skip
"""Numbers of each info that the official environment tells beside an observation."""
OBSERVED = 89 + 9 + 2 + 12
"""What a policy sees with every feature: the official numbers, egocentric, clock, last action."""
STATES = 3
PLAYED = 25
"""Steps of 2 ms: three control steps."""


TASKS = "goalie", "obstacle", "kick_to_target"


def wave(rows: int, columns: int, phase: float) -> np.ndarray:
    """Fixed numbers in [-1, 1], float32; which ones does not matter."""
    place = np.arange(rows * columns, dtype=np.float64).reshape(rows, columns)
    return np.sin(place * 0.7 + phase).astype(np.float32)


def official(step: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A goalie's observation and infos in three worlds; joints begin at 0, as after a reset."""
    observation = wave(STATES, 45, 0.1 * step) * np.float32(step > 0)
    info = {name: wave(STATES, n, 0.1 * step + i) for i, (name, n) in enumerate(INFOS.items())}
    turned = np.array([0.1, 0.2, 0.3, 0.9]) + 0.1 * wave(STATES, 4, 0.1 * step)
    quaternion = turned / np.linalg.norm(turned, axis=1, keepdims=True)
    info["robot_quat"] = quaternion.astype(np.float32)
    info["task_index"] = np.tile(np.float32([1, 0, 0]), (STATES, 1))
    return observation, info


def loaded(file: Path) -> Any:
    """The first class or function of a package's file, which may use ``np`` alone."""
    namespace: dict[str, Any] = {"np": np}
    text = file.read_text(encoding="utf-8")
    exec(compile(text, str(file), "exec"), namespace)
    name = re.search(r"^(?:def|class)\s+(\w+)", text, re.MULTILINE)
    assert name is not None
    return namespace[name[1]]


def module_of(package: Path) -> Any:
    """A package's TorchScript module."""
    import torch

    with warnings.catch_warnings():
        # Torch announces another format; packages are of this one.
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.load(str(package / "policy.pt"))


def torques(package: Path) -> np.ndarray:
    """What a package acts in states of the game, (tasks, steps, worlds, 12) N·m.

    ``states.npz`` has official observations and infos of each task, 25 steps in three worlds, from
    native worlds under random actions. They are rounded to 1e-4 N·m: the preprocessor may order
    its sums otherwise.
    """
    import torch

    states = np.load(ROOT / "tests/golden/states.npz")
    module, played = module_of(package).eval(), []
    action_function = loaded(package / "action_function.py")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for task in TASKS:
        preprocessor = loaded(package / "preprocessor.py")()
        infos = {k.split("/")[1]: states[k] for k in states.files if k.startswith(f"{task}/")}
        observations = infos.pop("observation")
        for step, observation in enumerate(observations):
            info = {name: values[step] for name, values in infos.items()}
            seen = preprocessor.modify_state(observation, info)
            with torch.no_grad():
                played.append(action_function(module(torch.from_numpy(seen)).numpy()))
    torch.set_num_threads(before)
    return np.round(np.stack(played), 4)


def onnx_outputs(package: Path) -> list[np.ndarray]:
    """What a package's ONNX file gives for fixed inputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(package / "policy.onnx"), options)
    (given,) = session.get_inputs()
    return list(session.run(None, {given.name: wave(5, given.shape[1], 0.0)}))


def weights(package: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The parameters and buffers of a package's module, by name."""
    for name, tensor in module_of(package).state_dict().items():
        yield name, tensor.numpy()


def package_digest(package: Path) -> Digest:
    """How it is played, what the gates said, its weights, and what it acts.

    Left out: digests and paths of the checkpoint, which holds clocks; the bytes of the TorchScript
    file, which holds line numbers of the code that wrote it; texts, which act the same.
    """
    about = json.loads((package / "package.json").read_text(encoding="utf-8"))
    told = {key: about[key] for key in ("format", "settings", "onnx_is_submittable")}
    told["gates"] = {number: gate["passed"] for number, gate in about["gates"].items()}
    found = leaves(told, "package/")
    found |= {f"package/weights/{name}": array_digest(array) for name, array in weights(package)}
    for i, output in enumerate(onnx_outputs(package)):
        found[f"package/onnx/{i}"] = array_digest(output)
    return found | {"package/torques": array_digest(torques(package))}


def exported(folder: Path, name: str) -> Digest:
    """The package of a run's last policy, through the command that writes it."""
    package = folder / f"{name}-package"
    last = max((folder / RUNS / name).glob("step_*"))
    command(folder, "export", str(last.relative_to(folder)), "--output", package.name)
    return package_digest(package)


# --- machines ---


def fingerprint() -> dict[str, Any]:
    """What may round otherwise: processor, flags of the compiler, libraries."""
    model, vectors = platform.machine(), ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        text = cpuinfo.read_text(encoding="utf-8")
        if found := re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE):
            model = found[1]
        if found := re.search(r"^flags\s*:\s*(.*)$", text, re.MULTILINE):
            kinds = ("sse", "avx", "fma", "f16c", "bmi", "amx")
            vectors = " ".join(sorted(f for f in found[1].split() if f.startswith(kinds)))
    versions = {name: metadata.version(name) for name in LIBRARIES}
    flags = os.environ.get("XLA_FLAGS", "")
    python = platform.python_version()
    return {"cpu": model, "vectors": vectors, "xla_flags": flags, "python": python, **versions}


# --- comparison ---


def differences(before: Digest, after: Digest) -> tuple[list[str], list[str]]:
    """What differs, a line a path: first what must not, then what may be new (see ``ADDED``)."""
    wrong, new = [], []
    for path in before:
        if path not in after:
            wrong.append(f"{path}: missing (was {before[path]!r})")
        elif type(before[path]) is not type(after[path]) or before[path] != after[path]:
            wrong.append(f"{path}: {before[path]!r} is now {after[path]!r}")
    for path in after.keys() - before.keys():
        kind = new if ADDED.search(f"/{path}") else wrong
        kind.append(f"{path}: new ({after[path]!r})")
    return wrong, sorted(new)


def flat(recorded: dict[str, Any]) -> Digest:
    """The digests of all scenarios and resumed runs in one."""
    kinds = {"": recorded["scenarios"], "resumed/": recorded.get("resumed", {})}
    return {
        f"{kind}{name}/{path}": value
        for kind, digests in kinds.items()
        for name, digest in digests.items()
        for path, value in digest.items()
    }


def compare(first: Path, second: Path) -> int:
    """Print where two files of digests differ; exit code 1 where they must not."""
    before, after = (json.loads(path.read_text(encoding="utf-8")) for path in (first, second))
    machines = differences(before["fingerprint"], after["fingerprint"])[0]
    wrong, new = differences(flat(before), flat(after))
    for line in machines:
        print(f"another machine: {line}")
    for line in new:
        print(f"allowed: {line}")
    for line in wrong:
        print(line)
    print(f"{len(wrong)} of {len(flat(before))} differ, {len(new)} allowed are new")
    return 1 if wrong else 0


def record(out: Path, names: list[str], folder: Path) -> None:
    """Run scenarios in an empty folder and write their digests, those that are done at once."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise SystemExit(f"{folder} is not empty")
    told: dict[str, Any] = {"fingerprint": fingerprint(), "scenarios": {}, "resumed": {}}
    wanted = [("scenarios", name) for name in names]
    wanted += [("resumed", name) for name in RESUMED if name in names]
    for kind, name in wanted:
        began = time.monotonic()
        if kind == "scenarios":
            told[kind][name] = SCENARIOS[name](folder)
        else:
            told[kind][name] = resumed(folder / "resumed", name)
        print(f"{kind} {name}: {time.monotonic() - began:.0f} s", flush=True)
        out.write_text(json.dumps(told, indent=0, sort_keys=True) + "\n", encoding="utf-8")


def main() -> int:
    """Record or compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?", metavar="OUT.json")
    parser.add_argument("--only", choices=SCENARIOS, metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--folder", type=Path, metavar="DIR", help="empty; keeps what is written")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("A.json", "B.json"))
    args = parser.parse_args()
    if args.compare:
        return compare(*args.compare)
    if args.out is None:
        parser.error("expected OUT.json or --compare")
    names = [args.only] if args.only else list(SCENARIOS)
    with tempfile.TemporaryDirectory(prefix="golden-") as scratch:
        record(args.out, names, (args.folder or Path(scratch) / "runs").absolute())
    return 0


if __name__ == "__main__":
    sys.exit(main())
