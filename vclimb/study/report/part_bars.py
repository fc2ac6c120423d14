"""Bars of what the bytes of a memory are: exemplars, statistics, parameters and so on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vclimb.memory.store.index_nodes import INDEX, PARTS
from vclimb.study.naming import size_label
from vclimb.study.report.chart_style import INK, PALETTE, Spec, legend, scale_of
from vclimb.study.report.encodings import layer, nominal
from vclimb.study.report.figures import printable
from vclimb.study.report.group import Group
from vclimb.study.report.groups import ReportLayout

MAX_BARS = 24
ROW_HEIGHT = 38
_VISIBLE = 0.02  # difference of shares
_LEAST_SHARE = 14.0  # percent of a bar in which the name of a part has room, also on a narrow page
_COLOURS = dict(
    zip((*PARTS, INDEX), (PALETTE[0], PALETTE[5], PALETTE[2], PALETTE[1], PALETTE[3], "#9aa3ad"), strict=True)
)


@dataclass(frozen=True)
class Bar:
    """A bar: one group, or all groups of a kind of memory where the budget hardly changes the shares of parts.

    Attributes:
        title: Name and bytes.
        groups: Groups that the bar stands for.
        shares: Part -> share of the bytes, from 0 to 1, the mean over groups.
    """

    title: str
    groups: tuple[Group, ...]
    shares: dict[str, float]

    @classmethod
    def of(cls, name: str, groups: Sequence[Group]) -> Bar:
        sizes = [sum(group.parts.values()) for group in groups]
        texts = dict.fromkeys(size_label(size) for size in (min(sizes), max(sizes)))
        shares = [_shares(group) for group in groups]
        means = {part: sum(of_group.get(part, 0.0) for of_group in shares) / len(shares) for part in _COLOURS}
        present = {part: share for part, share in means.items() if share > 0}
        return cls(f"{printable(name)}: {' to '.join(texts)}", tuple(groups), present)


def bars_of(layout: ReportLayout) -> tuple[list[Bar], int]:
    """Make the bars of a study.

    Returns:
        The bars, and the number of those that are left out: of too many, those of the least accurate groups.
    """
    bars = [Bar.of(layout.name(group), [group]) for group in layout.fixed if group.parts]
    for kind, members in layout.kinds.items():
        if not (groups := [group for group in members if group.parts]):
            continue
        if _are_alike(groups):
            bars.append(Bar.of(kind, groups))
        else:
            bars += [Bar.of(layout.name(group), [group]) for group in groups]
    urgent = sorted(bars, key=lambda bar: (not bar.groups[0].is_fixed, -max(_accuracy(group) for group in bar.groups)))
    kept = {id(bar) for bar in urgent[:MAX_BARS]}
    return [bar for bar in bars if id(bar) in kept], len(bars) - len(kept)


def part_rows(bars: Sequence[Bar]) -> list[dict[str, Any]]:
    """Make a row for each part of each bar: the ends of its piece, in percent."""
    rows = []
    for number, bar in enumerate(bars):
        before = 0.0
        for part, share in bar.shares.items():
            after = before + 100 * share
            sizes = [group.parts.get(part, 0.0) for group in bar.groups]
            rows.append(
                {
                    "bar": number,
                    "name": bar.title,
                    "title": "" if before else bar.title,
                    "part": part,
                    "size": " to ".join(dict.fromkeys(size_label(size) for size in (min(sizes), max(sizes)))),
                    "share": f"{100 * share:.1f} %",
                    "from": round(before, 4),
                    "to": round(after, 4),
                    "middle": round((before + after) / 2, 4),
                    "label": part if 100 * share >= _LEAST_SHARE else "",
                    "href": f"#{bar.groups[0].anchor}",
                }
            )
            before = after
    return rows


def _shares(group: Group) -> dict[str, float]:
    total = sum(group.parts.values())
    return {part: n_bytes / total for part, n_bytes in group.parts.items()}


def _are_alike(groups: Sequence[Group]) -> bool:
    """Tell whether no part has shares that differ visibly between groups."""
    shares = [_shares(group) for group in groups]
    spans = [max(values) - min(values) for part in _COLOURS for values in [[one.get(part, 0.0) for one in shares]]]
    return max(spans) < _VISIBLE


def _accuracy(group: Group) -> float:
    return group.acc.mean if group.acc.n else 0.0


def part_bars(bars: Sequence[Bar]) -> Spec:
    """Draw stacked bars, whose pieces are the shares of parts; name and bytes stand above each."""
    present = [part for part in _COLOURS if any(part in bar.shares for bar in bars)]
    y = {"field": "bar", "type": "ordinal", "axis": None}
    axis = {"title": "share of the bytes kept (%)", "titleAnchor": "start", "tickCount": 5}
    x = {"type": "quantitative", "scale": {"domain": [0, 100], "nice": False}, "axis": axis}
    fields = {"name": "kept", "part": "part", "size": "size", "share": "share"}
    tip = [{"field": field, "type": "nominal", "title": title} for field, title in fields.items()]
    colour = nominal("part", scale_of(present, [_COLOURS[part] for part in present]), legend(present))
    pieces = {
        "x": x | {"field": "from"},
        "x2": {"field": "to"},
        "y": y,
        "color": colour,
        "href": {"field": "href", "type": "nominal"},
        "tooltip": tip,
    }
    bar = {"type": "bar", "height": 14, "yOffset": 8, "stroke": "white", "strokeWidth": 0.5}
    title = {"type": "text", "align": "left", "dy": -8, "fontSize": 11.5, "color": INK, "limit": {"expr": "width"}}
    inside = {"type": "text", "dy": 8, "fontSize": 10.5, "fontWeight": 600, "color": "white"}
    layers = [
        layer("parts", bar, pieces),
        layer("parts", title, {"x": {"value": 0}, "y": y, "text": nominal("title")}, ["datum.title"]),
        layer("parts", inside, {"x": x | {"field": "middle"}, "y": y, "text": nominal("label")}, ["datum.label"]),
    ]
    return {"layer": layers, "height": ROW_HEIGHT * len(bars)}
