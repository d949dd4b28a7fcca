def action_function(policy):
    """Torques (n, 12) N·m within the limits; none where a world's state was lost."""
    limits = np.array([45.0, 45.0, 30.0, 65.0, 24.0, 15.0] * 2, dtype=np.float32)
    return np.nan_to_num(np.clip(policy, -limits, limits))
