"""Result of a pilot that chose how a run's memory encodes exemplars. Importing this module loads no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from vclimb.training.figures import Count, Share, Text

Amount = Annotated[float, Field(ge=0, le=1e15)]
HALF_VIDEOS = 5.0
"""Number of videos of a class with which half of what many teach is reached (docs/study-bytes.md)."""


@dataclass(frozen=True)
class CandidateFacts:
    """Encoding of exemplars that a pilot has measured on videos of the first task.

    Attributes:
        codec: Encoding of the frames.
        frames: Number of frames kept of a video, K, or `all`.
        video_bytes: Bytes of an exemplar, as a mean over the sample.
        videos_per_class: Number of videos of a class that the budget holds after the last task.
        agreement: Share of the exemplars that the network takes for the class for which it takes the original clip.
        recall: Recall of a class whose exemplars stand beside other classes' original clips, as a share of that with
            original clips of all classes.
    """

    codec: Text
    frames: Count | Literal["all"]
    video_bytes: Amount
    videos_per_class: Amount
    agreement: Share
    recall: Share

    @property
    def fidelity(self) -> float:
        """How well the exemplars stand for the original clips, 0 to 1."""
        return self.agreement**2 * self.recall

    @property
    def score(self) -> float:
        """Fidelity, times the part of what many videos of a class teach that those in the budget do."""
        return self.fidelity * self.videos_per_class / (self.videos_per_class + HALF_VIDEOS)

    @property
    def name(self) -> str:
        frames = "1 frame" if self.frames == 1 else f"{self.frames} frames"
        return f"{self.codec} with {frames} a video"


@dataclass(frozen=True)
class PilotFacts:
    """Choice of a pilot, and what it rests on.

    Attributes:
        videos: Number of training videos of the first task that were measured.
        accuracy: Share of them that the network takes for their class.
        candidates: Encodings that were measured, that of the highest score first.
    """

    videos: Count
    accuracy: Share
    candidates: Annotated[tuple[CandidateFacts, ...], Field(min_length=1, max_length=100)]

    @property
    def chosen(self) -> CandidateFacts:
        return self.candidates[0]

    @property
    def reason(self) -> str:
        """What was chosen, and why, in a sentence or two."""
        first, *others = self.candidates
        text = f"a pilot on {self.videos} videos of the first task chose {_described(first)}"
        return text + (f"; next: {_described(others[0])}" if others else "")


def ranked(candidates: Iterable[CandidateFacts]) -> tuple[CandidateFacts, ...]:
    """Order candidates by their scores. Of equal ones, where the budget holds all videos, the largest comes first."""
    return tuple(sorted(candidates, key=lambda candidate: (-candidate.score, -candidate.video_bytes)))


def _described(candidate: CandidateFacts) -> str:
    return (
        f"{candidate.name} (score {candidate.score:.2f}: {candidate.videos_per_class:.1f} videos of a class in the "
        f"budget, the network reads {100 * candidate.agreement:.0f} % like the originals, recall "
        f"{100 * candidate.recall:.0f} %)"
    )
