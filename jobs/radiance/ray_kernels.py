"""Triton kernels of what happens along rays: weights, resampling and losses.

Names as in `kernels`. One program computes one ray, whose samples are one block of WIDTH, a power of two. Bins are
positions along a ray from 0 to 1, and edges are the same in distances from the camera.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _evened(distance):
    return tl.where(distance < 1.0, distance / 2.0, 1.0 - 1.0 / (2.0 * distance))


@triton.jit
def _distance(bins, near, far):
    """Convert positions from 0 to 1 to distances along rays: linear up to a distance of 1, then in disparity."""
    x = bins * _evened(far) + (1.0 - bins) * _evened(near)
    return tl.where(x < 0.5, 2.0 * x, 1.0 / (2.0 - 2.0 * x))


@triton.jit
def first_edges(
    jitter_ptr, near_ptr, far_ptr, bin_ptr, edge_ptr, near_stride, far_stride, N,
    S: tl.constexpr, JITTER: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Divide rays into S equal bins; with JITTER, move a ray's inner edges by one random number."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < N
    r = i // (S + 1)
    j = (i - r * (S + 1)).to(tl.float32)
    if JITTER:
        lower = tl.maximum(j - 0.5, 0.0) / S
        upper = tl.minimum(j + 0.5, S) / S
        bins = lower + (upper - lower) * tl.load(jitter_ptr + r, mask=mask, other=0.0)
    else:
        bins = j / S
    near = tl.load(near_ptr + r * near_stride, mask=mask, other=1.0)
    far = tl.load(far_ptr + r * far_stride, mask=mask, other=1.0)
    tl.store(bin_ptr + i, bins, mask=mask)
    tl.store(edge_ptr + i, _distance(bins, near, far), mask=mask)


@triton.jit
def resample(
    cdf_ptr, bin_ptr, jitter_ptr, near_ptr, far_ptr, next_ptr, edge_ptr, jitter_stride, near_stride, far_stride, N,
    S: tl.constexpr, T: tl.constexpr, STEPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Find the T + 1 edges of the next samples at quantiles of `weights_forward`'s distribution over S bins.

    STEPS is the number of steps of the binary search, with S < 2^STEPS.
    """
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < N
    r = i // (T + 1)
    cdf = cdf_ptr + r * S
    bins = bin_ptr + r * (S + 1)
    quantile = (i - r * (T + 1)).to(tl.float32) + tl.load(jitter_ptr + r * jitter_stride, mask=mask, other=0.0)
    quantile = quantile / (T + 1)
    low = r * 0
    high = low + S
    for _ in tl.static_range(STEPS):
        middle = (low + high) // 2
        searching = mask & (low < high)
        value = tl.load(cdf + middle, mask=searching, other=0.0)
        low = tl.where(searching & (value <= quantile), middle + 1, low)
        high = tl.where(searching & (value > quantile), middle, high)
    c0 = tl.load(cdf + low - 1, mask=mask & (low > 0), other=0.0)
    c1 = tl.load(cdf + tl.minimum(low, S - 1), mask=mask, other=1.0)
    b0 = tl.load(bins + low, mask=mask, other=0.0)
    b1 = tl.load(bins + tl.minimum(low + 1, S), mask=mask, other=0.0)
    t = tl.where(c1 > c0, (quantile - c0) / tl.where(c1 > c0, c1 - c0, 1.0), 0.0)
    found = b0 + tl.minimum(tl.maximum(t, 0.0), 1.0) * (b1 - b0)
    near = tl.load(near_ptr + r * near_stride, mask=mask, other=1.0)
    far = tl.load(far_ptr + r * far_stride, mask=mask, other=1.0)
    tl.store(next_ptr + i, found, mask=mask)
    tl.store(edge_ptr + i, _distance(found, near, far), mask=mask)


@triton.jit
def _thickness(density_ptr, edge_ptr, s, mask):
    """Load optical thicknesses of a ray's samples s, 0 where masked. Also return the samples' lengths."""
    edge = tl.load(edge_ptr + s, mask=mask, other=0.0)
    length = tl.load(edge_ptr + s + 1, mask=mask, other=0.0) - edge
    return length * tl.load(density_ptr + s, mask=mask, other=0.0), length


@triton.jit
def _weigh(here, before):
    """Compute weights of thicknesses and of those of each sample's predecessor. Also return the transmittances.

    Predecessors are separate, because an infinite thickness cannot be subtracted from a sum.
    """
    through = tl.exp(-tl.cumsum(before, 0))
    weights = (1.0 - tl.exp(-here)) * through
    return tl.where(weights == weights, weights, 0.0), through  # not NaN


@triton.jit
def weights_forward(
    density_ptr, edge_ptr, anneal_ptr, weight_ptr, cdf_ptr, S: tl.constexpr, WIDTH: tl.constexpr, ANNEAL: tl.constexpr
):
    """Compute the weights of a ray's samples, and the distribution from which `resample` draws the next samples."""
    r = tl.program_id(0)
    s = tl.arange(0, WIDTH)
    mask = s < S
    density = density_ptr + r * S
    edges = edge_ptr + r * (S + 1)
    here, _ = _thickness(density, edges, s, mask)
    before, _ = _thickness(density, edges, s - 1, (s > 0) & mask)
    weights, _ = _weigh(here, before)
    tl.store(weight_ptr + r * S + s, weights, mask=mask)
    if ANNEAL:
        power = tl.load(anneal_ptr)
        positive = weights > 0.0
        raised = tl.exp2(power * tl.log2(tl.where(positive, weights, 1.0)))
        weights = tl.where(positive, raised, tl.where(power == 0.0, 1.0, 0.0))
    padded = tl.where(mask, weights + 0.01, 0.0)
    cdf = tl.minimum(tl.cumsum(padded / tl.sum(padded, 0), 0), 1.0)
    tl.store(cdf_ptr + r * S + s, cdf, mask=mask)


@triton.jit
def weights_backward(density_ptr, edge_ptr, g_ptr, out_ptr, S: tl.constexpr, WIDTH: tl.constexpr):
    """Propagate the gradients of a ray's weights to its densities."""
    r = tl.program_id(0)
    s = tl.arange(0, WIDTH)
    mask = s < S
    density = density_ptr + r * S
    edges = edge_ptr + r * (S + 1)
    here, length = _thickness(density, edges, s, mask)
    before, _ = _thickness(density, edges, s - 1, (s > 0) & mask)
    weights, through = _weigh(here, before)
    g = tl.load(g_ptr + r * S + s, mask=mask, other=0.0)
    tl.store(out_ptr + r * S + s, _to_thickness(g, weights, here, through) * length, mask=mask)


@triton.jit
def _to_thickness(g, weights, here, through):
    """Convert gradients of weights to those of thicknesses. They are exactly zero behind a surface."""
    seen = g * weights
    behind = tl.cumsum(seen, 0, reverse=True) - seen
    own = tl.exp(-here) * through
    return tl.where(own == own, g * own - behind, 0.0)  # NaN weights count as zero


@triton.jit
def interlevel(
    bin_ptr, weight_ptr, outer_bin_ptr, outer_weight_ptr, loss_ptr, g_ptr,
    T: tl.constexpr, S: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Compute a ray's interlevel loss, and its gradient with respect to the proposal's weights.

    A weight of the field's T samples should not exceed the sum of the weights of those S bins that it overlaps.
    """
    r = tl.program_id(0)
    s = tl.arange(0, WIDTH)
    mask = s < S
    # The first and the last bin reach beyond 0 and 1. Bins that do not exist begin beyond 1.
    begin = tl.load(outer_bin_ptr + r * (S + 1) + s, mask=mask, other=2.0)
    begin = tl.where(s == 0, -1.0, begin)[None, :]
    end = tl.load(outer_bin_ptr + r * (S + 1) + s + 1, mask=mask, other=2.0)
    end = tl.where(s == S - 1, 2.0, end)[None, :]
    outer = tl.load(outer_weight_ptr + r * S + s, mask=mask, other=0.0)[None, :]
    g = tl.zeros((WIDTH,), tl.float32)
    loss = tl.zeros((ROWS,), tl.float32)
    for start in range(0, T, ROWS):
        t = start + tl.arange(0, ROWS)
        inner = t < T
        low = tl.load(bin_ptr + r * (T + 1) + t, mask=inner, other=0.0)[:, None]
        high = tl.load(bin_ptr + r * (T + 1) + t + 1, mask=inner, other=0.0)[:, None]
        weights = tl.load(weight_ptr + r * T + t, mask=inner, other=0.0)
        overlap = (end > low) & (begin <= high)
        excess = tl.maximum(weights - tl.sum(tl.where(overlap, outer, 0.0), 1), 0.0)
        slope = excess / (weights + 1e-7)
        loss += excess * slope
        g -= tl.sum(tl.where(overlap, 2.0 * slope[:, None], 0.0), 0)
    tl.store(loss_ptr + r, tl.sum(loss, 0))
    tl.store(g_ptr + r * S + s, g, mask=mask)


@triton.jit
def _load_density(x_ptr, inside_ptr, i, x_stride, mask, factor):
    """Load exponents of densities and compute the densities, 0 where masked."""
    x = tl.load(x_ptr + i * x_stride, mask=mask, other=0.0).to(tl.float32)
    inside = tl.load(inside_ptr + i, mask=mask, other=0.0)
    return x, factor * tl.exp(x) * inside, inside


@triton.jit
def _shade(x_ptr, inside_ptr, edge_ptr, bin_ptr, r, s, x_stride, factor, S: tl.constexpr):
    """Compute the weights of a ray's samples, what their gradient needs, and the samples' positions."""
    mask = s < S
    at = r * S + s
    edge = edge_ptr + r * (S + 1) + s
    middle = tl.load(edge, mask=mask, other=0.0)
    length = tl.load(edge + 1, mask=mask, other=0.0) - middle
    earlier = middle - tl.load(edge - 1, mask=mask & (s > 0), other=0.0)
    x, density, inside = _load_density(x_ptr, inside_ptr, at, x_stride, mask, factor)
    _, density_before, _ = _load_density(x_ptr, inside_ptr, at - 1, x_stride, mask & (s > 0), factor)
    here = length * density
    weights, through = _weigh(here, tl.where(mask & (s > 0), earlier * density_before, 0.0))
    low = tl.load(bin_ptr + r * (S + 1) + s, mask=mask, other=0.0)
    high = tl.load(bin_ptr + r * (S + 1) + s + 1, mask=mask, other=0.0)
    slope = length * factor * tl.exp(tl.minimum(tl.maximum(x, -15.0), 15.0)) * inside  # of the thickness
    return weights, through, here, slope, (low + high) / 2.0, high - low


@triton.jit
def _colour(logit_ptr, r, s, axis: tl.constexpr, S: tl.constexpr):
    logit = tl.load(logit_ptr + (r * S + s) * 3 + axis, mask=s < S, other=0.0).to(tl.float32)
    rgb = 1.0 / (1.0 + tl.exp(-logit))
    return rgb, tl.sum(tl.where(s == S - 1, rgb, 0.0), 0)


@triton.jit
def losses_forward(
    x_ptr, inside_ptr, logit_ptr, edge_ptr, bin_ptr, truth_ptr, error_ptr, distortion_ptr, weight_ptr,
    x_stride, factor, S: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Compute a ray's squared error of the colour, its distortion, and the weights of its samples.

    The background has the last sample's colour. The samples are sorted, so the distortion takes linear time.
    """
    r = tl.program_id(0)
    s = tl.arange(0, WIDTH)
    weights, _, _, _, middle, size = _shade(x_ptr, inside_ptr, edge_ptr, bin_ptr, r, s, x_stride, factor, S)
    error = 0.0
    for axis in tl.static_range(3):
        rgb, last = _colour(logit_ptr, r, s, axis, S)
        differs = tl.sum(weights * (rgb - last), 0) + last - tl.load(truth_ptr + r * 3 + axis)
        error += differs * differs
    mass = tl.cumsum(weights, 0)
    moment = tl.cumsum(weights * middle, 0)
    between = 2.0 * tl.sum(weights * (middle * mass - moment), 0)
    tl.store(error_ptr + r, error / 3.0)
    tl.store(distortion_ptr + r, between + tl.sum(weights * weights * size, 0) / 3.0)
    tl.store(weight_ptr + r * S + s, weights, mask=s < S)


@triton.jit
def losses_backward(
    x_ptr, inside_ptr, logit_ptr, edge_ptr, bin_ptr, truth_ptr, g_error_ptr, g_distortion_ptr, gx_ptr, g_logit_ptr,
    x_stride, factor, share, S: tl.constexpr, WIDTH: tl.constexpr, SCALED: tl.constexpr,
):  # fmt: skip
    """Propagate the gradients of the two means over rays to the exponents of densities and to the logits.

    share is one ray's share of a mean over rays. If SCALED, gradients closer than 1 to the camera are multiplied by
    the square of the distance: more rays pass through a volume there (Philip and Deschaintre 2023).
    """
    r = tl.program_id(0)
    s = tl.arange(0, WIDTH)
    mask = s < S
    weights, through, here, slope, middle, size = _shade(
        x_ptr, inside_ptr, edge_ptr, bin_ptr, r, s, x_stride, factor, S
    )
    mass = tl.cumsum(weights, 0)
    moment = tl.cumsum(weights * middle, 0)
    total = tl.sum(weights, 0)
    beyond = tl.sum(weights * middle, 0) - moment - middle * (total - mass)
    g = 2.0 * (middle * mass - moment + beyond) + 2.0 / 3.0 * weights * size
    g = g * tl.load(g_distortion_ptr) * share
    g_error = 2.0 * tl.load(g_error_ptr) * share / 3.0
    kept = 1.0
    if SCALED:
        distance = _centre(edge_ptr, r, s, S)
        kept = tl.minimum(distance * distance, 1.0)
    for axis in tl.static_range(3):
        rgb, last = _colour(logit_ptr, r, s, axis, S)
        differs = tl.sum(weights * (rgb - last), 0) + last - tl.load(truth_ptr + r * 3 + axis)
        differs = differs * g_error
        g += differs * (rgb - last)
        part = weights + tl.where(s == S - 1, 1.0 - total, 0.0)
        g_logit = differs * part * rgb * (1.0 - rgb) * kept
        tl.store(g_logit_ptr + (r * S + s) * 3 + axis, g_logit.to(g_logit_ptr.dtype.element_ty), mask=mask)
    gx = _to_thickness(g, weights, here, through) * slope * kept
    tl.store(gx_ptr + r * S + s, gx.to(gx_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _median(weights, middle, s, S: tl.constexpr):
    """Find the distance at which half of a ray's weight is reached."""
    before = tl.sum(((tl.cumsum(weights, 0) < 0.5) & (s < S)).to(tl.int32), 0)
    return tl.sum(tl.where(s == tl.minimum(before, S - 1), middle, 0.0), 0)


@triton.jit
def _centre(edge_ptr, r, s, S: tl.constexpr):
    edge = edge_ptr + r * (S + 1) + s
    return (tl.load(edge, mask=s < S, other=0.0) + tl.load(edge + 1, mask=s < S, other=0.0)) / 2.0


@triton.jit
def median(weight_ptr, edge_ptr, out_ptr, S: tl.constexpr, WIDTH: tl.constexpr):
    """Compute a ray's median depth."""
    r = tl.program_id(0)
    s = tl.arange(0, WIDTH)
    weights = tl.load(weight_ptr + r * S + s, mask=s < S, other=0.0)
    tl.store(out_ptr + r, _median(weights, _centre(edge_ptr, r, s, S), s, S))


@triton.jit
def picture(
    x_ptr, inside_ptr, logit_ptr, edge_ptr, background_ptr, rgb_ptr, seen_ptr, depth_ptr, expected_ptr,
    x_stride, factor, S: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Compute what a picture shows of a ray. A background of NaN means the last sample's colour."""
    r = tl.program_id(0)
    s = tl.arange(0, WIDTH)
    # With edges for bins, positions are distances.
    weights, _, _, _, middle, _ = _shade(x_ptr, inside_ptr, edge_ptr, edge_ptr, r, s, x_stride, factor, S)
    seen = tl.sum(weights, 0)
    for axis in tl.static_range(3):
        rgb, last = _colour(logit_ptr, r, s, axis, S)
        rgb = tl.where(rgb == rgb, rgb, 0.0)
        behind = tl.load(background_ptr + axis)
        behind = tl.where(behind == behind, behind, tl.where(last == last, last, 0.0))
        shown = tl.sum(weights * rgb, 0) + behind * (1.0 - seen)
        tl.store(rgb_ptr + r * 3 + axis, tl.minimum(tl.maximum(shown, 0.0), 1.0))
    first = tl.sum(tl.where(s == 0, middle, 0.0), 0)
    last_middle = tl.sum(tl.where(s == S - 1, middle, 0.0), 0)
    expected = tl.sum(weights * middle, 0) / (seen + 1e-10)
    tl.store(seen_ptr + r, seen)
    tl.store(depth_ptr + r, _median(weights, middle, s, S))
    tl.store(expected_ptr + r, tl.minimum(tl.maximum(expected, first), last_middle))
