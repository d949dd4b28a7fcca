"""Sweeps, all of Ray Tune: search, schedulers, trials, budget, resume, and how one ends:
leaderboard, report, best policy.

Three things, each on its own, tell what a sweep has done: the Optuna study says which trials
exist and how they ended; each trial's run directory holds its work; Ray Tune only executes. So
a sweep whose driver, cluster and trials were killed at any moment resumes from files, and no
pickle is read.
"""
