"""The process that a command runs in: environment, signals, output, memory, versions."""
