"""One runner, two collectors, resumable runs in their folders, preemption, Ray Train."""
