"""Who is told of runs, what is watched beside them, and the models that they leave."""
