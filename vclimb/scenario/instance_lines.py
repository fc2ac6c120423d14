"""The instances of a scenario as lines of JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from vclimb.pipeline.dataset.packing import values_of
from vclimb.scenario.instances import END_IS_INT, IN_SECONDS, START_IS_INT, ScenarioInstances

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def instance_lines(instances: ScenarioInstances) -> Iterator[str]:
    """A JSON object for each instance, as `json.dumps` writes it, after four spaces."""
    labels = {label: _encode(label) for label in instances.labels()}
    for part in instances.parts():
        columns = (values_of(part.columns.column(name)) for name in part.columns.schema.names)
        for video, label, group, kind, start, end, ints in zip(*columns, strict=True):
            group_text = "" if group is None else f', "group": {_encode(group)}'
            span = ""
            if kind:
                name = "seconds" if kind == IN_SECONDS else "frames"
                span = f', "{name}": [{_number(start, ints & START_IS_INT)}, {_number(end, ints & END_IS_INT)}]'
            yield f'    {{"video": {_encode(video)}, "class": {labels[label]}{group_text}{span}}}'


def _number(value: float, is_int: int) -> str:
    if math.isnan(value):
        return "null"
    return repr(int(value) if is_int else value)
