"""What evaluation asks of a task; see `hscc.pipeline.tasks`."""
