"""Runs of a study, computed."""
