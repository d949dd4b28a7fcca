"""A sweep's results as tables: what was searched against what it scored, and the curves.

python examples/sweep_with_pandas.py results/demo
"""

import json
import sys
from pathlib import Path

import pandas as pd

root = Path(sys.argv[1])
board = pd.json_normalize(json.loads((root / "leaderboard.json").read_text()))
board = board.set_index("number").sort_values("score", ascending=False)
searched = [name for name in board.columns if name.startswith("params.")]
print(board[["status", "score", "best_env_steps", *searched]].to_string())

numbers = board[searched].select_dtypes("number")
print("\nRank correlation with the score:")
print(numbers.corrwith(board["score"], method="spearman").to_string())

curves = {
    int(folder.name): pd.read_json(folder / "progress.jsonl", lines=True).set_index("env_steps")
    for folder in sorted((root / "trials").glob("[0-9]*"))
    if (folder / "progress.jsonl").exists()
}
evaluated = {n: told["score"].dropna() for n, told in curves.items() if "score" in told}
print("\nOfficial score over env steps, a column for each trial:")
print(pd.concat(evaluated, axis=1).to_string())
