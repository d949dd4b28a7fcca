"""What stands on top: the pipeline, jobs, Spark, the doctor, the registry's commands."""
