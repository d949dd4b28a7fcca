import os
import subprocess
import sys
from pathlib import Path

import driving

CHILD = """
import sys
from booster_ray.track.mlflow_sink import mlflow_client
client = mlflow_client(sys.argv[1])
print(len(client.search_experiments()), len(client.search_registered_models()))
"""


def start(database: Path, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, f"sqlite:///{database}"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
    )  # fmt: skip


def test_processes_that_begin_with_one_new_database(tmp_path: Path) -> None:
    children = [start(tmp_path / "new" / "mlflow.db", tmp_path) for _ in range(3)]
    told = [child.communicate(timeout=300) for child in children]
    assert [child.returncode for child in children] == [0, 0, 0], told[0][1] + told[1][1]
    assert {out.split()[-2:][0] for out, _ in told} == {"1"}  # MLflow's default experiment


def test_one_that_is_killed_while_it_creates_the_database(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    begun = database.with_name("mlflow.db.new")
    killed = start(database, tmp_path)
    driving.wait_for(lambda: begun.exists() and begun.stat().st_size)
    killed.kill()
    killed.communicate()
    assert not database.exists() and begun.exists()
    second = start(database, tmp_path)
    out, error = second.communicate(timeout=300)
    assert (second.returncode, out.split()) == (0, ["1", "0"]), error
    assert sorted(tmp_path.iterdir()) == [database]
