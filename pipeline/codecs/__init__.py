"""Encoded frames to pixels and back."""
