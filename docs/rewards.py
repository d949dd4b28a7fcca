"""Write docs/rewards.md anew from the table of reward terms: python docs/rewards.py"""

from pathlib import Path

from booster_ray.soccer.rewards import TERMS, AddedTerm

HEAD = """\
# Reward terms

The reward of a control step is the sum, in this order, of weight · term · the step's seconds
(`training.reward_weights: per_second`), so that a weight means the same at any
`control.decimation`; events are paid weight · term by the occasion. A standing robot that is paid 1
by the second is worth 0.02 / (1 - discount) at the default control step: 0.7, 1 and 2 at 0.97, 0.98
and 0.99. Up to release 0.1 weights were paid in each step (`per_step`, which is what a run of that
release goes on with): multiply such weights by 50. Weights are the config's `rewards`, where 0
leaves a term out and costs are negative; they may be searched, and scheduled in the `curriculum`.
What a term paid in an episode, weighted and summed, is the metric `reward/TERM`: its mean over the
newest ended episodes, and `reward/TERM/TASK` of one task; of the episodes of an evaluation in the
official game, `evaluation/reward/TERM` and `evaluation/reward/TERM/TASK`. Sources and formulas are
in `booster_ray/soccer/rewards.py`, from which `docs/rewards.py` writes this page.

| term | default weight | what it is |
|---|---|---|
"""


MORE = """
## Added by packages

Terms of other packages (entry points in `booster_ray.rewards`) weigh 0 unless a config says so.

| term | from | what it is |
|---|---|---|
"""


def page() -> str:
    """The text of docs/rewards.md."""
    rows = (
        f"| `{name}` | {term.weight:g}{' (event)' * term.event} | {_cell(term.about)} |"
        for name, term in TERMS.items()
        if not isinstance(term, AddedTerm)
    )
    return HEAD + "\n".join(rows) + "\n" + _added()


def _added() -> str:
    """What packages add that are installed here; nothing, if none does."""
    terms = {name: term for name, term in TERMS.items() if isinstance(term, AddedTerm)}
    rows = (
        f"| `{name}` | {term.source.package} {term.source.version}, `{term.source.place}` | "
        f"{'(event) ' * term.event}{_cell(term.about)} |"
        for name, term in terms.items()
    )
    return MORE + "\n".join(rows) + "\n" if terms else ""


def _cell(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(page(), encoding="utf-8")
