"""``python -m booster_ray.doctor [CONFIG]``: this machine, and what a config takes."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from booster_ray.config import Config, ConfigError, Sweep, load
from booster_ray.deploy.doctor import machines, text
from booster_ray.deploy.doctor.findings import Check, Finding, run_checks
from booster_ray.deploy.doctor.machines import Machine, Prices

DESCRIPTION = """Check this machine: versions, devices, rendering, trackers, storage, Ray, clock and
disk. With a config, also plan its memory, and the time and cost of its sweep. Nothing is started,
and nothing is left behind, but with --compile the programs of the config's runs. Exit code: 0 all
well (perhaps with warnings), 1 a check failed, 2 bad input."""

THIS = "this machine"
QUICK = (
    Check("versions", "booster_ray.deploy.doctor.versions:check", 60, "python -m pip check"),
    Check(
        "devices",
        "booster_ray.deploy.doctor.devices:check",
        180,
        "nvidia-smi, and JAX_PLATFORMS=cpu",
    ),
    Check(
        "render", "booster_ray.deploy.doctor.render:check", 150, "set runtime.mujoco_gl=disabled"
    ),
    Check("trackers", "booster_ray.deploy.doctor.services:trackers", 60, "set them offline"),
    Check(
        "storage", "booster_ray.deploy.doctor.storage:check", 120, "a mount that hangs: df, mount"
    ),
    Check("disk", "booster_ray.deploy.doctor.storage:disk", 60, "a mount that hangs: df, mount"),
    Check("ray", "booster_ray.deploy.doctor.services:ray", 60, "unset RAY_ADDRESS"),
)
SMOKE = (
    Check(
        "mjx",
        "booster_ray.deploy.doctor.devices:mjx_smoke",
        600,
        "nvidia-smi, and JAX_PLATFORMS=cpu",
    ),
    Check("torch", "booster_ray.deploy.doctor.devices:torch_smoke", 300, "CUDA_VISIBLE_DEVICES=''"),
)
MEMORY = Check(
    "memory", "booster_ray.deploy.doctor.measure:check", 900, "--quick plans without measuring"
)


COMPILE = Check(
    "compile",
    "booster_ray.deploy.doctor.compiling:check",
    3600,
    "python -m booster_ray.doctor CONFIG, without --compile",
)


def main(argv: list[str]) -> int:
    """Check and plan; exit code 0 or 1."""
    args = _parser().parse_intermixed_args(argv)
    if args.compile:
        return _compile(args)
    prices = machines.read_prices(args.prices)
    machine = machines.find(prices, args.machine) if args.machine else None
    sweep = load(args.config, args.overrides) if args.config else None
    config = sweep.base() if sweep else Config()
    checks = [*QUICK, *(() if args.quick else SMOKE)]
    measured = sweep is not None and not args.quick
    here = _without_gpu(config) if machine else config
    findings = run_checks([*checks, *((MEMORY,) if measured else ())], here, environment(config))
    plan = _planned(sweep, findings, args, prices, machine) if sweep else {}
    findings += plan.pop("findings", [])
    lines = plan.pop("lines", [])
    failed = any(one.verdict == "fail" for one in findings)
    if args.json:
        found = [asdict(one) for one in findings]
        print(json.dumps({"ok": not failed, "findings": found, **plan}, indent=2))
    else:
        for line in [*text.finding_lines(findings), *lines]:
            print(line)
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m booster_ray.doctor", description=DESCRIPTION)
    p.add_argument("config", nargs="?", help="YAML file or preset name, for example demo")
    p.add_argument("overrides", nargs="*", metavar="key=value", help="replace a setting")
    p.add_argument(
        "--quick", action="store_true",
        help="no smoke tests, and memory from earlier measurements",
    )  # fmt: skip
    p.add_argument(
        "--compile", action="store_true",
        help="only fill runtime.compilation_cache with what CONFIG's runs compile",
    )  # fmt: skip
    p.add_argument("--json", action="store_true", help="for machines")
    p.add_argument("--machine", metavar="NAME", help="plan for a machine of the price table")
    p.add_argument("--prices", metavar="FILE", type=Path, default=machines.PRICES)
    p.add_argument("--rate", type=float, metavar="N", help="env steps/s of one trial, if you know")
    return p


def _compile(args: Any) -> int:
    """Fill the caches for a config; exit code 0 or 1.

    Raises:
        ConfigError: no config was named, or it wants no cache.
    """
    if not args.config:
        raise ConfigError("command line", "--compile", "has no config, expected one before it")
    config = load(args.config, args.overrides).base()
    if config.runtime.compilation_cache is None:
        where = "runtime.compilation_cache"
        raise ConfigError(args.config, where, "is null, expected a folder to compile into")
    from booster_ray.runtime.environment import process_environment

    found = run_checks([COMPILE], config, process_environment(config, config.trainer.cpus))
    if args.json:
        ok = found[0].verdict == "ok"
        print(json.dumps({"ok": ok, "findings": [asdict(one) for one in found]}, indent=2))
    else:
        print(*text.finding_lines(found), sep="\n")
    return int(found[0].verdict == "fail")


def _without_gpu(config: Config) -> Config:
    """What is asked of this machine when the GPU is another's."""
    trainer = config.trainer.model_copy(update={"use_gpu": False})
    return config.model_copy(update={"trainer": trainer})


def environment(config: Config) -> dict[str, str]:
    """What the runs of a config have in their environment, for the checks' processes."""
    from booster_ray.runtime.environment import process_environment

    found = process_environment(config, config.trainer.cpus)
    found.pop("JAX_COMPILATION_CACHE_DIR", None)  # checks leave nothing behind
    return found


def _planned(
    sweep: Sweep, findings: list[Finding], args: Any, prices: Prices, machine: Machine | None
) -> dict[str, Any]:
    """Memory, fit and cost of a sweep, as text and as data."""
    from booster_ray.deploy.doctor.cost import cost, fit
    from booster_ray.deploy.doctor.measure import as_measured, typical
    from booster_ray.deploy.doctor.memory import checkpoint_mb, heaviest, plan_memory, sweep_mb
    from booster_ray.tune.plan import plan

    found = [one for one in findings if one.check == "memory" and one.details]
    measured = as_measured(found[0]) if found else typical(sweep.base())
    here = machines.this_machine(_gpus(findings))
    targets = {args.machine: machine} if machine else {THIS: here, **prices.machines}
    expected = plan(sweep, None)
    lines: list[str] = []
    data: dict[str, Any] = {"memory": [], "cost": []}
    fits, costs, seen = [], [], set()
    for name, target in targets.items():
        gpu = target.gpus > 0
        config = heaviest(sweep, measured, gpu)
        memory = plan_memory(config, measured, gpu)
        fitting = fit(config, memory, target, expected.trials)
        fits.append((name, fitting))
        data["memory"].append({"machine": name, "plan": asdict(memory), "fit": asdict(fitting)})
        if memory.parts not in seen:
            seen.add(memory.parts)
            lines += text.memory_lines(memory, "measured here" if found else "typical numbers")
        if not fitting.problem:
            costs.append(cost(expected, name, target, prices, fitting, args.rate))
    lines += ["Machines", *(text.fit_line(*one) for one in fits)]
    config, trials = heaviest(sweep, measured, gpu=False), expected.trials
    once = max(1, *(fitting.at_once for name, fitting in fits if name == (args.machine or THIS)))
    stored = sweep_mb(config, measured, trials, once)
    lines.append(text.storage_line(checkpoint_mb(config, measured), stored, trials, once))
    lines += text.cost_lines(costs, prices.currency) if costs else []
    data |= {"cost": [asdict(one) for one in costs], "storage_mb": stored}
    room = _room(findings, stored)
    found = [*_verdicts(fits, args.machine or THIS), *(() if machine else room)]
    return {**data, "lines": lines, "findings": found}


def _gpus(findings: list[Finding]) -> list[float]:
    """GB of each GPU here, from the check of devices."""
    found = [one for one in findings if one.check == "devices" and "gpu_gb" in one.details]
    return found[0].details["gpu_gb"] if found else []


def _room(findings: list[Finding], needed: float) -> list[Finding]:
    """A warning where the disk is smaller than what the sweep keeps, in MB."""
    free = [one.details["free_bytes"] / 1e6 for one in findings if "free_bytes" in one.details]
    if not free or needed < free[0]:
        return []
    text = (
        f"the sweep keeps {needed / 1000:.0f} GB of checkpoints, {free[0] / 1000:.0f} GB are free"
    )
    fix = "choose remote storage, or a smaller replay_size (sac, ddpg)"
    return [Finding("disk", "warn", text, fix)]


def _verdicts(fits: list[tuple[str, Any]], wanted: str) -> list[Finding]:
    """What does not fit the machine that was asked about is a failure; elsewhere it is no news."""
    return [
        Finding("memory", "fail", f"{name}: {one.problem}", one.fix)
        for name, one in fits
        if name == wanted and one.problem
    ]
