"""videos -> shards -> clips. Knows nothing of tasks, methods or memory."""
