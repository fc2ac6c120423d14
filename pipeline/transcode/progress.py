"""What a prepare run tells its user: notes, and videos done over videos planned."""

from __future__ import annotations

from typing import Self

from rich.progress import TaskID
from rich.text import Text

from vclimb.pipeline.system.progress import is_shown, printable, progress_bar, stderr
from vclimb.pipeline.transcode.cluster_progress import ClusterStatus

_SHOWN_NODES = 20


class PrepareProgress:
    """Progress of one prepare run on stderr. The time left is estimated by seconds of video.

    `progress=False` shows nothing, None shows notes and a bar where stderr is a terminal or in Jupyter, and True shows
    the notes everywhere. `notes` holds the sentences noted so far, shown or not.
    """

    def __init__(self, progress: bool | None = None) -> None:
        self.notes: list[str] = []
        self._shows_notes = progress is True or is_shown(progress)
        self._bar = progress_bar("{task.fields[unit]}", progress)
        self._task: TaskID | None = None
        self._videos = self._n_videos = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def note(self, sentence: str) -> None:
        """Keep a sentence for the user, and show it."""
        self.notes.append(sentence)
        if self._shows_notes:
            stderr.print(Text(printable(sentence), style="dim"))

    def show_nodes(self, status: ClusterStatus) -> None:
        """Show what each node of a cluster does, the slowest ones first, and the shards that run longest."""
        if not self._shows_notes:
            return
        nodes = sorted(status.nodes, key=lambda node: node.videos / max(node.seconds, 1e-3))
        lines = [
            f"node {node.node}: {node.running} shards running, {node.shards} done, {node.videos} videos, "
            f"{node.videos / max(node.seconds, 1e-3):.1f} videos/s"
            for node in nodes[:_SHOWN_NODES]
        ]
        if len(nodes) > _SHOWN_NODES:
            lines.append(f"and {len(nodes) - _SHOWN_NODES} faster nodes")
        lines += [
            f"longest: shard {shard.shard} on {shard.node} for {shard.seconds:.0f} s, "
            f"{shard.done} of {shard.videos} videos, next: {shard.video}"
            for shard in status.longest
        ]
        for line in lines:
            stderr.print(Text(printable(line), style="dim"))

    def start(self, phase: str, n_videos: int, seconds: float = 0.0) -> None:
        """Begin a phase over some videos. Without their duration in seconds, progress is counted in videos."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._videos, self._n_videos = 0, n_videos
        total, unit = (max(1, round(seconds)), "s of video") if seconds else (n_videos, "videos")
        self._task = self._bar.add_task(phase, total=total, unit=unit, note="")

    def advance(self, n_videos: int, seconds: float = 0.0) -> None:
        assert self._task is not None
        self._videos += n_videos
        note = f"{self._videos}/{self._n_videos} videos" if seconds else ""
        self._bar.update(self._task, advance=seconds or n_videos, note=note)
