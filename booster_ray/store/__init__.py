"""Where runs live: checkpoints, records, remote storage; what names their files."""
