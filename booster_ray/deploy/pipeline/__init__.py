"""The five stages, from an empty storage to a submission; each one a command that can be killed."""
