"""The work behind every executor: one shard from its job to its record."""

from __future__ import annotations

from vclimb.pipeline.dataset.catalog import ShardRecord
from vclimb.pipeline.transcode.assembly import ShardAssembly, read_record
from vclimb.pipeline.transcode.jobs import ShardJob
from vclimb.pipeline.transcode.transcode import transcode_videos


def make_shard(job: ShardJob) -> ShardRecord:
    """Transcode, verify, assemble and publish one shard in this process, and return its record.

    Videos that an earlier call finished are kept, so a call that was killed may be repeated, here or elsewhere. The
    bytes depend on the job alone. A hostile file may crash the process: call `worker.start_worker` first in a process
    of its own.

    Raises:
        TargetError: The disk is full or can't be written.
    """
    if (published := read_record(job)) is not None:
        return published
    assembly = ShardAssembly(job)
    for batch in job.batches(assembly.missing()):
        transcode_videos([job.video(index) for index in batch])
    record = assembly.append_parts()
    assert record is not None
    return record
