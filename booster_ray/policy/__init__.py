"""The submission package: a policy as the competition's own code loads and plays it."""
