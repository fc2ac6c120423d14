"""Types of the figures that a run's files hold, checked as they are read. Importing this module loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

# Figures; None where they were not measured.
Fraction = Annotated[float, Field(ge=0, le=1)] | None
Change = Annotated[float, Field(ge=-1, le=1)] | None
Ratio = Annotated[float, Field(ge=0, le=1e15)] | None

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(ge=0, le=1e12)]
Text = Annotated[str, Field(max_length=10_000)]
Parts = Annotated[Mapping[Text, Count], Field(max_length=10)]
Phases = Annotated[Mapping[Text, Seconds], Field(max_length=100)]
