"""Measure decoders, networks and training fed by each on this machine."""
