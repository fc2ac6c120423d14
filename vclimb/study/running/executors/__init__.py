"""Executors of runs, one file each."""
