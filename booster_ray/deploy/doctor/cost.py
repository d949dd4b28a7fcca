"""Whether a sweep fits a machine, how long it takes there, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from booster_ray.config import Config
from booster_ray.deploy.doctor.machines import Machine, Prices
from booster_ray.deploy.doctor.memory import RAY, TRACKERS, MemoryPlan
from booster_ray.runtime.memory import HEADROOM
from booster_ray.tune.plan import Plan

GB_PER_MB = 1e-3


@dataclass(frozen=True)
class Fit:
    """A memory plan on a machine, in GB."""

    at_once: int
    """Trials that its cores and GPUs hold."""
    host: float
    """All of them, resumed, with Ray and the trackers."""
    host_limit: float
    device: float
    """Of the trials that share a GPU; 0: none is used."""
    device_limit: float
    problem: str
    """Why it does not fit; empty: it does."""
    fix: str = ""


def fit(config: Config, plan: MemoryPlan, machine: Machine, trials: int) -> Fit:
    """Whether as many trials as the machine's cores and GPUs hold find their memory."""
    once = slots(config, machine)
    most = min(config.tune.max_concurrent or once, once, trials)
    each = max(1, config.trainer.workers)
    beside = RAY + (TRACKERS if config.tracking.listeners else 0.0)
    host = GB_PER_MB * (most * each * (plan.host + plan.resume) + beside)
    limit = HEADROOM * machine.memory_gb
    device, device_limit = _device(config, plan, machine, most)
    problem, fix = "", ""
    if most < 1:
        problem = "a trial wants more cores or GPUs than it has"
        fix = "lower trainer.cpus, or choose another machine"
    elif plan.device and not machine.gpus:
        problem, fix = "it has no GPU", "choose another machine, or world.kind=native"
    elif device > device_limit:
        problem = f"GPU memory: {device:.1f} GB of {device_limit:.1f} GB"
        fix = "lower sac.replay_size, world.num_envs or sac.batch_size"
    elif host > limit:
        problem = f"host memory: {host:.1f} GB of {limit:.1f} GB for {most} trials at once"
        fix = "lower tune.max_concurrent, the replay_size or checkpoint.every_env_steps"
    return Fit(most, host, limit, device, device_limit, problem, fix)


def slots(config: Config, machine: Machine) -> int:
    """Trials that a machine's cores and GPUs hold."""
    workers = max(1, config.trainer.workers)
    fitting = machine.cpus // (config.trainer.cpus * workers)
    if gpus := config.gpus():
        fitting = min(fitting, int(machine.gpus / (gpus * workers)))
    return fitting


def _device(config: Config, plan: MemoryPlan, machine: Machine, trials: int) -> tuple[float, float]:
    """GB that trials take of one GPU, and GB that they may take."""
    if not plan.device or not machine.gpus or machine.gpu_memory_gb is None:
        return GB_PER_MB * plan.device, 0.0
    share = config.trainer.gpu_fraction if config.trainer.use_gpu else 1.0
    sharing = max(1, min(trials, int(1 / share)))
    if plan.jax_on_device:  # each process has its part of the GPU, and no more
        return GB_PER_MB * plan.device, config.runtime.mem_fraction * share * machine.gpu_memory_gb
    return sharing * GB_PER_MB * plan.device, HEADROOM * machine.gpu_memory_gb


# -- time and money --------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """Of what is left of a sweep, on machines of one kind."""

    machine: str
    rate: float
    """Env steps/s of one trial."""
    rate_from: str
    trials_per_machine: int
    trial_hours: float
    machine_hours: float
    """Paid for, of all machines together."""
    preemptible_hours: float
    """The same with what preemptions cost in time."""
    on_demand: float | None
    preemptible: float | None
    """In the table's currency; None: no price is known."""


def cost(
    planned: Plan, name: str, machine: Machine, prices: Prices, fits: Fit, rate: float | None
) -> Cost:
    """What a sweep takes on machines that hold ``fits.at_once`` of its trials each.

    Args:
        planned: what is left of it, with its rate here.
        name: of the machine.
        machine: where it would run.
        prices: the table that it is from.
        fits: its memory there.
        rate: env steps/s of one trial as the user says; None: as ``planned`` or the table says.
    """
    planned = _with_rate(planned, machine, rate)
    hours = planned.trial_hours / max(1, fits.at_once)
    # Half a checkpoint interval is made again, on average, each time.
    again = 0.5 * planned.config.checkpoint.every_env_steps / planned.rate / 3600
    minutes = planned.config.checkpoint.every_minutes
    again = min(again, 0.5 * minutes / 60) if minutes else again
    lost = prices.preemptions_per_hour * (prices.minutes_per_preemption / 60 + again)
    longer = hours * (1 + lost)
    return Cost(
        machine=name,
        rate=planned.rate,
        rate_from=planned.rate_from,
        trials_per_machine=fits.at_once,
        trial_hours=planned.trial_hours,
        machine_hours=hours,
        preemptible_hours=longer,
        on_demand=None if machine.on_demand is None else machine.on_demand * hours,
        preemptible=None if machine.preemptible is None else machine.preemptible * longer,
    )


def _with_rate(planned: Plan, machine: Machine, rate: float | None) -> Plan:
    if rate is not None:
        return replace(planned, rate=rate, rate_from="as told with --rate")
    if not planned.rate_from.startswith("assumed"):
        return planned
    if planned.config.world.on_device and machine.mjx_rate:
        text = "assumed: mjx_rate of the price table; measure with booster_ray.train, or --rate"
        return replace(planned, rate=machine.mjx_rate, rate_from=text)
    return planned
