"""Soft actor-critic in JAX."""
