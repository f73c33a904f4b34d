"""Triton kernels of nerfacto's positions, hash encoding and proposal networks, forward and backward.

Tables and weights have the layout of nerfstudio's PyTorch `HashEncoding` and `MLP` (Müller et al. 2022). The hash has
32 bits instead of nerfstudio's 64, but the bits that are used are the same.

Names: R rays with S samples each, N = R x S points with the samples innermost, L levels of a table with 2^LOG2 rows of
two features, and H hidden units. Points (3, N) and features (2 L, N) are planar, so that a warp reads whole lines.
"""

from __future__ import annotations

import triton
import triton.language as tl

_P1 = tl.constexpr(2654435761 - 2**32)  # primes of the hash, as signed 32-bit numbers
_P2 = tl.constexpr(805459861)


@triton.jit
def _contract(x, y, z):
    """Contract a point into the cube from 0 to 1 (Barron et al. 2022). Return whether it is strictly inside."""
    size = tl.maximum(tl.abs(x), tl.maximum(tl.abs(y), tl.abs(z)))
    far = tl.where(size < 1.0, 1.0, size)
    k = tl.where(size < 1.0, 1.0, (2.0 - 1.0 / far) / far)
    u = (x * k + 2.0) / 4.0
    v = (y * k + 2.0) / 4.0
    w = (z * k + 2.0) / 4.0
    inside = (u > 0.0) & (u < 1.0) & (v > 0.0) & (v < 1.0) & (w > 0.0) & (w < 1.0)
    return tl.where(inside, u, 0.0), tl.where(inside, v, 0.0), tl.where(inside, w, 0.0), inside


@triton.jit
def _point(o_ptr, d_ptr, e_ptr, i, mask, S: tl.constexpr):
    """Contract the centre of sample i. e_ptr has the S + 1 edges of each ray's samples."""
    r = i // S
    at = r * (S + 1) + (i - r * S)
    t = (tl.load(e_ptr + at, mask=mask, other=0.0) + tl.load(e_ptr + at + 1, mask=mask, other=0.0)) / 2.0
    x = tl.load(o_ptr + r * 3, mask=mask, other=0.0) + tl.load(d_ptr + r * 3, mask=mask, other=0.0) * t
    y = tl.load(o_ptr + r * 3 + 1, mask=mask, other=0.0) + tl.load(d_ptr + r * 3 + 1, mask=mask, other=0.0) * t
    z = tl.load(o_ptr + r * 3 + 2, mask=mask, other=0.0) + tl.load(d_ptr + r * 3 + 2, mask=mask, other=0.0) * t
    return _contract(x, y, z)


@triton.jit
def _cell(x, y, z, scale):
    """Find the grid cell of a point, and the point's position in it, 0 to 1."""
    sx = x * scale
    sy = y * scale
    sz = z * scale
    bx = tl.floor(sx)
    by = tl.floor(sy)
    bz = tl.floor(sz)
    return bx.to(tl.int32), by.to(tl.int32), bz.to(tl.int32), sx - bx, sy - by, sz - bz


@triton.jit
def _row(ix, iy, iz, c: tl.constexpr, MASK: tl.constexpr):
    """Find the row of a level's table for corner c of a cell. The bits of c are x, y, z."""
    return ((ix + (c & 1)) ^ ((iy + ((c >> 1) & 1)) * _P1) ^ ((iz + ((c >> 2) & 1)) * _P2)) & MASK


@triton.jit
def _one(f, bit: tl.constexpr):
    if bit:
        return f
    else:
        return 1.0 - f


@triton.jit
def _two(table_ptr, row, mask):
    """Load both features of a row with one load of 64 bits."""
    both = tl.load(table_ptr + row, mask=mask, other=0)
    first = (both & 0xFFFFFFFF).to(tl.int32).to(tl.float32, bitcast=True)
    second = (both >> 32).to(tl.int32).to(tl.float32, bitcast=True)
    return first, second


@triton.jit
def _interpolate(table_ptr, x, y, z, scale, mask, MASK: tl.constexpr):
    """Interpolate a level's two features at points."""
    ix, iy, iz, fx, fy, fz = _cell(x, y, z, scale)
    a = fx * 0.0
    b = fx * 0.0
    for c in tl.static_range(8):
        v, w = _two(table_ptr, _row(ix, iy, iz, c, MASK), mask)
        weight = _one(fx, c & 1) * _one(fy, (c >> 1) & 1) * _one(fz, (c >> 2) & 1)
        a += weight * v
        b += weight * w
    return a, b


@triton.jit
def _spread(table_ptr, grad_ptr, x, y, z, scale, ga, gb, mask, MASK: tl.constexpr, POINTS: tl.constexpr):
    """Add the gradients ga, gb of a level's features to the table's. Return those of the points if POINTS."""
    ix, iy, iz, fx, fy, fz = _cell(x, y, z, scale)
    gx = fx * 0.0
    gy = fx * 0.0
    gz = fx * 0.0
    pair = tl.arange(0, 2)[None, :]
    for c in tl.static_range(8):
        row = _row(ix, iy, iz, c, MASK)
        wx = _one(fx, c & 1)
        wy = _one(fy, (c >> 1) & 1)
        wz = _one(fz, (c >> 2) & 1)
        weight = wx * wy * wz
        both = tl.join(ga * weight, gb * weight)
        tl.atomic_add(grad_ptr + row[:, None] * 2 + pair, both, mask=mask[:, None], sem="relaxed")
        if POINTS:
            v, w = _two(table_ptr, row, mask)
            s = ga * v + gb * w
            if c & 1:
                gx += wy * wz * s
            else:
                gx -= wy * wz * s
            if (c >> 1) & 1:
                gy += wx * wz * s
            else:
                gy -= wx * wz * s
            if (c >> 2) & 1:
                gz += wx * wy * s
            else:
                gz -= wx * wy * s
    return gx * scale, gy * scale, gz * scale


@triton.jit
def draw(
    random_ptr, pixel_ptr, first_ptr, size_ptr, table_ptr, lens_ptr, pose_ptr, valid_ptr, begin_ptr,
    o_ptr, d_ptr, camera_ptr, colour_ptr, images, R, MASKED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Draw random pixels, and load their rays and colours; see `photos.Photos`.

    With masks, valid_ptr lists the valid pixels of each photo, and begin_ptr says where each photo's list begins.
    """
    r = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = r < R
    camera = (tl.load(random_ptr + r * 3, mask=mask, other=0.0) * images).to(tl.int64)
    if MASKED:
        begin = tl.load(begin_ptr + camera, mask=mask, other=0)
        count = tl.load(begin_ptr + camera + 1, mask=mask, other=1) - begin
        drawn = (tl.load(random_ptr + r * 3 + 1, mask=mask, other=0.0) * count.to(tl.float32)).to(tl.int64)
        # In float32, a random number close to 1 times a large count rounds up to the count.
        pixel = tl.load(valid_ptr + begin + tl.minimum(drawn, count - 1), mask=mask, other=0).to(tl.int64)
    else:
        height = tl.load(size_ptr + camera * 2, mask=mask, other=1)
        width = tl.load(size_ptr + camera * 2 + 1, mask=mask, other=1)
        row = (tl.load(random_ptr + r * 3 + 1, mask=mask, other=0.0) * height.to(tl.float32)).to(tl.int64)
        column = (tl.load(random_ptr + r * 3 + 2, mask=mask, other=0.0) * width.to(tl.float32)).to(tl.int64)
        pixel = row * width + column
    pixel_at = (tl.load(first_ptr + camera, mask=mask, other=0) + pixel) * 3
    table_at = (tl.load(lens_ptr + camera, mask=mask, other=0) + pixel) * 3
    dx = tl.load(table_ptr + table_at, mask=mask, other=0.0)
    dy = tl.load(table_ptr + table_at + 1, mask=mask, other=0.0)
    dz = tl.load(table_ptr + table_at + 2, mask=mask, other=0.0)
    tl.store(camera_ptr + r, camera, mask=mask)
    for axis in tl.static_range(3):
        pose = pose_ptr + camera * 12 + axis * 4
        turned = tl.load(pose, mask=mask, other=0.0) * dx
        turned += tl.load(pose + 1, mask=mask, other=0.0) * dy
        turned += tl.load(pose + 2, mask=mask, other=0.0) * dz
        tl.store(d_ptr + r * 3 + axis, turned, mask=mask)
        tl.store(o_ptr + r * 3 + axis, tl.load(pose + 3, mask=mask, other=0.0), mask=mask)
        colour = tl.load(pixel_ptr + pixel_at + axis, mask=mask, other=0).to(tl.float32) / 255.0
        tl.store(colour_ptr + r * 3 + axis, colour, mask=mask)


@triton.jit
def points_forward(o_ptr, d_ptr, e_ptr, u_ptr, inside_ptr, N, S: tl.constexpr, BLOCK: tl.constexpr):
    """Contract the centres of all samples."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < N
    x, y, z, inside = _point(o_ptr, d_ptr, e_ptr, i, mask, S)
    tl.store(u_ptr + i, x, mask=mask)
    tl.store(u_ptr + N + i, y, mask=mask)
    tl.store(u_ptr + 2 * N + i, z, mask=mask)
    tl.store(inside_ptr + i, inside.to(tl.float32), mask=mask)


@triton.jit
def points_backward(o_ptr, d_ptr, e_ptr, gu_ptr, go_ptr, gd_ptr, N, S: tl.constexpr, WIDTH: tl.constexpr):
    """Propagate the gradients of a ray's contracted points to its origin and direction, one ray per program."""
    r = tl.program_id(0)
    s = tl.arange(0, WIDTH)
    mask = s < S
    at = e_ptr + r * (S + 1) + s
    t = (tl.load(at, mask=mask, other=0.0) + tl.load(at + 1, mask=mask, other=0.0)) / 2.0
    x = tl.load(o_ptr + r * 3) + tl.load(d_ptr + r * 3) * t
    y = tl.load(o_ptr + r * 3 + 1) + tl.load(d_ptr + r * 3 + 1) * t
    z = tl.load(o_ptr + r * 3 + 2) + tl.load(d_ptr + r * 3 + 2) * t
    ax = tl.abs(x)
    ay = tl.abs(y)
    az = tl.abs(z)
    size = tl.maximum(ax, tl.maximum(ay, az))
    far = tl.where(size < 1.0, 1.0, size)
    k = tl.where(size < 1.0, 1.0, (2.0 - 1.0 / far) / far)
    slope = tl.where(size < 1.0, 0.0, 2.0 / (far * far * far) - 2.0 / (far * far))
    u = (x * k + 2.0) / 4.0
    v = (y * k + 2.0) / 4.0
    w = (z * k + 2.0) / 4.0
    inside = (u > 0.0) & (u < 1.0) & (v > 0.0) & (v < 1.0) & (w > 0.0) & (w < 1.0) & mask
    i = r * S + s
    gx = tl.where(inside, tl.load(gu_ptr + i, mask=mask, other=0.0), 0.0) / 4.0
    gy = tl.where(inside, tl.load(gu_ptr + N + i, mask=mask, other=0.0), 0.0) / 4.0
    gz = tl.where(inside, tl.load(gu_ptr + 2 * N + i, mask=mask, other=0.0), 0.0) / 4.0
    along = (gx * x + gy * y + gz * z) * slope  # through the largest coordinate
    gx = gx * k + tl.where(ax == size, tl.where(x < 0, -along, along), 0.0)
    gy = gy * k + tl.where((ay == size) & (ax != size), tl.where(y < 0, -along, along), 0.0)
    gz = gz * k + tl.where((az == size) & (ax != size) & (ay != size), tl.where(z < 0, -along, along), 0.0)
    tl.store(go_ptr + r * 3, tl.sum(gx, 0))
    tl.store(go_ptr + r * 3 + 1, tl.sum(gy, 0))
    tl.store(go_ptr + r * 3 + 2, tl.sum(gz, 0))
    tl.store(gd_ptr + r * 3, tl.sum(gx * t, 0))
    tl.store(gd_ptr + r * 3 + 1, tl.sum(gy * t, 0))
    tl.store(gd_ptr + r * 3 + 2, tl.sum(gz * t, 0))


@triton.jit
def encode_forward(u_ptr, table_ptr, scale_ptr, out_ptr, N, LOG2: tl.constexpr, BLOCK: tl.constexpr):
    """Encode a block of points at one level. The level varies slowest, so that its table stays in the L2 cache."""
    level = tl.program_id(1)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < N
    x = tl.load(u_ptr + i, mask=mask, other=0.0)
    y = tl.load(u_ptr + N + i, mask=mask, other=0.0)
    z = tl.load(u_ptr + 2 * N + i, mask=mask, other=0.0)
    MASK: tl.constexpr = (1 << LOG2) - 1
    a, b = _interpolate(table_ptr + (level << LOG2), x, y, z, tl.load(scale_ptr + level), mask, MASK)
    tl.store(out_ptr + 2 * level * N + i, a.to(out_ptr.dtype.element_ty), mask=mask)
    tl.store(out_ptr + (2 * level + 1) * N + i, b.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def encode_backward(
    g_ptr, u_ptr, table_ptr, grad_ptr, scale_ptr, gu_ptr, N,
    LOG2: tl.constexpr, POINTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add the gradients of features to those of the table and, if POINTS, of the points."""
    level = tl.program_id(1)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < N
    x = tl.load(u_ptr + i, mask=mask, other=0.0)
    y = tl.load(u_ptr + N + i, mask=mask, other=0.0)
    z = tl.load(u_ptr + 2 * N + i, mask=mask, other=0.0)
    ga = tl.load(g_ptr + 2 * level * N + i, mask=mask, other=0.0).to(tl.float32)
    gb = tl.load(g_ptr + (2 * level + 1) * N + i, mask=mask, other=0.0).to(tl.float32)
    mask = mask & ((ga != 0.0) | (gb != 0.0))  # behind a surface, gradients are zero
    MASK: tl.constexpr = (1 << LOG2) - 1
    gx, gy, gz = _spread(
        table_ptr + (level << LOG2), grad_ptr + (level << LOG2) * 2, x, y, z, tl.load(scale_ptr + level), ga, gb, mask,
        MASK, POINTS,
    )  # fmt: skip
    if POINTS:
        tl.atomic_add(gu_ptr + i, gx, mask=mask, sem="relaxed")
        tl.atomic_add(gu_ptr + N + i, gy, mask=mask, sem="relaxed")
        tl.atomic_add(gu_ptr + 2 * N + i, gz, mask=mask, sem="relaxed")


@triton.jit
def _proposal(
    x, y, z, mask, table_ptr, scale_ptr, w1_ptr, b1_ptr, w2_ptr, b2_ptr,
    L: tl.constexpr, H: tl.constexpr, LOG2: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Evaluate a proposal network: encoding, one hidden layer. Return that layer before its ReLU, and the logarithm of
    the density."""
    j = tl.arange(0, H)
    MASK: tl.constexpr = (1 << LOG2) - 1
    h = tl.zeros((BLOCK, H), tl.float32) + tl.load(b1_ptr + j)[None, :]
    for level in range(L):
        a, b = _interpolate(table_ptr + (level << LOG2), x, y, z, tl.load(scale_ptr + level), mask, MASK)
        h += a[:, None] * tl.load(w1_ptr + j * (2 * L) + 2 * level)[None, :]
        h += b[:, None] * tl.load(w1_ptr + j * (2 * L) + 2 * level + 1)[None, :]
    exponent = tl.sum(tl.maximum(h, 0.0) * tl.load(w2_ptr + j)[None, :], 1) + tl.load(b2_ptr)
    return h, exponent


@triton.jit
def density_forward(
    o_ptr, d_ptr, e_ptr, table_ptr, scale_ptr, w1_ptr, b1_ptr, w2_ptr, b2_ptr, out_ptr, N, factor,
    S: tl.constexpr, L: tl.constexpr, H: tl.constexpr, LOG2: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Evaluate a proposal network's densities at the centres of all samples."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < N
    x, y, z, inside = _point(o_ptr, d_ptr, e_ptr, i, mask, S)
    _, exponent = _proposal(x, y, z, mask, table_ptr, scale_ptr, w1_ptr, b1_ptr, w2_ptr, b2_ptr, L, H, LOG2, BLOCK)
    tl.store(out_ptr + i, tl.where(inside, factor * tl.exp(exponent), 0.0), mask=mask)


@triton.jit
def density_backward(
    o_ptr, d_ptr, e_ptr, table_ptr, scale_ptr, w1_ptr, b1_ptr, w2_ptr, b2_ptr, g_ptr,
    grad_ptr, gw1_ptr, gb1_ptr, gw2_ptr, gb2_ptr, gu_ptr, N, factor,
    S: tl.constexpr, L: tl.constexpr, C: tl.constexpr, H: tl.constexpr, LOG2: tl.constexpr, POINTS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Add the gradients of a proposal network's densities to its parameters', and to the points' if POINTS.

    C is the number of features, 2 L, or the next power of two. A program computes several blocks and adds the weights'
    gradients once, because all programs add to the same few numbers.
    """
    j = tl.arange(0, H)
    c = tl.arange(0, C)[None, :]
    w2 = tl.load(w2_ptr + j)[None, :]
    MASK: tl.constexpr = (1 << LOG2) - 1
    gw1 = tl.zeros((H, C), tl.float32)
    gb1 = tl.zeros((H,), tl.float32)
    gw2 = tl.zeros((H,), tl.float32)
    gb2 = tl.zeros((BLOCK,), tl.float32)
    for block in range(tl.program_id(0), tl.cdiv(N, BLOCK), tl.num_programs(0)):
        i = block * BLOCK + tl.arange(0, BLOCK)
        mask = i < N
        x, y, z, inside = _point(o_ptr, d_ptr, e_ptr, i, mask, S)
        h, exponent = _proposal(x, y, z, mask, table_ptr, scale_ptr, w1_ptr, b1_ptr, w2_ptr, b2_ptr, L, H, LOG2, BLOCK)
        g = tl.load(g_ptr + i, mask=mask, other=0.0)
        # Like nerfstudio (`trunc_exp`), clamp only the exponent of the gradient.
        g = tl.where(inside & mask, g * factor * tl.exp(tl.minimum(tl.maximum(exponent, -15.0), 15.0)), 0.0)
        gb2 += g
        gw2 += tl.sum(tl.maximum(h, 0.0) * g[:, None], 0)
        gh = tl.where(h > 0.0, g[:, None] * w2, 0.0)
        gb1 += tl.sum(gh, 0)
        active = mask & (g != 0.0)
        gx = x * 0.0
        gy = x * 0.0
        gz = x * 0.0
        for level in range(L):
            scale = tl.load(scale_ptr + level)
            a, b = _interpolate(table_ptr + (level << LOG2), x, y, z, scale, active, MASK)
            gw1 += tl.where(c == 2 * level, tl.sum(gh * a[:, None], 0)[:, None], 0.0)
            gw1 += tl.where(c == 2 * level + 1, tl.sum(gh * b[:, None], 0)[:, None], 0.0)
            ga = tl.sum(gh * tl.load(w1_ptr + j * (2 * L) + 2 * level)[None, :], 1)
            gb = tl.sum(gh * tl.load(w1_ptr + j * (2 * L) + 2 * level + 1)[None, :], 1)
            px, py, pz = _spread(
                table_ptr + (level << LOG2), grad_ptr + (level << LOG2) * 2, x, y, z, scale, ga, gb, active, MASK,
                POINTS,
            )  # fmt: skip
            gx += px
            gy += py
            gz += pz
        if POINTS:
            tl.store(gu_ptr + i, gx, mask=mask)
            tl.store(gu_ptr + N + i, gy, mask=mask)
            tl.store(gu_ptr + 2 * N + i, gz, mask=mask)
    tl.atomic_add(gw1_ptr + j[:, None] * (2 * L) + c, gw1, mask=(j[:, None] < H) & (c < 2 * L), sem="relaxed")
    tl.atomic_add(gb1_ptr + j, gb1, sem="relaxed")
    tl.atomic_add(gw2_ptr + j, gw2, sem="relaxed")
    tl.atomic_add(gb2_ptr, tl.sum(gb2, 0), sem="relaxed")
