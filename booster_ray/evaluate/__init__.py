"""What a policy is worth in the official game: episodes, statistics, report, video."""
