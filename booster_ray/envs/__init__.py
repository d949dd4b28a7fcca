"""What steps: the contract, the game in C MuJoCo, MJX and sai_mujoco, gymnasium, Brax and
Meta-World.
"""
