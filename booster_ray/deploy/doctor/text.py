"""The doctor's findings and plans as text."""

from __future__ import annotations

from collections.abc import Iterator

from booster_ray.deploy.doctor.cost import Cost, Fit
from booster_ray.deploy.doctor.findings import Finding
from booster_ray.deploy.doctor.memory import MemoryPlan
from booster_ray.tune.live import duration


def finding_lines(findings: list[Finding]) -> Iterator[str]:
    """A line for each finding, with what to do where something is to be done."""
    for one in findings:
        fix = f"\n{'':15}→ {one.fix}" if one.fix else ""
        yield f"{one.verdict:4}  {one.check:9}{one.text}{fix}"


def memory_lines(plan: MemoryPlan, how_known: str) -> Iterator[str]:
    """The parts of one trial's memory, and their sums."""
    on_gpu = plan.device > 0
    yield f"Memory of one trial, MB ({how_known})"
    yield f"  {'':14}{'host':>9}{'GPU':>9}" if on_gpu else f"  {'':14}{'host':>9}"
    for part in plan.parts:
        yield f"  {part.name:14}{_row(part.host, part.device, on_gpu)}  {part.how}"
    yield f"  {'sum':14}{_row(plan.host, plan.device, on_gpu)}"
    if plan.resume:
        yield f"  Resumed, its first worker reads the replays of all: {plan.resume:,.0f} MB more."


def _row(host: float, device: float, on_gpu: bool) -> str:
    return f"{host:9,.0f}{device:9,.0f}" if on_gpu else f"{host:9,.0f}"


def storage_line(each: float, whole: float, trials: int, at_once: int) -> str:
    """What checkpoints take of the storage: of a trial while it trains, and of the sweep, in MB."""
    return (
        f"Storage: {each / 1000:.3g} GB of checkpoints a trial while it trains, at most "
        f"{whole / 1000:.3g} GB for {trials} trials, {at_once} at once"
    )


def fit_line(name: str, fit: Fit) -> str:
    """Whether the plan fits one machine."""
    if fit.problem:
        return f"  {name}: does not fit: {fit.problem}; {fit.fix}"
    gpu = f", GPU {fit.device:.1f} of {fit.device_limit:.1f} GB" if fit.device_limit else ""
    host = f"host {fit.host:.1f} of {fit.host_limit:.1f} GB"
    return f"  {name}: fits, {fit.at_once} trials at once: {host}{gpu}"


def cost_lines(costs: list[Cost], currency: str) -> Iterator[str]:
    """Time and money of a sweep, a line for each machine."""
    yield f"Time and cost of the sweep, if no trial is stopped early ({currency}, prices.yaml)"
    for one in costs:
        hours = duration(one.machine_hours * 3600)
        yield (
            f"  {one.machine}: {hours} of one machine, {one.trial_hours:.3g} trial-hours at "
            f"{one.rate:,.0f} env steps/s ({one.rate_from})"
        )
        price = [f"on demand {_money(one.on_demand)}"]
        price.append(
            f"preemptible {_money(one.preemptible)} in {duration(one.preemptible_hours * 3600)}"
        )
        yield f"  {'':{len(one.machine)}}  {', '.join(price)}"


def _money(amount: float | None) -> str:
    return "unknown" if amount is None else f"{amount:,.2f}"
