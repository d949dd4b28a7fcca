"""What a model's card says, and what it leaves out."""

from pathlib import Path
from typing import Any

from track.made import SCORES

from booster_ray.config import Config
from booster_ray.policy.contract import contract_of
from booster_ray.policy.model_card import (
    lineage_table,
    score_table,
    summary,
    write_card,
    write_curves,
)
from booster_ray.policy.settings import Settings

FACTS: dict[str, Any] = {
    "run": "walk", "trial": "0007", "stage": "finetune", "env_steps": 1_200_000, "scores": SCORES,
    "parent": "models:/booster_t1/3#abc", "gates": {"2": True, "3": False}, "parameters": 46_348,
    "randomization_level": 2, "observation_size": 100, "action_size": 12, "bytes": 2**20,
    "policy": "f" * 64, "config": "0123456789ab", "booster_ray": "0.1.0",
    "git_commit": "c0ffee0123456789", "created": "2026-11-21T12:00:00Z", "mlflow_run": "run-1",
}  # fmt: skip


def test_scores_stand_by_task_and_the_mean_over_tasks_where_none_is_told() -> None:
    lines = score_table(SCORES).splitlines()
    assert lines[0] == "|  | mean | goalie | obstacle | kick_to_target |"
    assert lines[2] == "| official score | **1.500** | 2.000 | 1.000 | 1.500 |"
    assert lines[3] == "| success rate | **50%** | 50% | – | – |"
    assert lines[4] == "| survival, s | **9.00** | 9.00 | – | – |" and len(lines) == 5
    assert score_table({}) == "Not evaluated."
    assert "**12.000**" in score_table({"score": 12.0, "survival": 3.0})  # not of the game


def test_lineage_names_parent_gates_code_and_runs() -> None:
    told = lineage_table(FACTS)
    for text in ("models:/booster_t1/3#abc", "2 passed, 3 FAILED", "46,348 parameters, 100 → 12",
                 "`0123456789ab`", "`c0ffee0123456`", "mlflow run | run-1"):  # fmt: skip
        assert text in told
    assert "wandb" not in told
    bare = lineage_table({**FACTS, "parent": None, "gates": {}, "git_commit": None})
    assert "none: from scratch" in bare and "not run" in bare and "`unknown`" in bare


def test_the_card_is_whole_and_the_summary_fits_a_registry(tmp_path: Path) -> None:
    write_card(FACTS, Config(), tmp_path / "card.md")
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert text.startswith("# walk trial 0007, finetune, 1,200,000 env steps\n")
    assert "batch_size: 512" in text and "![Curves of the run](curves.png)" in text
    assert "## Contract" not in text
    told = contract_of(Settings(features=("egocentric", "clock", "previous_action")))
    write_card(FACTS, Config(), tmp_path / "card.md", told)
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    for line in (
        "Booster T1, lower body. Acts at 50 Hz; torques every\n2 ms.",
        "| Left_Knee_Pitch | 0.4 | 0.5 | 200 | 5 | 65 |",
        "| joint_vel | 12–23 | rad/s | 1 |",
        "Gait clock: 1.5 Hz. Memory:\n`previous_action` from number 100 on.",
    ):
        assert line in text
    assert len(summary(FACTS)) < 5000  # MLflow's longest description


def test_curves_are_small_and_need_no_reports(tmp_path: Path) -> None:
    write_curves(tmp_path, tmp_path / "none.png")
    rows = "".join(
        f'{{"env_steps": {n}, "score": {n / 10}, "score/goalie": 1.0, "episode_return": {n}}}\n'
        for n in range(50)
    )
    (tmp_path / "progress.jsonl").write_text(rows + '{"env_steps": 5', encoding="utf-8")
    write_curves(tmp_path, tmp_path / "some.png")
    for name in ("none.png", "some.png"):
        data = (tmp_path / name).read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) < 100_000
    assert (tmp_path / "none.png").read_bytes() != (tmp_path / "some.png").read_bytes()
