"""Executors of runs: one file each. A file's class is its `EXECUTOR`, and the file's name is the executor's."""
