"""Training over the tasks of a scenario."""
