"""Learners. They know arrays, not soccer."""
