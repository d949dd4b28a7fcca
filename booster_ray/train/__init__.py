"""Training loops, which know neither Ray nor trackers, and their binding to Ray Train."""
