"""The vCLIMB benchmark: video class-incremental learning under a storage budget."""

__version__ = "0.1.0"
