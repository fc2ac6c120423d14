"""Upload of a shard to the bucket that a run writes to: its files first, then its record, which makes it count."""

from __future__ import annotations

from pathlib import Path

from vclimb.pipeline.dataset.shard import shard_paths
from vclimb.pipeline.system.bucket import Bucket
from vclimb.pipeline.transcode.work_names import RECORDS, WORK

BUCKET_RECORDS = f"{WORK}/{RECORDS}"
"""Names of records in the bucket begin with this and a slash."""


def upload_shard(bucket: Bucket, folder: Path, stem: str) -> None:
    """Upload the files of a published shard, and remove them from the folder."""
    for path in shard_paths(folder, stem):
        bucket.upload(path, path.name)
    for path in shard_paths(folder, stem):
        path.unlink()


def upload_record(bucket: Bucket, record: Path) -> None:
    """Upload the record of a shard whose files are there."""
    bucket.upload(record, f"{BUCKET_RECORDS}/{record.name}")
