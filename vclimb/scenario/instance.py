"""One labelled segment of a video in a scenario, and the values that it may have."""

from __future__ import annotations

from dataclasses import dataclass

from vclimb.pipeline.errors import VclimbError

MAX_NAME = 10_000
"""Longest name of a video, a class, a group or a scenario, in characters."""
MAX_SECONDS, MAX_FRAMES = 1e9, 2**53
_SHOWN = 60


class ScenarioError(VclimbError, ValueError):
    """A scenario can't be read, made, or run on a data set."""


@dataclass(frozen=True, slots=True)
class Seconds:
    """A segment [start, end) of a source video, in seconds. None stands for the video's start or end.

    An end after the video's end counts as the video's end. An empty segment is kept as it is listed (ActivityNet has
    12), and left out when videos are matched.

    Raises:
        ScenarioError: A time is negative, over 30 years, or not finite.
    """

    start: float | None
    end: float | None

    def __post_init__(self) -> None:
        for name, value in (("start", self.start), ("end", self.end)):
            if value is not None and not (isinstance(value, (int, float)) and 0 <= value <= MAX_SECONDS):
                raise ScenarioError(
                    f"{name} {brief(value)} s is not a time; allowed: 0 to {MAX_SECONDS:,.0f}, in seconds"
                )

    @property
    def is_empty(self) -> bool:
        """Whether the segment ends at its start or before."""
        return self.end is not None and (self.start or 0.0) >= self.end

    def __str__(self) -> str:
        start, end = (self.start or 0.0), ("end" if self.end is None else f"{self.end:g}")
        return f"[{start:g}, {end}) s"


@dataclass(frozen=True, slots=True)
class Frames:
    """A segment [start, end) of a stored video, in frames at the stored frame rate.

    Raises:
        ScenarioError: The segment holds no frame, or more than any video.
    """

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ScenarioError(
                f"frames [{brief(self.start)}, {brief(self.end)}) hold none; the first frame is 0, and the end comes "
                "after the start"
            )
        if self.end > MAX_FRAMES:
            raise ScenarioError(f"frames end at {brief(self.end)}, after any video; allowed: up to {MAX_FRAMES}")

    def __str__(self) -> str:
        return f"frames [{self.start}, {self.end})"


@dataclass(frozen=True, slots=True)
class ScenarioInstance:
    """A labelled segment of a video.

    Attributes:
        video: Key of the video in a data set, its path in the source, or the stem of that path.
        label: Name of the class.
        span: Segment of the video; None: the whole video.
        group: Name of the recording that the video was cut from; None: unknown.

    Raises:
        ScenarioError: A name is empty or not a text.
    """

    video: str
    label: str
    span: Seconds | Frames | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        require_text(self.video, "a video's name")
        require_text(self.label, "the class of video", self.video)
        if self.group is not None:
            require_text(self.group, "the group of video", self.video)

    @property
    def source(self) -> tuple[str, str]:
        """Kind and name of the source: the group, or the video where no group is known."""
        return ("video", self.video) if self.group is None else ("group", self.group)


def brief(value: object) -> str:
    """Word a value for an error: the beginning of a text, a number, or the type of anything else."""
    if isinstance(value, str):
        more = f"... ({len(value):,} characters)" if len(value) > _SHOWN else ""
        return repr(value[:_SHOWN]) + more
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and value.bit_length() < 64):
        return repr(value)
    return f"a number of {value.bit_length()} bits" if isinstance(value, int) else f"a {type(value).__name__}"


def require_text(value: object, what: str, video: str | None = None) -> None:
    """Refuse what is no name. `what` says whose name it is; a video's name completes it."""
    if isinstance(value, str) and len(value) <= MAX_NAME and value.strip():
        if value.isascii():  # nearly always, and faster to say than to encode
            return
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            reason = f"holds half a surrogate pair, which is no text: {brief(value)}"
        else:
            return
    elif isinstance(value, str) and len(value) > MAX_NAME:
        reason = f"is longer than {MAX_NAME:,} characters: {brief(value)}"
    else:
        reason = f"must be a text that isn't empty, not {brief(value)}"
    raise ScenarioError(f"{what}{'' if video is None else f' {brief(video)}'} {reason}")
