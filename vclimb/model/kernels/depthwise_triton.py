"""Triton kernels of depthwise convolutions, on frames whose channels lie together (N, H, W, C).

Each program computes a block of pixels by channels. Pixels outside a frame count as zeros. Sums are float32, and no sum
depends on the order in which programs run: the same inputs give the same bits.

Arguments in common: `M` pixels in all, frames of `H` by `W` in and `OH` by `OW` out, `C8` eighths of the channels (so
that the compiler knows that eight channels can be read at once), padding of `TOP` rows and `LEFT` columns, a stride of
`S` pixels, kernels of `K` by `K`, and blocks of `P` pixels by `B` channels.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, misc"
# ruff: noqa: N803, N806  (sizes are capital letters, as in Triton's own kernels)

from __future__ import annotations

import triton
import triton.language as tl

_SIZES = ["M", "N", "H", "W", "OH", "OW", "C8", "TOP", "LEFT", "CHUNK"]
"""Arguments whose values don't make the compiler compile a kernel anew."""


@triton.jit(do_not_specialize=_SIZES)
def convolve(
    x, w, y, M, H, W, OH, OW, C8, TOP, LEFT, S: tl.constexpr, K: tl.constexpr, P: tl.constexpr, B: tl.constexpr
):
    """Compute y (N, OH, OW, C) from x (N, H, W, C) and weights w (K, K, C); a program for each block of y."""
    C = C8 * 8
    c = tl.program_id(1) * B + tl.arange(0, B)
    p = tl.program_id(0) * P + tl.arange(0, P)
    in_channels, in_pixels = c < C, p < M
    column, row, frame = p % OW, p // OW % OH, p // OW // OH
    total = tl.zeros((P, B), tl.float32)
    for i in tl.static_range(K):
        h = row * S - TOP + i
        for j in tl.static_range(K):
            v = column * S - LEFT + j
            inside = in_pixels & (h >= 0) & (h < H) & (v >= 0) & (v < W)
            place = ((frame * H + h) * W + v).to(tl.int64) * C
            pixels = tl.load(x + place[:, None] + c[None, :], mask=inside[:, None] & in_channels[None, :], other=0.0)
            weights = tl.load(w + (i * K + j) * C + c, mask=in_channels, other=0.0)
            total += pixels.to(tl.float32) * weights.to(tl.float32)[None, :]
    place = p.to(tl.int64) * C
    mask = in_pixels[:, None] & in_channels[None, :]
    tl.store(y + place[:, None] + c[None, :], total.to(y.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=_SIZES)
def differentiate_input(
    dy, w, dx, N, H, W, OH, OW, C8, TOP, LEFT, S: tl.constexpr, K: tl.constexpr, P: tl.constexpr, B: tl.constexpr
):
    """Compute the gradient dx (N, H, W, C) from dy (N, OH, OW, C) and weights w (K, K, C).

    With a stride, pixels of x meet different weights: those in rows and columns of the same remainder by the stride
    meet the same ones. The third axis of the grid has a program for each pair of remainders.
    """
    C = C8 * 8
    c = tl.program_id(1) * B + tl.arange(0, B)
    p = tl.program_id(0) * P + tl.arange(0, P)
    row_rest, column_rest = tl.program_id(2) // S, tl.program_id(2) % S
    rows, columns = (H - row_rest + S - 1) // S, (W - column_rest + S - 1) // S
    h = p // columns % rows * S + row_rest
    v = p % columns * S + column_rest
    frame = p // columns // rows
    in_channels, in_pixels = c < C, p < N * rows * columns
    first_i, first_j = (row_rest + TOP) % S, (column_rest + LEFT) % S
    total = tl.zeros((P, B), tl.float32)
    for step_i in tl.static_range((K + S - 1) // S):
        i = first_i + step_i * S
        row = (h + TOP - i) // S
        in_rows = in_pixels & (i < K) & (h + TOP >= i) & (row < OH)
        for step_j in tl.static_range((K + S - 1) // S):
            j = first_j + step_j * S
            column = (v + LEFT - j) // S
            inside = in_rows & (j < K) & (v + LEFT >= j) & (column < OW)
            place = ((frame * OH + row) * OW + column).to(tl.int64) * C
            slopes = tl.load(dy + place[:, None] + c[None, :], mask=inside[:, None] & in_channels[None, :], other=0.0)
            weights = tl.load(w + (i * K + j) * C + c, mask=in_channels & (i < K) & (j < K), other=0.0)
            total += slopes.to(tl.float32) * weights.to(tl.float32)[None, :]
    place = ((frame * H + h) * W + v).to(tl.int64) * C
    mask = in_pixels[:, None] & in_channels[None, :]
    tl.store(dx + place[:, None] + c[None, :], total.to(dx.dtype.element_ty), mask=mask)


@triton.jit
def _product(slopes, x, place, inside, in_channels, c):
    pixels = tl.load(x + place[:, None] + c[None, :], mask=inside[:, None] & in_channels[None, :], other=0.0)
    return slopes * pixels.to(tl.float32)


@triton.jit(do_not_specialize=_SIZES)
def differentiate_weights(
    x,
    dy,
    parts,
    M,
    H,
    W,
    OH,
    OW,
    C8,
    TOP,
    LEFT,
    CHUNK,
    S: tl.constexpr,
    K: tl.constexpr,
    P: tl.constexpr,
    B: tl.constexpr,
):
    """Compute parts (chunks, C, K, K) of the gradient of the weights, each of a chunk of `CHUNK` pixels of dy.

    The third axis of the grid has a program for each row of weights, of up to five.
    """
    C = C8 * 8
    c = tl.program_id(1) * B + tl.arange(0, B)
    chunk, i = tl.program_id(0), tl.program_id(2)
    in_channels = c < C
    sum_0, sum_1, sum_2 = tl.zeros((P, B), tl.float32), tl.zeros((P, B), tl.float32), tl.zeros((P, B), tl.float32)
    sum_3, sum_4 = tl.zeros((P, B), tl.float32), tl.zeros((P, B), tl.float32)
    for start in range(chunk * CHUNK, tl.minimum(chunk * CHUNK + CHUNK, M), P):
        p = start + tl.arange(0, P)
        column, row, frame = p % OW, p // OW % OH, p // OW // OH
        place = p.to(tl.int64) * C
        mask = (p < M)[:, None] & in_channels[None, :]
        slopes = tl.load(dy + place[:, None] + c[None, :], mask=mask, other=0.0).to(tl.float32)
        h, v = row * S - TOP + i, column * S - LEFT
        in_rows = (p < M) & (h >= 0) & (h < H)
        place = ((frame * H + h) * W + v).to(tl.int64) * C
        sum_0 += _product(slopes, x, place, in_rows & (v >= 0) & (v < W), in_channels, c)
        sum_1 += _product(slopes, x, place + C, in_rows & (v >= -1) & (v < W - 1), in_channels, c)
        sum_2 += _product(slopes, x, place + 2 * C, in_rows & (v >= -2) & (v < W - 2), in_channels, c)
        if K == 5:
            sum_3 += _product(slopes, x, place + 3 * C, in_rows & (v >= -3) & (v < W - 3), in_channels, c)
            sum_4 += _product(slopes, x, place + 4 * C, in_rows & (v >= -4) & (v < W - 4), in_channels, c)
    out = parts + (chunk * C + c) * (K * K) + i * K
    tl.store(out, tl.sum(sum_0, 0), mask=in_channels)
    tl.store(out + 1, tl.sum(sum_1, 0), mask=in_channels)
    tl.store(out + 2, tl.sum(sum_2, 0), mask=in_channels)
    if K == 5:
        tl.store(out + 3, tl.sum(sum_3, 0), mask=in_channels)
        tl.store(out + 4, tl.sum(sum_4, 0), mask=in_channels)
