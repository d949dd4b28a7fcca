"""Playing and judging: official episodes, statistics, gates 1 to 3, video."""
