"""What gates said is kept with the checkpoint that they said it of."""

from pathlib import Path

from booster_ray.store.files import GATES
from booster_ray.store.gate_results import GateResult, label, read, recorded, store, stored
from policies import save_checkpoint, tiny_config


def verdict(gate: int, passed: bool) -> GateResult:
    return GateResult(gate, "some", passed, {"x": 1.5}, [], [])


def test_gates_add_up_on_one_checkpoint(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "best_1", tiny_config())
    assert read(tmp_path) is None and label(tmp_path) is None and stored(tmp_path, path, 2) is None
    store(tmp_path, path, [verdict(2, True)])
    told = store(tmp_path, path, [verdict(3, True)])
    assert told == read(tmp_path) and set(told["gates"]) == {"2", "3"} and told["passed"]
    assert label(tmp_path) == "pass 2, 3" and stored(tmp_path, path, 2) is True
    told = store(tmp_path, path, [verdict(3, False)])
    assert not told["passed"] and label(tmp_path) == "fail 3"


def test_another_checkpoint_begins_anew(tmp_path: Path) -> None:
    old = save_checkpoint(tmp_path / "best_1", tiny_config())
    store(tmp_path, old, [verdict(2, True)])
    new = save_checkpoint(tmp_path / "best_2", tiny_config(actor_hidden=[8]))
    assert stored(tmp_path, new, 2) is None
    told = store(tmp_path, new, [verdict(3, True)])
    assert set(told["gates"]) == {"3"} and told["checkpoint"] == "best_2"


def test_a_file_cut_short_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / GATES).write_text('{"digest": "ab')
    assert read(tmp_path) is None and label(tmp_path) is None
    (tmp_path / GATES).write_text("[]")
    assert read(tmp_path) is None


def test_a_verdict_is_believed_under_its_own_key_alone(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "best_1", tiny_config())
    key = {"code": "a", "episodes": 32, "settings": {"kp": (1.0, 2.0)}}
    store(tmp_path, path, [verdict(2, True)._replace(key=key)])
    assert stored(tmp_path, path, 2, key) is True and stored(tmp_path, path, 2) is True
    for name, other in (("code", "b"), ("episodes", 10), ("settings", {"kp": (1.0, 2.5)})):
        assert stored(tmp_path, path, 2, key | {name: other}) is None
    store(tmp_path, path, [verdict(3, True)._replace(passed=None)])
    assert stored(tmp_path, path, 3) is None and label(tmp_path) == "unknown 3"
    found = recorded(tmp_path, path, 3)
    assert found is not None and found["passed"] is None
    assert recorded(tmp_path, path, 3, key) is None and recorded(tmp_path, path, 1) is None
