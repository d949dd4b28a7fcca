"""What a bad checkpoint raises."""


class CheckpointError(ValueError):
    """A checkpoint cannot be used: one line that names the file and what is wrong with it."""
