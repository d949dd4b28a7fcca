"""Learners of arrays: SAC, DDPG, imitation; networks, replay buffers, normalizer, symmetry."""
