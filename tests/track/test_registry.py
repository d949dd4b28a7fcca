"""Versions in a real MLflow registry (SQLite): made, found, promoted, and who may be champion."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from track.made import SCORES, judge, run_folder, variant

from booster_ray.config import Config
from booster_ray.policy.model import pack
from booster_ray.store import gate_results
from booster_ray.store.checkpoint import CheckpointError
from booster_ray.store.files import GATES
from booster_ray.store.model_folder import CHECKPOINT, MODEL, checksum, verify
from booster_ray.track.fetch import fetch
from booster_ray.track.registry import (
    Reference,
    RegistryError,
    Version,
    check_gate,
    find,
    parse,
    previous,
    promote,
    rollback,
)
from booster_ray.track.registry_mlflow import MlflowRegistry, without_login
from booster_ray.track.versions import BEST, CHAMPION, LATEST
from booster_ray.train.publish import arrange, register

Add = Callable[..., Version]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folder(tmp_path_factory.mktemp("runs") / "learner")


@pytest.fixture(scope="module")
def packed(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    judge(run, run / "best_000000000400", gate_3=True)
    folder = tmp_path_factory.mktemp("models") / "packed"
    pack(run / "best_000000000400", run, folder, {"trial": "0003"})
    return folder


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> MlflowRegistry:
    database = shutil.copy(empty_mlflow, tmp_path_factory.mktemp("mlflow"))
    return MlflowRegistry(f"sqlite:///{database}")


@pytest.fixture
def add(registry: MlflowRegistry, packed: Path, tmp_path: Path) -> Add:
    """Keeps one more version of a model, with other facts."""

    def more(name: str, **facts: Any) -> Version:
        number = max((v.number for v in registry.versions(name)), default=0) + 1
        folder, about = variant(packed, tmp_path / f"{name}-{number}", **facts)
        assert registry.add(name, folder, about) == number
        return find(registry, Reference("models", name, number))

    return more


# -- a packed model --------------------------------------------------------------------------


def test_a_packed_model_tells_where_it_comes_from(packed: Path, run: Path) -> None:
    facts = verify(packed, checksum(packed))
    assert facts["scores"] == SCORES and facts["env_steps"] == 400 and facts["stage"] == "pretrain"
    assert facts["run"] == "learner" and facts["trial"] == "0003" and facts["parent"] is None
    # Input 89, one hidden layer of 16 with LayerNorm, 12 outputs; as torch counts them.
    assert facts["parameters"] == 89 * 16 + 16 + 2 * 16 + 16 * 12 + 12
    assert facts["gates"] == {"2": True, "3": True} and facts["randomization_level"] == 0
    assert facts["policy"] == gate_results.digest(run / "best_000000000400")
    assert len(facts["config"]) == 12 and facts["bytes"] > 1000
    card = (packed / "card.md").read_text(encoding="utf-8")
    for told in ("learner trial 0003", "official score", "**1.500**", "2 passed, 3 passed",
                 "none: from scratch", "curves.png", "actor_hidden:"):  # fmt: skip
        assert told in card
    assert (packed / "curves.png").read_bytes()[:4] == b"\x89PNG"
    left, kept = run / "best_000000000400/arrays.bin", packed / CHECKPOINT / "arrays.bin"
    assert left.read_bytes() == kept.read_bytes()
    # Nothing that could be unpickled.
    assert {p.suffix for p in packed.rglob("*") if p.is_file()} == {
        ".json", ".bin", ".md", ".png", ".yaml", ".onnx"
    }  # fmt: skip


def test_a_verdict_of_another_checkpoint_is_left_behind(tmp_path: Path, packed: Path) -> None:
    run = run_folder(tmp_path / "other", seed=5)
    shutil.copy(packed / GATES, run / GATES)
    facts = pack(run / "best_000000000400", run, tmp_path / "packed")
    assert facts["gates"] == {} and not (tmp_path / "packed" / GATES).exists()


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "more", "facts", "format"])
def test_every_damage_is_found(packed: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(packed, folder)
    sha256, file = checksum(folder), folder / CHECKPOINT / "arrays.bin"
    said = {"flip": "arrays.bin: checksum", "cut": "arrays.bin: checksum", "missing": "missing",
            "more": "extra.txt: not of the model", "facts": "model.json: checksum",
            "format": "model.json: format"}  # fmt: skip
    if damage == "flip":
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "missing":
        file.unlink()
    elif damage == "more":
        (folder / "extra.txt").touch()
    else:
        told = json.loads((folder / MODEL).read_text())
        if damage == "facts":
            told["about"]["scores"]["score"] = 9.9
        else:
            told["format"] = "booster_ray-model/9"
        (folder / MODEL).write_text(json.dumps(told))
        sha256 = checksum(folder) if damage == "format" else sha256
    with pytest.raises(CheckpointError, match=said[damage]) as caught:
        verify(folder, sha256)
    assert "\n" not in str(caught.value)


# -- MLflow ----------------------------------------------------------------------------------


def test_mlflow_itself_can_load_a_version(registry: MlflowRegistry, add: Add) -> None:
    """With signature and input example, and the actions that our own policy takes."""
    import mlflow.pyfunc
    from mlflow import MlflowClient

    from booster_ray.evaluate.target import checkpoint_actor
    from booster_ray.policy.actor_files import torch_policy

    version = add("loaded")
    client = MlflowClient(registry._tracking, registry._registry)
    uri = client.get_model_version_download_uri("loaded", str(version.number))
    model = mlflow.pyfunc.load_model(uri)
    (seen,), (acted,) = model.metadata.signature.inputs, model.metadata.signature.outputs
    assert (seen.name, seen.shape, acted.name, acted.shape) == (
        "observation", (-1, 89), "action", (-1, 12)
    )  # fmt: skip
    example = model.input_example
    assert example["observation"].shape == (1, 89)
    batch = np.random.default_rng(0).standard_normal((7, 89)).astype(np.float32)
    actions = model.predict({"observation": batch})["action"]
    ours = torch_policy(checkpoint_actor(Path(uri) / "booster_ray" / CHECKPOINT).module)(batch)
    np.testing.assert_allclose(actions, ours, atol=1e-5)
    assert np.abs(ours).max() > 0.05
    told = client.get_model_version("loaded", str(version.number))
    assert "official score" in told.description and told.tags["gate_3"] == "passed"
    logged = client.get_logged_model(told.tags["logged_model"])
    assert logged.source_run_id == told.run_id


def test_a_version_belongs_to_the_run_that_was_tracked(registry: MlflowRegistry, add: Add) -> None:
    client = registry._client
    run = client.create_run(client.create_experiment("tracked")).info.run_id
    version = add("of-a-run", mlflow_run=run)
    assert client.get_model_version("of-a-run", str(version.number)).run_id == run


def test_versions_are_found_by_number_and_alias(registry: MlflowRegistry, add: Add) -> None:
    first, second = add("found"), add("found", env_steps=800)
    registry.set_alias(first, BEST)
    registry.set_alias(second, LATEST)  # is so by itself: MLflow would refuse the name
    assert [v.number for v in registry.versions("found")] == [2, 1]
    assert find(registry, parse("models:/found@best")).number == 1
    assert find(registry, parse("models:/found@latest")).number == 2
    assert find(registry, parse("models:/found/2")).aliases == (LATEST,)
    assert second.tags["env_steps"] == "800" and second.scores == SCORES
    assert "found" in registry.names() and registry.versions("nowhere") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models:/lost@best", r"lost has no alias 'best' in sqlite:.*it has latest"),
        ("models:/lost@champoin", "no alias 'champoin'.*did you mean 'champion'"),
        ("models:/lost/7", r"no version 7 of lost in sqlite:.*newest are 1"),
        ("models:/lots@best", r"no model 'lots' in sqlite:.*did you mean 'lost'\?"),
    ],
)
def test_what_is_not_there_is_one_line(
    registry: MlflowRegistry, add: Add, text: str, said: str
) -> None:
    if not registry.versions("lost"):
        add("lost")
    with pytest.raises(RegistryError, match=said) as caught:
        find(registry, parse(text, "start_from"), "start_from")
    assert str(caught.value).startswith("start_from: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["models:/x", "models:x@best", "models:/x@", "models:/x/-1", "wandb:x:best", "wandb:a/b/c",
     "wandb:a/b/c@best", "models:/x@best#xyz", "models:/a/b/1", "nonsense"],
)  # fmt: skip
def test_references_of_no_known_form_are_refused(text: str) -> None:
    with pytest.raises(RegistryError, match="expected"):
        parse(text)


@pytest.mark.parametrize(
    "text",
    ["models:/booster_soccer.rl_models.t1@champion", "models:/x/12#0123456789ab",
     "wandb:me/soccer/t1:best", "wandb:me/soccer/t1:v0#0123456789abcdef"],
)  # fmt: skip
def test_references_read_as_they_are_written(text: str) -> None:
    assert str(parse(text)) == text


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    absent = MlflowRegistry(f"sqlite:///{tmp_path}/none.db")
    assert absent.names() == [] and absent.versions("x") == []
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there_is_one_line_without_its_login(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = MlflowRegistry("http://someone:secret-word@127.0.0.1:9")
    assert away.where == "http://127.0.0.1:9"
    with pytest.raises(RegistryError, match=r"^http://127.0.0.1:9: ") as caught:
        away.versions("x")
    assert "\n" not in str(caught.value) and "secret-word" not in str(caught.value)
    assert without_login("sqlite:////a@b/c.db") == "sqlite:////a@b/c.db"


# -- fetched ---------------------------------------------------------------------------------


def test_what_is_fetched_is_verified_and_cached(
    registry: MlflowRegistry, add: Add, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, cache = add("fetched"), tmp_path / "cache"
    folder = fetch(registry, version, cache)
    assert verify(folder, version.tags["sha256"])["run"] == "learner"
    calls: list[int] = []
    download = registry.download
    monkeypatch.setattr(registry, "download", lambda *a: (calls.append(1), download(*a))[1])
    assert fetch(registry, version, cache) == folder and calls == []
    # A cache that was damaged is not believed.
    (folder / CHECKPOINT / "arrays.bin").write_bytes(b"x")
    assert fetch(registry, version, cache) == folder and calls == [1]
    verify(folder, version.tags["sha256"])
    assert [p.name for p in cache.iterdir()] == [folder.name]


def test_a_version_damaged_in_the_registry_is_not_used(
    registry: MlflowRegistry, add: Add, tmp_path: Path
) -> None:
    version = add("torn")
    uri = registry._client.get_model_version_download_uri("torn", "1")
    arrays = Path(uri) / "booster_ray" / CHECKPOINT / "arrays.bin"
    arrays.write_bytes(arrays.read_bytes()[:-4])
    said = r"torn version 1 in sqlite.* is damaged: checkpoint/arrays.bin: checksum differs"
    with pytest.raises(RegistryError, match=said):
        fetch(registry, version, tmp_path / "cache", "start_from")
    assert list((tmp_path / "cache").iterdir()) == []
    shutil.rmtree(Path(uri) / "booster_ray")
    with pytest.raises(RegistryError, match=r"torn version 1|artifact"):
        fetch(registry, version, tmp_path / "cache")


def test_a_version_that_is_not_ours_has_no_checksum(
    registry: MlflowRegistry, tmp_path: Path
) -> None:
    strange = Version("strange", 1, (), {}, 0.0)
    with pytest.raises(RegistryError, match="has no tag sha256, expected a model of booster_ray"):
        fetch(registry, strange, tmp_path)


# -- champions -------------------------------------------------------------------------------


def crowned(registry: MlflowRegistry, name: str) -> list[int]:
    return [v.number for v in registry.versions(name) if CHAMPION in v.aliases]


def test_champions_come_and_go_in_order(registry: MlflowRegistry, add: Add) -> None:
    one, two, three = (add("kings", env_steps=n) for n in (1, 2, 3))
    with pytest.raises(RegistryError, match="kings: has no champion"):
        previous(registry, "kings")
    assert promote(registry, one) is None
    assert crowned(registry, "kings") == [1]
    with pytest.raises(RegistryError, match="version 1 is the first champion"):
        previous(registry, "kings")
    for version in (three, two, three):
        promote(registry, find(registry, Reference("models", "kings", version.number)))
    assert crowned(registry, "kings") == [3]
    for expected in (2, 3, 1):
        now, before = previous(registry, "kings")
        assert before.number == expected
        rollback(registry, now, before)
        assert crowned(registry, "kings") == [expected]
    with pytest.raises(RegistryError, match="first champion"):
        previous(registry, "kings")
    # To promote the champion changes nothing.
    again = find(registry, parse("models:/kings@champion"))
    assert promote(registry, again) is not None and crowned(registry, "kings") == [1]
    assert find(registry, parse("models:/kings@champion")).promotions == [1]


@pytest.fixture
def judged(packed: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "judged"
    shutil.copytree(packed, folder)
    return folder


def test_only_a_checkpoint_that_passed_gate_3_may_be_champion(judged: Path) -> None:
    passed = Version("m", 4, (), {"gate_3": "passed"}, 0.0)
    check_gate(passed, judged)
    judge(judged, judged / CHECKPOINT, gate_3=False)
    with pytest.raises(RegistryError, match="m version 4: failed gate 3"):
        check_gate(passed, judged)  # whatever its tag says
    (judged / GATES).unlink()
    with pytest.raises(RegistryError, match="not through gate 3; its tag says otherwise"):
        check_gate(passed, judged)
    with pytest.raises(RegistryError, match=r"was not through gate 3, .*booster_ray.gates"):
        check_gate(passed._replace(tags={}), judged)


def test_gates_that_were_run_later_count_for_their_own_checkpoint(
    judged: Path, tmp_path: Path
) -> None:
    version = Version("m", 1, (), {}, 0.0)
    (judged / GATES).unlink()
    later = tmp_path / "later"
    later.mkdir()
    with pytest.raises(RegistryError, match=r"gates.json: tells nothing of gate 3"):
        check_gate(version, judged, later)
    judge(later, judged / CHECKPOINT, gate_3=True)
    check_gate(version, judged, later)
    told = json.loads((later / GATES).read_text())
    (later / GATES).write_text(json.dumps(told | {"digest": "0" * 64}))
    with pytest.raises(RegistryError, match="is of another checkpoint than m version 1"):
        check_gate(version, judged, later)


def test_a_tag_that_contradicts_the_files_is_believed_neither(judged: Path) -> None:
    with pytest.raises(RegistryError, match="tag gate_3 says failed"):
        check_gate(Version("m", 1, (), {"gate_3": "failed"}, 0.0), judged)


# -- the rules, carried out ------------------------------------------------------------------


def test_aliases_and_removals_reach_the_registry(registry: MlflowRegistry, add: Add) -> None:
    config = Config.model_validate({"models": {"name": "ruled", "keep": 2}})

    def more(score: float, stage: str = "pretrain") -> dict[str, list[int]]:
        facts = {"scores": {"score": score}, "stage": stage, "policy": f"{score}{stage}"}
        version = add("ruled", **facts)
        arrange(config, registry, "ruled")
        assert version.number in [v.number for v in registry.versions("ruled")]
        found: dict[str, list[int]] = {"": sorted(v.number for v in registry.versions("ruled"))}
        for one in registry.versions("ruled"):
            for alias in one.aliases:
                found.setdefault(alias, []).append(one.number)
        return found

    more(1.0)
    promote(registry, find(registry, Reference("models", "ruled", 1)))
    more(3.0)
    assert more(2.0, "finetune") == {
        "": [1, 2, 3], "champion": [1], "best": [2], "candidate-pretrain": [2],
        "candidate-finetuned": [3], "latest": [3],
    }  # fmt: skip
    more(0.5)
    more(0.6)
    # 4 and 5 are the newest two, the rest bear aliases.
    assert more(0.7, "finetune")[""] == [1, 2, 3, 5, 6]
    last = more(9.0)
    assert last[""] == [1, 3, 6, 7] and last["best"] == last["candidate-pretrain"] == [7]
    assert last["champion"] == [1] and last["candidate-finetuned"] == [3]


def test_a_run_is_registered_once_and_only_if_it_is_good_enough(
    registry: MlflowRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    models = {"name": "good", "minimum_score": 1.0, "minimum_success_rate": 0.25}
    run = run_folder(tmp_path / "good", models=models)
    config = Config.model_validate({**json.loads(json.dumps(_config(run))), "name": "good"})
    said: list[str] = []
    source = run / "best_000000000400"
    assert register(config, source, run, registry, said.append) == 1
    assert register(config, source, run, registry, said.append) is None
    strict = config.model_copy(
        update={"models": config.models.model_copy(update={"minimum_score": 2.0})}
    )
    other = run_folder(tmp_path / "worse", seed=3)
    assert register(strict, other / "best_000000000400", other, registry, said.append) is None
    assert said[0].startswith("Registered as good version 1 (latest, best, candidate-pretrain)")
    assert said[1] == "No new version of good: it is version 1 already."
    assert said[2] == "No new version of good: its score 1.5 is below the minimum 2."
    assert [v.number for v in registry.versions("good")] == [1]


def _config(run: Path) -> dict[str, Any]:
    from booster_ray.config import load

    return load(run / "config.yaml").base().to_dict()
