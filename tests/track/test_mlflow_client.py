import os
import subprocess
import sys
from pathlib import Path

CHILD = """
import sys
from booster_ray.track.mlflow_client import mlflow_client
client = mlflow_client(sys.argv[1])
print(len(client.search_experiments()), len(client.search_registered_models()))
"""


def test_processes_that_begin_with_one_new_database(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"
    command = [sys.executable, "-c", CHILD, uri]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    children = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         env=environment, cwd=tmp_path)
        for _ in range(3)
    ]  # fmt: skip
    told = [child.communicate(timeout=300) for child in children]
    assert [child.returncode for child in children] == [0, 0, 0], told[0][1] + told[1][1]
    assert {out.split()[-2:][0] for out, _ in told} == {"1"}  # MLflow's default experiment
