"""Watching policies play, step by step: the match, how it is drawn, the page in the browser."""
