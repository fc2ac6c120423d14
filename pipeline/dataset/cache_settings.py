"""Settings of the copies of a bucket's shards on this machine. Loads nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vclimb.pipeline.system.paths import user_cache

DEFAULT_CACHE_BYTES = 50 * 10**9
DEFAULT_GROUP = 8
"""Number of shards of a bucket whose clips are shuffled together."""


@dataclass(frozen=True)
class CacheSettings:
    """Place and size of a cache of shards.

    Attributes:
        folder: Folder of the cache; made if it isn't there.
        max_bytes: Limit of the shards' bytes.
    """

    folder: Path
    max_bytes: int = DEFAULT_CACHE_BYTES

    @staticmethod
    def default(max_bytes: int = DEFAULT_CACHE_BYTES) -> CacheSettings:
        """A cache in the folder for such files of this user: `vclimb/shards` in XDG_CACHE_HOME, or in ~/.cache."""
        return CacheSettings(user_cache("shards"), max_bytes)
