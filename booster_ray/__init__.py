"""One soccer policy for the Booster T1: trained, swept and kept alive on Ray."""

__version__ = "0.1.0"
