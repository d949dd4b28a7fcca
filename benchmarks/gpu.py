"""What a GPU does with this package, told in one command, of at most eight minutes: no network.

Every part runs in a process of its own, so that its memory is its own, and what it found is on
disk before the next one begins:

``run``      the command itself on MJX worlds: cold start, env steps/s, memory, an interrupt, gate 2
             on its policy, the resumed run's start and memory, kill -9 and resume
``physics``  ``env.step`` in a scan at several numbers of worlds
``learner``  updates/s of SAC at two sizes, and what sampling costs
``finetune`` DDPG with torch on the GPU
``sweep``    two trials through Ray, a GPU each, one after the other

The last line is one JSON object; the same line goes to ``benchmarks/gpu.jsonl``. Without a GPU
nothing is measured, but ``--small`` shows on a CPU that all of it runs.

    python benchmarks/gpu.py [--parts run,physics,…] [--minutes 8] [--small]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).parents[1]
HISTORY = Path(__file__).with_suffix(".jsonl")
GAME = {
    "base": str(ROOT / "tune_configs/score.yaml"),
    "world": {"kind": "mjx", "num_envs": 4096, "steps_per_dispatch": 16},
    "sac": {
        "actor_hidden": [512, 256, 128], "critic_hidden": [768, 384, 192], "matmul": "bfloat16",
        "batch_size": 8192, "updates_per_step": 8, "replay_size": 4_194_304,
        "learning_starts": 131_072,
    },
    "training": {"env_steps": 100_000_000, "report_every": 1_000_000},
    "evaluation": {"episodes_per_task": 8, "every": 4_000_000},
    "checkpoint": {"every_env_steps": 4_000_000},
    "trainer": {"cpus": 8},
    "tracking": {"listeners": []},
}  # fmt: skip
"""The run that is measured: `score`'s rewards with a learner of an accelerator's size."""
SMALL: dict[str, Any] = {
    "world": {"kind": "brax:fast", "num_envs": 8, "steps_per_dispatch": 2},
    "sac": {
        "actor_hidden": [16], "critic_hidden": [16], "batch_size": 32, "updates_per_step": 1,
        "replay_size": 4096, "learning_starts": 64,
    },
    "training": {"env_steps": 100_000_000, "report_every": 800},
    "evaluation": {"episodes_per_task": 1, "every": 1_000_000},
    "checkpoint": {"every_env_steps": 800},
    "trainer": {"cpus": 1},
}  # fmt: skip
FINETUNE = {
    "base": str(ROOT / "tune_configs/finetune.yaml"),
    "training": {"env_steps": 1_000_000, "report_every": 2_000},
    "evaluation": {"every": 1_000_000},
    "tracking": {"listeners": []},
}
UNDER_RAY = {"workers": 1, "use_gpu": True}
"""A GPU is given to a worker of Ray Train."""
SWEEP_TRIALS = 2


# -- the machine -----------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """What stands beside every figure: card, driver, versions, commit."""
    found: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cpus": len(os.sched_getaffinity(0)),
        "gpu": _smi("name") or "none",
        "driver": _smi("driver_version") or "none",
    }
    for package in ("jax", "mujoco", "mujoco-mjx", "warp-lang", "torch", "ray"):
        with suppress(Exception):
            found[package] = version(package)
    commit = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    found["commit"] = commit.stdout.strip() or "unknown"
    return found


def _smi(query: str) -> str:
    """What nvidia-smi says of the first GPU; empty where there is none."""
    command = ["nvidia-smi", "-i", "0", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return ""


class Memory:
    """The most that was in use since it began, in GB: of the GPU, or of a process without one."""

    def __init__(self, pid: int) -> None:
        self._pid, self._ended = pid, threading.Event()
        self.unused = self._now() if _smi("name") else 0.0
        self.peak = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _now(self) -> float:
        if told := _smi("memory.used"):
            return float(told) * 2**20 / 1e9
        with suppress(psutil.Error):
            process = psutil.Process(self._pid)
            family = [process, *process.children(recursive=True)]
            return sum(one.memory_info().rss for one in family) / 1e9
        return 0.0

    def _watch(self) -> None:
        while not self._ended.wait(0.25):
            self.peak = max(self.peak, self._now() - self.unused)

    def stop(self) -> float:
        """The peak, GB."""
        self._ended.set()
        return round(self.peak, 2)


# -- run: the command, from outside ----------------------------------------------------------------


class Command:
    """``python -m booster_ray.train``, its reports and its memory."""

    def __init__(self, storage: Path, *arguments: str) -> None:
        self.began = time.monotonic()
        self.progress = storage / "bench" / "progress.jsonl"
        self.before = len(self.reports())
        self._output = (storage / "output.txt").open("ab")
        command = [sys.executable, "-m", "booster_ray.train", *arguments]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=self._output, stderr=subprocess.STDOUT
        )
        self.memory = Memory(self.process.pid)

    def reports(self) -> list[dict[str, Any]]:
        """The whole lines of ``progress.jsonl``."""
        with suppress(OSError):
            lines = self.progress.read_text(encoding="utf-8").splitlines(keepends=True)
            return [json.loads(line) for line in lines if line.endswith("\n")]
        return []

    def until(self, env_steps: int, limit: float) -> float:
        """Seconds since the start at which a new report has reached ``env_steps``.

        Raises:
            TimeoutError: it did not in ``limit`` seconds.
            RuntimeError: the command ended.
        """
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            reports = self.reports()
            # A resumed run drops reports beyond its checkpoint first.
            self.before = min(self.before, len(reports))
            if reports[self.before :] and reports[-1]["env_steps"] >= env_steps:
                return time.monotonic() - self.began
            if self.process.poll() is not None:
                raise RuntimeError(f"the command ended with {self.process.returncode}")
            time.sleep(0.05)
        raise TimeoutError(f"no report of {env_steps:,} env steps in {limit:.0f} s")

    def end(self, number: signal.Signals) -> float:
        """Send a signal; seconds until the process is gone."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(timeout=180)
        self._output.close()
        return time.monotonic() - began


def run(folder: Path, small: bool, left: Callable[[], float]) -> Iterator[dict[str, Any]]:
    """Cold start, speed, memory, an interrupt, and two resumes."""
    settings = _merged(GAME, SMALL) if small else GAME
    every = settings["training"]["report_every"]
    config = folder / "bench.yaml"
    config.write_text(yaml.safe_dump(settings | {"name": "bench", "storage": str(folder)}))
    yield {"memory_planned_gb": _planned(config)}
    first = Command(folder, str(config))
    try:
        began = first.until(1, left())
        yield {"first_report_s": began}
        first.until(5 * every, left())
        reports = first.reports()
        rate = statistics.median(r["env_steps_per_second"] for r in reports[2:])
        yield {"env_steps_per_second": rate}
        # The first report of stepping tells of the start and of the steps that it counts.
        yield {"start_cold_s": began - reports[1]["env_steps"] / rate}
        yield {"memory_fresh_gb": first.memory.stop()}
        scores = {r["env_steps"]: round(r["score"], 2) for r in reports if "score" in r}
        yield {"scores": scores, "wall_seconds": reports[-1]["wall_seconds"]}
        yield {"interrupt_s": first.end(signal.SIGINT)}
        reached = first.reports()[-1]["env_steps"]
    finally:
        first.process.kill()
    resume = ("--resume", "bench", "--storage", str(folder))
    second = Command(folder, *resume)
    try:
        yield {"start_warm_s": _start(second, reached, rate, left)}
        second.until(reached + 2 * every, left())
        yield {"memory_resumed_gb": second.memory.stop()}
        killed = second.reports()[-1]["env_steps"]
        second.end(signal.SIGKILL)
    finally:
        second.process.kill()
    if left() > 90:
        third = Command(folder, *resume)
        try:
            yield {"start_after_kill_s": _start(third, reached, rate, left)}
            again = third.reports()[third.before]["env_steps"]
            yield {"kill_lost_env_steps": killed + every - again}
            third.end(signal.SIGINT)
        finally:
            third.process.kill()
    if left() > 40 and not small:
        yield {"gate_2": _gate_2(max((folder / "bench").glob("step_*")))}


def _start(command: Command, reached: int, rate: float, left: Callable[[], float]) -> float:
    """Seconds until a resumed run steps: its first report, less the steps that it counts."""
    seconds = command.until(reached + 1, left())
    first = command.reports()[command.before]["env_steps"]
    return seconds - (first - reached) / rate


def _gate_2(checkpoint: Path) -> dict[str, float]:
    """Largest differences of actions; JAX acts on the GPU there, where TF32 would be 1e-3."""
    code = (
        "import json, sys; from pathlib import Path\n"
        "from booster_ray.evaluate.gates.conversion import gate2\n"
        "print(json.dumps(gate2(Path(sys.argv[1])).numbers['max_difference']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(checkpoint)], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    with suppress(ValueError, IndexError):
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found
    return {"failed": float("nan")}


def _planned(config: Path) -> float | None:
    """GB of device memory in the doctor's plan, without a measurement."""
    from booster_ray.config import load
    from booster_ray.deploy.doctor.measure import typical
    from booster_ray.deploy.doctor.memory import plan_memory

    settings = load(config).base()
    plan = plan_memory(settings, typical(settings), gpu=bool(_smi("name")))
    return round((plan.device or plan.host) / 1e3, 2)


def _merged(base: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    sections = {k: {**base[k], **v} if isinstance(base.get(k), dict) else v
                for k, v in other.items()}  # fmt: skip
    return base | sections


# -- physics and learner: in this process ----------------------------------------------------------


def physics(folder: Path, small: bool, left: Callable[[], float]) -> Iterator[dict[str, Any]]:
    """Physics steps/s of the game's worlds, and the process's memory on the GPU."""
    del folder
    from booster_ray.config import load

    settings = load(_written(GAME)).base()
    for worlds in (4,) if small else (1024, 4096, 8192, 16384):
        if left() < 40:
            return
        yield {str(worlds): physics_rate(settings, worlds, 2 if small else 50)}


def physics_rate(settings: Any, worlds: int, length: int) -> dict[str, float]:
    """One number of worlds: rate, seconds to compile, memory."""
    import jax
    import jax.numpy as jnp

    from booster_ray.envs.mjx_world import MjxDynamics

    memory = Memory(os.getpid())
    dynamics = MjxDynamics.from_config(settings, worlds)
    state = dynamics.start(0)
    action = jnp.zeros((worlds, dynamics.action_size))

    def many(state: Any) -> Any:
        def one(state: Any, _: None) -> Any:
            return dynamics.advance(state, action)[0], None

        return jax.lax.scan(one, state, length=length)[0]

    began = time.monotonic()
    step = jax.jit(many, donate_argnums=0)
    state = jax.block_until_ready(step(state))
    compiled = time.monotonic() - began
    rates = []
    for _ in range(3):
        began = time.monotonic()
        state = jax.block_until_ready(step(state))
        rates.append(worlds * length * settings.control.decimation / (time.monotonic() - began))
    return {
        "physics_steps_per_second": round(statistics.median(rates)),
        "compile_s": round(compiled, 1),
        "memory_gb": memory.stop(),
    }


def learner(folder: Path, small: bool, left: Callable[[], float]) -> Iterator[dict[str, Any]]:
    """Updates/s of SAC on batches from its replay on the device."""
    del folder
    from booster_ray.config import load

    sizes = {
        "512 x 2, float32": {"batch_size": 512, "updates_per_step": 2, "actor_hidden": [256, 128],
                             "critic_hidden": [256, 256], "matmul": "float32"},
        "8192 x 8, bfloat16": {},
        "8192 x 8, bfloat16, c51, actor every 4th": {
            "critic": "c51", "q_target": "mean", "actor_every": 4
        },
    }  # fmt: skip
    for name, changed in sizes.items():
        if left() < 30:
            return
        given = _merged(GAME, {"sac": {**changed, "replay_size": 262_144}})
        if small:
            given = _merged(given, {"sac": SMALL["sac"], "world": {"num_envs": 8}})
        settings = load(_written(given)).base()
        yield {name: learner_rates(settings, 3 if small else 40)}


def learner_rates(settings: Any, calls: int) -> dict[str, float]:
    """Updates/s with sampling and without it."""
    import jax
    import jax.numpy as jnp

    from booster_ray.rl.sac.device_replay import DeviceReplay
    from booster_ray.rl.sac.learner import Sac
    from booster_ray.soccer.game import ACTION_SIZE
    from booster_ray.soccer.observation import size

    sac, lanes, action = settings.sac, 1024, ACTION_SIZE
    observation = size(settings.observation.features)
    replay = DeviceReplay(sac.replay_size, (0, 1, 2), min(lanes, sac.replay_size // 3),
                          observation, action, n_step=1)  # fmt: skip
    rings = replay.init()
    rows = jax.random.normal(jax.random.key(0), rings.rows.shape)
    rings = rings._replace(rows=rows, filled=jnp.full(3, sac.replay_size // 3, jnp.int32))
    algorithm = Sac(sac.model_copy(update={"symmetry": "none"}), observation, action)
    shape = sac.updates_per_step, sac.batch_size

    def sampled(state: Any, key: Any) -> Any:
        return algorithm.update(state, replay.sample(rings, key, shape))[0]

    batches = jax.jit(lambda key: replay.sample(rings, key, shape))(jax.random.key(1))
    ways: dict[str, Callable[[Any, Any], Any]] = {
        "updates_per_second": jax.jit(sampled, donate_argnums=0),
        "given_batches_per_second": lambda state, _: algorithm.update(state, batches)[0],
    }
    found = {}
    for name, step in ways.items():
        state = algorithm.init(0)
        state = jax.block_until_ready(step(state, jax.random.key(2)))
        rates = []
        for turn in range(3):
            began = time.monotonic()
            for call in range(calls):
                state = step(state, jax.random.key(turn * calls + call))
            jax.block_until_ready(state)
            rates.append(calls * shape[0] / (time.monotonic() - began))
        found[name] = round(statistics.median(rates), 1)
    return found


# -- the rest --------------------------------------------------------------------------------------


def finetune(folder: Path, small: bool, left: Callable[[], float]) -> Iterator[dict[str, Any]]:
    """DDPG's env steps/s with its networks on the GPU, where there is one."""
    settings = dict(FINETUNE, name="bench", storage=str(folder))
    settings["trainer"] = {"cpus": 8 if _smi("name") else 1}
    if small:
        settings["training"] = {"env_steps": 100_000, "report_every": 64}
    config = folder / "finetune.yaml"
    config.write_text(yaml.safe_dump(settings))
    command = Command(folder, str(config))
    try:
        yield {"start_s": command.until(0, left())}
        command.until(4 * settings["training"]["report_every"], left())
        rates = [r["env_steps_per_second"] for r in command.reports()[2:]]
        yield {"env_steps_per_second": statistics.median(rates)}
        yield {"memory_gb": command.memory.stop()}
        yield {"interrupt_s": command.end(signal.SIGINT)}
    finally:
        command.process.kill()


def sweep(folder: Path, small: bool, left: Callable[[], float]) -> Iterator[dict[str, Any]]:
    """Seconds of two trials, and what share of them was training."""
    settings = _merged(GAME, SMALL) if small else GAME
    every = settings["training"]["report_every"]
    more = {
        "name": "bench",
        "storage": str(folder),
        "training": {"env_steps": 2 * every, "report_every": every},
        "evaluation": {"episodes_per_task": 1, "every": 2 * every},
        "sac": settings["sac"] | {"actor_lr": {"search": "loguniform", "low": 1e-4, "high": 1e-3}},
        "trainer": settings["trainer"] | (UNDER_RAY if _smi("name") else {}),
        "tune": {"trials": SWEEP_TRIALS, "scheduler": "none", "max_concurrent": 1},
    }
    config = folder / "sweep.yaml"
    config.write_text(yaml.safe_dump(settings | more))
    command = [sys.executable, "-m", "booster_ray.tune", str(config)]
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, timeout=left(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
    (folder / "output.txt").write_text(done.stdout)
    seconds = time.monotonic() - began
    lasts = [
        json.loads(path.read_text().splitlines()[-1])
        for path in (folder / "bench").rglob("progress.jsonl")
    ]
    trained = sum(last["env_steps"] / last["env_steps_per_second"] for last in lasts)
    yield {
        "exit_code": done.returncode, "trials": len(lasts), "seconds": round(seconds, 1),
        "training_share": round(trained / seconds, 3),
    }  # fmt: skip


def _written(settings: dict[str, Any]) -> Path:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False) as stream:
        yaml.safe_dump(settings, stream)
    return Path(stream.name)


PARTS: dict[str, Callable[..., Iterator[dict[str, Any]]]] = {
    "run": run,
    "physics": physics,
    "learner": learner,
    "finetune": finetune,
    "sweep": sweep,
}


# -- all of it -------------------------------------------------------------------------------------


def one_part(name: str, found: Path, small: bool, deadline: float, logs: Path | None) -> None:
    """Run a part here, and append each thing that it finds to a file at once."""
    if name in ("physics", "learner"):
        from booster_ray.config import Config
        from booster_ray.runtime.environment import prepare

        prepare(Config(), cpus=len(os.sched_getaffinity(0)), JAX_PLATFORMS="")
    folder = Path(tempfile.mkdtemp(prefix=f"booster_ray-{name}-"))
    try:
        for figures in PARTS[name](folder, small, lambda: max(1.0, deadline - time.time())):
            with found.open("a") as stream:
                stream.write(json.dumps({name: figures}) + "\n")
            print(f"  {name}: {json.dumps(figures)}", flush=True)
    except Exception as error:
        tail = _tail(folder / "output.txt")
        with found.open("a") as stream:
            stream.write(json.dumps({name: {"error": f"{type(error).__name__}: {error}"}}) + "\n")
        print(f"  {name}: {type(error).__name__}: {error}\n{tail}", flush=True)
    finally:
        if logs and (folder / "output.txt").exists():
            logs.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / "output.txt", logs / f"{name}.txt")
        shutil.rmtree(folder, ignore_errors=True)


def _tail(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(errors="replace")[-3000:]
    return ""


@contextmanager
def _found() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp()) / "found.jsonl"
    path.touch()
    yield path
    shutil.rmtree(path.parent, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--parts", default=",".join(PARTS), help="which, in which order")
    parser.add_argument("--minutes", type=float, default=8.0, help="of all parts together")
    parser.add_argument("--small", action="store_true", help="sizes that a CPU plays in minutes")
    parser.add_argument("--history", type=Path, default=HISTORY, help="where the line goes as well")
    parser.add_argument("--logs", type=Path, help="folder for what the commands printed")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--found", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--deadline", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        one_part(args.part, args.found, args.small, args.deadline, args.logs)
        return
    names = args.parts.split(",")
    if unknown := set(names) - PARTS.keys():
        parser.error(f"unknown part {sorted(unknown)[0]!r}; expected some of {', '.join(PARTS)}")

    here, deadline = machine(), time.time() + 60 * args.minutes
    print("  ".join(f"{k} {v}" for k, v in here.items()), flush=True)
    if here["gpu"] == "none" and not args.small:
        print("no GPU here; --small plays tiny sizes on the CPU")
        print(json.dumps({"machine": here, "skipped": "no GPU"}))
        return
    with _found() as found:
        for name in names:
            command = [sys.executable, __file__, "--part", name, "--found", str(found),
                       "--deadline", str(deadline)]  # fmt: skip
            command += ["--small"] if args.small else []
            command += ["--logs", str(args.logs)] if args.logs else []
            subprocess.run(command, check=False)
        figures: dict[str, dict[str, Any]] = {}
        for line in found.read_text().splitlines():
            for name, more in json.loads(line).items():
                figures.setdefault(name, {}).update(more)
    _print(figures)
    line = json.dumps({"machine": here, "small": args.small, **figures})
    with args.history.open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")
    print(line)


def _print(figures: dict[str, dict[str, Any]]) -> None:
    for name, found in figures.items():
        print(f"\n{name}")
        for key, value in found.items():
            shown = f"{value:,.2f}" if isinstance(value, float) else value
            print(f"  {key:42} {shown}")


if __name__ == "__main__":
    main()
