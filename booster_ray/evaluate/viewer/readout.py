"""What stands in the panel, as HTML: how the match stands, and terms as bars."""

from __future__ import annotations

from html import escape

import numpy as np

from booster_ray.evaluate.viewer.match import Match, Side

FADING = 0.98
"""Of what a whole bar stands for, with each reading: after a peak bars grow again."""


def status(match: Match, error: str = "") -> str:
    """HTML: who plays, for how long, how it stands, and the mean of the episodes so far."""
    rows = []
    for place, side in enumerate(match.sides):
        mean = f"{match.means()[place]:+z.2f} over {len(match.results)}" if match.results else "–"
        end = f", {side.outcome.how}" if side.outcome else ""
        told = f"{side.seconds:.2f} s{end}", f"score <b>{side.score:+z.2f}</b>", f"mean {mean}"
        spans = "".join(f"<span>{text}</span>" for text in told)
        rows.append(
            f"<div><strong>{escape(side.policy.name)}</strong></div>"
            f'<div style="display:flex;justify-content:space-between">{spans}</div>'
        )
    touched = "<div>disturbed: no result</div>" if match.disturbed else ""
    wrong = f'<div style="color:#c0392b">{escape(error)}</div>' if error else ""
    style = "padding:.25em 1em .5em;font-size:.85em;line-height:1.4"
    return f'<div style="{style}">{"".join(rows)}{touched}{wrong}</div>'


def note(text: str) -> str:
    """HTML: a line in small print."""
    return f'<div style="padding:0 1em .5em;font-size:.85em">{escape(text)}</div>'


def terms(side: Side, scales: dict[str, float]) -> str:
    """HTML: the terms of the official score so far, and what each reward term pays now.

    Args:
        side: whose.
        scales: what a whole bar stands for, the largest value of late; it is kept up here.
    """
    paid = {n: v for n, v in side.rewards.items() if side.reward_sums.get(n) or v}
    parts = [_bars("official score, were it to end now", side.terms, scales, "official")]
    if paid:
        parts.append(_bars("reward terms, a control step", paid, scales, "reward"))
    elif not side.policy.weighted:
        parts.append('<div style="opacity:.7">reward weights: not known of this policy</div>')
    return f'<div style="padding:0 1em .5em;font-size:.8em">{"".join(parts)}</div>'


def _bars(title: str, values: dict[str, float], scales: dict[str, float], kind: str) -> str:
    known = [abs(value) for value in values.values() if np.isfinite(value)]
    scales[kind] = max(FADING * scales.get(kind, 0.0), *known, 1e-6)
    rows = [_bar(name, value, scales[kind]) for name, value in values.items()]
    return f'<div style="opacity:.7;margin-top:.4em">{escape(title)}</div>{"".join(rows)}'


def _bar(name: str, value: float, scale: float) -> str:
    """A name, a bar to the right or, where the value is below zero, to the left, and the value."""
    share = 50 * min(1.0, abs(value) / scale) if np.isfinite(value) else 0.0
    left, color = (50 - share, "#e76f51") if value < 0 else (50, "#2a9d8f")
    place = f"left:{left:.1f}%;width:{share:.1f}%;background:{color}"
    return (
        '<div style="display:flex;gap:.5em;align-items:center">'
        f'<span style="flex:0 0 10em;overflow:hidden">{escape(name)}</span>'
        '<span style="flex:1;position:relative;height:.7em;background:rgba(128,128,128,.15)">'
        f'<span style="position:absolute;top:0;bottom:0;{place}"></span></span>'
        f'<span style="flex:0 0 4em;text-align:right">{value:+z.3f}</span></div>'
    )
