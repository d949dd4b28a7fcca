"""Demonstrations on disk, as Minari datasets: recorded, converted, read for training."""
