"""Weight alignment: the head's new rows are scaled until they are as long as the old ones.

Source: WA: Zhao et al., "Maintaining discrimination and fairness in class incremental learning", CVPR 2020, section 4.
"""

from __future__ import annotations

import logging

import torch
from torch import nn

log = logging.getLogger(__name__)


@torch.no_grad()
def align_weights(head: nn.Linear, n_old: int) -> None:
    """Multiply the new rows of a head, in place, by mean |w_old| / mean |w_new|, the mean lengths of their weights.

    Done again, it changes nothing. The bias is left as it is, as in PyCIL (utils/inc_net.py), and a first task, without
    old rows, too. The paper also clips the weights at 0 in training, so that lengths and logits go together; here, as
    in PyCIL, nothing is clipped.
    """
    if not n_old:
        return
    lengths = head.weight.double().norm(dim=1)
    old, new = lengths[:n_old].mean(), lengths[n_old:].mean()
    factor = float(old / new.clamp_min(torch.finfo(torch.double).tiny))
    if factor > 1.05:  # aligned again, it is 1 but for rounding
        log.warning(
            "alignment makes the head's new rows %.1f times as long, in favour of the new classes: they are shorter "
            "(%.2g) than the old ones (%.2g), as after short training of a head that begins near 0",
            factor,
            float(new),
            float(old),
        )
    head.weight[n_old:] *= factor
