"""Triton kernels of batch normalisation with the activation after it, on frames whose channels lie together.

Ioffe and Szegedy, "Batch Normalization", ICML 2015, section 3. Frames are `M` pixels by C channels; `C8` are eighths of
the channels, so that the compiler knows that eight channels can be read at once. Sums are float32, and no sum depends
on the order in which programs run: the same inputs give the same bits. Sums over pixels are taken in chunks of `CHUNK`
pixels, a part for each (parts: chunks, 2, C), and the parts are added up afterwards.

Sums of squares are of differences from the first pixel, so that a mean far from zero costs no digits.

`ACTIVATION`: 0 none, 1 ReLU, 2 ReLU6. Backward, what the activation has cut off is computed anew from the input.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, misc"
# ruff: noqa: N803, N806  (sizes are capital letters, as in Triton's own kernels)

from __future__ import annotations

import triton
import triton.language as tl

_SIZES = ["M", "C8", "CHUNK", "COUNT"]
"""Arguments whose values don't make the compiler compile a kernel anew."""


@triton.jit(do_not_specialize=_SIZES)
def sum_inputs(x, parts, M, C8, CHUNK, P: tl.constexpr, B: tl.constexpr):
    """Sum the differences of each channel from its first pixel, and their squares."""
    C = C8 * 8
    c = tl.program_id(1) * B + tl.arange(0, B)
    in_channels, chunk = c < C, tl.program_id(0)
    first = tl.load(x + c, mask=in_channels, other=0.0).to(tl.float32)
    total, squares = tl.zeros((P, B), tl.float32), tl.zeros((P, B), tl.float32)
    for start in range(chunk * CHUNK, tl.minimum(chunk * CHUNK + CHUNK, M), P):
        p = start + tl.arange(0, P)
        mask = (p < M)[:, None] & in_channels[None, :]
        place = p.to(tl.int64) * C
        pixels = tl.load(x + place[:, None] + c[None, :], mask=mask, other=0.0).to(tl.float32) - first[None, :]
        pixels = tl.where(mask, pixels, 0.0)
        total += pixels
        squares += pixels * pixels
    tl.store(parts + chunk * 2 * C + c, tl.sum(total, 0), mask=in_channels)
    tl.store(parts + chunk * 2 * C + C + c, tl.sum(squares, 0), mask=in_channels)


@triton.jit
def _add_parts(parts, c, in_channels, C, COUNT, R: tl.constexpr, B: tl.constexpr):
    first, second = tl.zeros((R, B), tl.float32), tl.zeros((R, B), tl.float32)
    for start in range(0, COUNT, R):
        chunk = start + tl.arange(0, R)
        mask = (chunk < COUNT)[:, None] & in_channels[None, :]
        place = (chunk * 2 * C)[:, None] + c[None, :]
        first += tl.load(parts + place, mask=mask, other=0.0)
        second += tl.load(parts + place + C, mask=mask, other=0.0)
    return tl.sum(first, 0), tl.sum(second, 0)


@triton.jit(do_not_specialize=_SIZES)
def finish_statistics(
    x,
    parts,
    mean,
    scale,
    running_mean,
    running_var,
    n_batches,
    M,
    C8,
    COUNT,
    eps,
    rate,
    R: tl.constexpr,
    B: tl.constexpr,
):
    """Compute the mean and 1 / standard deviation of each channel, and update the running mean and variance.

    The running variance is of M - 1, as torch has it; `rate` is the share of the new batch. Adds one to `n_batches`.
    """
    C = C8 * 8
    c = tl.program_id(0) * B + tl.arange(0, B)
    in_channels = c < C
    total, squares = _add_parts(parts, c, in_channels, C, COUNT, R, B)
    shift = total / M
    variance = tl.maximum(squares / M - shift * shift, 0.0)
    centre = shift + tl.load(x + c, mask=in_channels, other=0.0).to(tl.float32)
    tl.store(mean + c, centre, mask=in_channels)
    tl.store(scale + c, 1.0 / tl.sqrt_rn(variance + eps), mask=in_channels)
    old_mean = tl.load(running_mean + c, mask=in_channels, other=0.0)
    old_var = tl.load(running_var + c, mask=in_channels, other=0.0)
    tl.store(running_mean + c, old_mean + rate * (centre - old_mean), mask=in_channels)
    tl.store(running_var + c, old_var + rate * (variance * (M / (M - 1.0)) - old_var), mask=in_channels)
    if tl.program_id(0) == 0:
        tl.store(n_batches, tl.load(n_batches) + 1)


@triton.jit(do_not_specialize=_SIZES)
def normalise(x, y, mean, scale, weight, bias, M, C8, ACTIVATION: tl.constexpr, P: tl.constexpr, B: tl.constexpr):
    """Compute activation((x - mean) * scale * weight + bias)."""
    C = C8 * 8
    c = tl.program_id(1) * B + tl.arange(0, B)
    p = tl.program_id(0) * P + tl.arange(0, P)
    in_channels = c < C
    mask = (p < M)[:, None] & in_channels[None, :]
    factor = tl.load(weight + c, mask=in_channels, other=0.0) * tl.load(scale + c, mask=in_channels, other=0.0)
    offset = tl.load(bias + c, mask=in_channels, other=0.0) - factor * tl.load(mean + c, mask=in_channels, other=0.0)
    place = (p.to(tl.int64) * C)[:, None] + c[None, :]
    out = tl.load(x + place, mask=mask, other=0.0).to(tl.float32) * factor[None, :] + offset[None, :]
    if ACTIVATION >= 1:
        out = tl.maximum(out, 0.0, propagate_nan=tl.PropagateNan.ALL)
    if ACTIVATION == 2:
        out = tl.minimum(out, 6.0, propagate_nan=tl.PropagateNan.ALL)
    tl.store(y + place, out.to(y.dtype.element_ty), mask=mask)


@triton.jit
def _slopes(x, dy, place, mask, c, in_channels, mean, scale, weight, bias, ACTIVATION: tl.constexpr):
    """Load normalised pixels, and the gradient before the activation."""
    centre = tl.load(mean + c, mask=in_channels, other=0.0)[None, :]
    factor = tl.load(scale + c, mask=in_channels, other=0.0)[None, :]
    normal = (tl.load(x + place, mask=mask, other=0.0).to(tl.float32) - centre) * factor
    slopes = tl.load(dy + place, mask=mask, other=0.0).to(tl.float32)
    if ACTIVATION >= 1:
        gamma = tl.load(weight + c, mask=in_channels, other=0.0)[None, :]
        out = normal * gamma + tl.load(bias + c, mask=in_channels, other=0.0)[None, :]
        slopes = tl.where(out <= 0.0, 0.0, slopes)
        if ACTIVATION == 2:
            slopes = tl.where(out >= 6.0, 0.0, slopes)
    return normal, slopes


@triton.jit(do_not_specialize=_SIZES)
def sum_gradients(
    x,
    dy,
    parts,
    mean,
    scale,
    weight,
    bias,
    M,
    C8,
    CHUNK,
    ACTIVATION: tl.constexpr,
    P: tl.constexpr,
    B: tl.constexpr,
):
    """Sum the gradients before the activation, and their products with the normalised pixels."""
    C = C8 * 8
    c = tl.program_id(1) * B + tl.arange(0, B)
    in_channels, chunk = c < C, tl.program_id(0)
    total, products = tl.zeros((P, B), tl.float32), tl.zeros((P, B), tl.float32)
    for start in range(chunk * CHUNK, tl.minimum(chunk * CHUNK + CHUNK, M), P):
        p = start + tl.arange(0, P)
        mask = (p < M)[:, None] & in_channels[None, :]
        place = (p.to(tl.int64) * C)[:, None] + c[None, :]
        normal, slopes = _slopes(x, dy, place, mask, c, in_channels, mean, scale, weight, bias, ACTIVATION)
        total += slopes
        products += slopes * normal
    tl.store(parts + chunk * 2 * C + c, tl.sum(total, 0), mask=in_channels)
    tl.store(parts + chunk * 2 * C + C + c, tl.sum(products, 0), mask=in_channels)


@triton.jit(do_not_specialize=_SIZES)
def finish_gradients(parts, d_weight, d_bias, C8, COUNT, R: tl.constexpr, B: tl.constexpr):
    """Compute the gradients of the weight and the bias of each channel."""
    C = C8 * 8
    c = tl.program_id(0) * B + tl.arange(0, B)
    in_channels = c < C
    total, products = _add_parts(parts, c, in_channels, C, COUNT, R, B)
    tl.store(d_bias + c, total, mask=in_channels)
    tl.store(d_weight + c, products, mask=in_channels)


@triton.jit(do_not_specialize=_SIZES)
def differentiate_input(
    x,
    dy,
    dx,
    mean,
    scale,
    weight,
    bias,
    d_weight,
    d_bias,
    M,
    C8,
    ACTIVATION: tl.constexpr,
    P: tl.constexpr,
    B: tl.constexpr,
):
    """Compute the gradient of the input, from those of the weight and the bias."""
    C = C8 * 8
    c = tl.program_id(1) * B + tl.arange(0, B)
    p = tl.program_id(0) * P + tl.arange(0, P)
    in_channels = c < C
    mask = (p < M)[:, None] & in_channels[None, :]
    place = (p.to(tl.int64) * C)[:, None] + c[None, :]
    normal, slopes = _slopes(x, dy, place, mask, c, in_channels, mean, scale, weight, bias, ACTIVATION)
    of_bias = tl.load(d_bias + c, mask=in_channels, other=0.0)[None, :] / M
    of_weight = tl.load(d_weight + c, mask=in_channels, other=0.0)[None, :] / M
    factor = tl.load(weight + c, mask=in_channels, other=0.0) * tl.load(scale + c, mask=in_channels, other=0.0)
    out = factor[None, :] * (slopes - of_bias - normal * of_weight)
    tl.store(dx + place, out.to(dx.dtype.element_ty), mask=mask)
