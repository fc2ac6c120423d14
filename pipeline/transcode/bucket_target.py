"""A bucket as the target of a prepare run.

The run works in a folder of this machine. A shard's files are uploaded, then its record: with a record, the shard is
whole. dataset.json is uploaded last. So is the plan, so that another machine can go on with the run: it makes the
shards that have no record. What is in the bucket counts: an interrupted upload leaves no object, and a folder of this
machine that is behind the bucket is brought up to it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from vclimb.pipeline.dataset.header import DRAFT, ERRORS, HEADER, INSTANCES, VIDEOS
from vclimb.pipeline.dataset.shard import ShardFiles
from vclimb.pipeline.errors import TargetBusyError, TargetError
from vclimb.pipeline.system.bucket import Bucket
from vclimb.pipeline.system.durable import replace_file
from vclimb.pipeline.system.folders import make_folder
from vclimb.pipeline.system.paths import user_cache
from vclimb.pipeline.transcode.bucket_shard import BUCKET_RECORDS
from vclimb.pipeline.transcode.plan import PLAN
from vclimb.pipeline.transcode.work_names import RECORDS, WORK

LOCK = f"{WORK}/lock.json"
_PLAN = f"{WORK}/{PLAN}"


class BucketTarget:
    """The target of one run. Raises a SettingsError where the URL can't be opened."""

    def __init__(self, url: str) -> None:
        self.bucket = Bucket(url)
        digest = hashlib.sha256(self.bucket.url.encode()).hexdigest()[:16]
        self.folder = user_cache("prepare") / digest / self.bucket.url.rpartition("/")[2]

    def __str__(self) -> str:
        return self.bucket.url

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the bucket's lock within a block, and bring the folder, which this process has locked, up to the bucket.

        Raises:
            TargetBusyError: Another run holds the lock.
            TargetError: The bucket holds objects that are not a data set, or can't be read or written.
        """
        with self._explained():
            names = self.bucket.list()
            if names and HEADER not in names and not any(name.startswith(f"{WORK}/") for name in names):
                raise TargetError(
                    f"{self} holds objects that are not a data set ({next(iter(names))!r} and {len(names) - 1} more); "
                    "choose an empty or a new place"
                )
            self._lock()
            try:
                self._bring_up()
                yield
            finally:
                self.bucket.remove([LOCK])

    def upload_plan(self) -> None:
        self.bucket.upload(self.folder / _PLAN, _PLAN)

    def upload_catalog(self) -> None:
        """Upload the catalog's files: dataset.json last, and its draft first, as a run in a folder writes them."""
        header = (self.folder / HEADER).read_bytes()
        self.bucket.write(DRAFT, header)
        for name in (VIDEOS, INSTANCES, ERRORS):
            self.bucket.upload(self.folder / name, name)
        self.bucket.write(HEADER, header)
        self.bucket.remove([DRAFT])

    def finish(self) -> None:
        """Remove the plan and the records, which the catalog has, from the bucket."""
        self.bucket.remove([_PLAN, *self.bucket.list(BUCKET_RECORDS)])

    def has(self, files: ShardFiles) -> bool:
        """Whether the tar of a shard is in the bucket, by its size."""
        facts = self.bucket.list().get(files.tar)
        return facts is not None and facts.n_bytes == files.tar_bytes

    def clear(self) -> None:
        """Remove the folder's files after a run; the next one brings them anew."""
        for name in (HEADER, VIDEOS, INSTANCES, ERRORS):
            (self.folder / name).unlink(missing_ok=True)

    def _lock(self) -> None:
        # A run of this machine that holds the lock has ended, since this process has locked its folder.
        mine = {"host": socket.gethostname(), "folder": str(self.folder)}
        began = datetime.now(UTC).isoformat(timespec="seconds")
        content = json.dumps({**mine, "process": os.getpid(), "began": began}).encode()
        if self.bucket.create(LOCK, content):
            return
        try:
            holder: Any = json.loads(self.bucket.read(LOCK))
            if {name: holder[name] for name in mine} == mine:
                self.bucket.write(LOCK, content)
                return
            who = f"on {holder['host']} (process {holder['process']}, since {holder['began']})"
        except (ValueError, KeyError, TypeError, FileNotFoundError):
            who = "elsewhere"
        raise TargetBusyError(
            f"another run {who} is writing to {self}; wait for it to end, choose another target, or, if it was killed, "
            f"remove {self}/{LOCK}"
        )

    def _bring_up(self) -> None:
        names = self.bucket.list()
        plan = self.bucket.read(_PLAN) if _PLAN in names else None
        work = self.folder / WORK
        if plan is None or not (work / PLAN).exists() or (work / PLAN).read_bytes() != plan:
            shutil.rmtree(work, ignore_errors=True)  # of another plan: its parts are of other videos
        make_folder(work / RECORDS)
        if plan is not None:
            replace_file(work / PLAN, plan)
        in_bucket = {name.rpartition("/")[2] for name in names if name.startswith(f"{BUCKET_RECORDS}/")}
        for record in (work / RECORDS).iterdir():
            if (
                record.name not in in_bucket
            ):  # killed before its upload: the shard is made again from its parts, or anew
                record.unlink()
        for name in in_bucket:
            replace_file(work / RECORDS / name, self.bucket.read(f"{BUCKET_RECORDS}/{name}"))
        for path in self.folder.iterdir():
            if path.name != WORK:
                path.unlink()
        for name in (VIDEOS, INSTANCES, ERRORS, DRAFT, HEADER):
            if name in names:
                replace_file(self.folder / name, self.bucket.read(name))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn errors of the bucket into a TargetError."""
        try:
            yield
        except FileNotFoundError as error:
            if error.filename is not None:  # a file of this machine
                raise
            raise TargetError(f"can't write to {self}: there is no such bucket; make it first") from None
        except OSError as error:
            if isinstance(error, TargetError) or not str(error.filename).startswith(str(self)):
                raise
            raise TargetError(f"can't write to {error.filename}: {error.strerror}") from None
