"""Words for settings, values, cells, durations and sizes in tables and charts. Loads no torch."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vclimb.memory.feature_codec import keeps_features, parse_feature_codec
from vclimb.settings import changes_no_result

SEED, BUDGET, FRAMES = "seed", "memory.budget", "memory.frames"
_TITLES = {
    "method.name": "method",
    "memory.frames": "frames per video",
    "memory.budget": "budget",
    "memory.codec": "codec",
    "memory.frame_choice": "choice of frames",
    "memory.video_choice": "choice of videos",
    "consistency.weight": "TC weight",
    "consistency.frames": "frames of a TC clip",
    "training.epochs": "epochs",
    "scenario.tasks": "tasks",
    "model.network": "network",
    "model.backbone": "backbone",
    "model.size": "pixels",
    "dataset": "data set",
}


_MAX_VALUE, _MAX_LABEL = 100, 300


def shortened(text: str, length: int) -> str:
    """Cut a text at a length. Different texts stay different: a digest stands for the rest."""
    if len(text) <= length:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{text[:length]}... ({len(text):,} characters, {digest})"


def meaningful(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave out the number of frames from the settings of a run that keeps a feature of each clip in their place."""
    codec = str(settings.get("memory.codec"))
    if not keeps_features(codec) or parse_feature_codec(codec).of_frames:
        return settings
    return {name: value for name, value in settings.items() if name != FRAMES}


def title(setting: str) -> str:
    """Name a setting on an axis or in a table."""
    return _TITLES.get(setting, shortened(setting, _MAX_VALUE))


def head(setting: str) -> str:
    """Name a setting in the heading of a column."""
    return {"memory.frames": "K", "consistency.weight": "TC", "consistency.frames": "TC K"}.get(setting, title(setting))


def short(setting: str, value: Any) -> str:
    """Word a setting and its value in short."""
    if setting == "consistency.weight" and value is not None:
        return f"TC {value_text(value)}" if value else "no TC"
    if setting in ("method.name", "memory.budget", "memory.codec") and value not in (None, "auto"):
        return value_text(value)
    is_number_of_frames = setting in ("memory.frames", "consistency.frames") and value is not None
    name = head(setting) if is_number_of_frames else title(setting).removeprefix("method.")
    return f"{name} {value_text(value)}"


def value_text(value: Any) -> str:
    """Word a value."""
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) else shortened(str(value), _MAX_VALUE)


def varied(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the settings that differ between cells, from the most to the least common ones in studies."""
    values: dict[str, set[str]] = {}
    counts: Counter[str] = Counter()
    for table in settings:
        for name, value in table.items():
            values.setdefault(name, set()).add(repr(value))
            counts[name] += value is not None
    differing = [name for name, kinds in values.items() if len(kinds) > 1 or 0 < counts[name] < len(settings)]
    differing = [name for name in differing if not changes_no_result(name) and name != SEED]
    order = {name: place for place, name in enumerate(_TITLES)}
    return sorted(differing, key=lambda name: (order.get(name, len(order)), name))


def label(settings: Mapping[str, Any], names: Sequence[str]) -> str:
    """Word the settings that distinguish a cell."""
    words = [short(name, settings[name]) for name in names if settings.get(name) is not None]
    return shortened(", ".join(words), _MAX_LABEL) or value_text(settings.get("method.name", "run"))


def duration(seconds: float) -> str:
    """Word a duration."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def size_label(n_bytes: float) -> str:
    """Word a size in bytes, rounded to three digits."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= factor * 0.9995:
            return f"{n_bytes / factor:.3g} {unit}"
    return f"{n_bytes:.3g} B"


def parts_label(parts: Mapping[str, float]) -> str:
    """Word the bytes of each part that takes any; empty where none does."""
    return ", ".join(f"{part} {size_label(n_bytes)}" for part, n_bytes in parts.items() if n_bytes > 0)
