"""The three verification gates: same observation, same action, same behaviour."""
