"""A model's card: what it scores and asks of a player, where it comes from, how it was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from booster_ray.config import Config
from booster_ray.soccer.game import TASKS
from booster_ray.store.files import read_progress

ROWS = (
    ("score", "official score", "{:.3f}"),
    ("success", "success rate", "{:.0%}"),
    ("survival", "survival, s", "{:.2f}"),
    ("fall_rate", "fall rate", "{:.0%}"),
    ("touched", "touches the ball", "{:.0%}"),
)
"""Metric, its name, its format."""

PANELS = (
    ("score", "official score"),
    ("survival", "survival, s"),
    ("episode_return", "return in training"),
)
"""Drawn over env steps; a metric with tasks has a line for each."""

BLANK = "–"


def write_card(
    facts: Mapping[str, Any],
    config: Config,
    file: Path,
    contract: Mapping[str, Any] | None = None,
) -> None:
    """Markdown: scores, lineage, curves (``curves.png`` beside it), contract and config."""
    text = f"""# {facts["run"]}{_of(facts)}, {facts["stage"]}, {facts["env_steps"]:,} env steps

{score_table(facts["scores"])}

{lineage_table(facts)}

![Curves of the run](curves.png)

{contract_text(contract) if contract else ""}## Config

```yaml
{config.to_yaml().rstrip()}
```
"""
    file.write_text(text, encoding="utf-8")


def summary(facts: Mapping[str, Any]) -> str:
    """Scores and lineage as Markdown, short enough for a registry's description."""
    return f"{score_table(facts['scores'])}\n\n{lineage_table(facts)}\n"


def score_table(scores: Mapping[str, float]) -> str:
    """The evaluation that the model was chosen by: a row a metric, a column a task."""
    tasks = [task for task in TASKS if f"score/{task}" in scores]
    rows = []
    for metric, name, form in ROWS:
        known = {task: scores[f"{metric}/{task}"] for task in tasks if f"{metric}/{task}" in scores}
        mean = scores.get(metric, sum(known.values()) / len(known) if known else None)
        if mean is None:
            continue
        cells = [form.format(known[task]) if task in known else BLANK for task in tasks]
        rows.append([name, f"**{form.format(mean)}**", *cells])
    if not rows:
        return "Not evaluated."
    return _table(["", "mean", *tasks], rows)


def lineage_table(facts: Mapping[str, Any]) -> str:
    """Where the model comes from."""
    gates = facts["gates"]
    verdicts = ", ".join(f"{n} {'passed' if ok else 'FAILED'}" for n, ok in gates.items())
    rows = [
        ["parent", facts["parent"] or "none: from scratch"],
        ["gates", verdicts or "not run"],
        ["randomization level", facts["randomization_level"]],
        ["policy", f"{facts['parameters']:,} parameters, {facts['observation_size']} → "
                   f"{facts['action_size']}, {facts['bytes'] / 1024:,.0f} KiB"],
        ["checkpoint", f"`{facts['policy'][:12]}`"],
        ["config", f"`{facts['config']}`"],
        ["code", f"booster_ray {facts['booster_ray']}, commit "
                 f"`{(facts['git_commit'] or 'unknown')[:13]}`"],
        ["created", facts["created"]],
    ]  # fmt: skip
    rows += [[key.replace("_", " "), facts[key]] for key in ("mlflow_run", "wandb_run")
             if facts.get(key)]  # fmt: skip
    return _table(["lineage", ""], rows)


def contract_text(contract: Mapping[str, Any]) -> str:
    """What the policy sees, and what its actions do: :mod:`booster_ray.policy.contract`."""
    seen = [
        [part["name"], _span(part), _each(part["unit"]), _each(part["scale"])]
        for part in contract["observation"]
    ]
    columns = ("default_pose", "action_scale", "kp", "kd", "torque_limit")
    joints = [
        [name, *(f"{contract[key][i]:g}" for key in columns)]
        for i, name in enumerate(contract["joint_names"])
    ]
    law = {
        "pd": "Torque = kp (default pose + action scale · action - q) - kd q̇, within its limit.",
        "torque": "Torque = limit · action.",
    }[contract["control_mode"]]
    clock, memory = contract["clock"], contract["memory"]
    remembered = [f"`{n}` from number {p['start']} on" for n, p in (memory or {}).items()]
    return f"""## Contract

{contract["robot"]}. Acts at {contract["control_rate"]:g} Hz; torques every
{contract["physics_timestep"] * 1000:g} ms. {law}

{_table(["joint", "default pose, rad", "action scale, rad", "kp", "kd", "limit, N·m"], joints)}

Gait clock: {f"{clock['frequency']:g} Hz" if clock else "none"}. Memory:
{", ".join(remembered) or "none"}. The network normalizes by itself what it sees:

{_table(["part", "numbers", "unit", "scale"], seen)}

"""


def _span(part: Mapping[str, Any]) -> str:
    return f"{part['start']}–{part['start'] + part['size'] - 1}"


def _each(values: Any) -> str:
    """One value, or one for each number."""
    several = values if isinstance(values, list) else [values]
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in several)


def write_curves(run: Path, file: Path) -> None:
    """A small PNG of a run's scores, survival and return over env steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    history = read_progress(run)
    # Not pyplot, whose state belongs to the process.
    figure = Figure(figsize=(10, 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (metric, title) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
        for name, label in [(metric, "mean"), *((f"{metric}/{task}", task) for task in TASKS)]:
            points = [(m["env_steps"], m[name]) for m in history if name in m]
            if points:
                axes.plot(*zip(*points, strict=True), label=label, linewidth=1, marker=".")
        if len(axes.lines) > 1:
            axes.legend(fontsize=6)
        axes.set_xlabel("env steps", fontsize=7)
    figure.savefig(file, dpi=90)


def _of(facts: Mapping[str, Any]) -> str:
    return f" trial {facts['trial']}" if facts.get("trial") else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
