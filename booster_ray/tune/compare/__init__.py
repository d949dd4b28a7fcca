"""Runs, sweeps, checkpoints, packages and policies beside each other."""
