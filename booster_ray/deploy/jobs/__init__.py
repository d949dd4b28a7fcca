"""Runs on a cluster that is already up, through Ray Jobs: submitted, followed, stopped, resumed."""
