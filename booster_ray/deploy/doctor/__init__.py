"""What this machine can do, and what a config will take: memory, time and money."""
