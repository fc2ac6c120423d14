"""The vCLIMB benchmark: video class-incremental learning under a storage budget."""

from importlib.metadata import version

__version__ = version("vclimb")
