"""Niantic's SPZ format, version 3: Gaussians in about a tenth of their PLY file.

Gzip of a header of 16 bytes and the attributes, one after the other, each quantised to one to four bytes; axes are
right, up, back (+Y up). After the README and `load-spz.cc` of https://github.com/nianticlabs/spz (MIT licence).
"""

from __future__ import annotations

import gzip
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.errors import InvalidInput
from jobs.gaussians import Array, Gaussians

__all__ = ["pack", "unpack"]

_HEADER = struct.Struct("<IIIBBBB")  # magic, version, number, degree of harmonics, fractional bits, flags, reserved
_MAGIC, _VERSION = 0x5053474E, 3
_MOST_BITS = 16  # of a coordinate's fraction: 0.015 mm, were the unit a metre
_COLOUR = 0.15  # not SH_0: leaves room for colours that the higher harmonics bring back into range
_BUCKETS = np.array([8] * 3 + [16] * 12, dtype=np.int32)  # 5 bits are kept of degree 1, 4 of the others
_PER_UNIT = 511 * np.sqrt(2)  # of a quaternion's smaller components, which are at most √½, in 9 bits and a sign


def pack(gaussians: Gaussians) -> bytes:
    """The content of a `.spz` file.

    Args:
        gaussians: with +Y up, of degree 3 at most. Coefficients of harmonics beyond ±1, and standard deviations
            beyond e⁻¹⁰ and e⁵·⁹, are cut off there.
    """
    means, sh = gaussians.means, gaussians.sh
    farthest = float(np.abs(means).max(initial=1e-3))
    bits = min(_MOST_BITS, int(np.floor(np.log2((2**23 - 1) / farthest))))
    if bits < 0:
        raise InvalidInput(f"a Gaussian lies {farthest:.3g} units away: SPZ reaches no farther than {2**23 - 1} units")
    fixed = np.round(means.astype(np.float64) * 2**bits).astype("<i4")
    alphas = 255 / (1 + np.exp(-gaussians.opacities.astype(np.float64)))
    harmonics = np.round(sh[:, 1:] * 128).astype(np.int32) + 128
    buckets = _BUCKETS[: harmonics.shape[1], None]
    harmonics = (harmonics + buckets // 2) // buckets * buckets
    degree = round(sh.shape[1] ** 0.5) - 1
    content = [
        _HEADER.pack(_MAGIC, _VERSION, len(gaussians), degree, bits, 0, 0),
        fixed[..., None].view(np.uint8)[..., :3].tobytes(),
        _bytes(alphas),
        _bytes(sh[:, 0] * (_COLOUR * 255) + 127.5),
        _bytes((gaussians.scales + 10) * 16),
        _smallest_three(gaussians.rotations).astype("<u4").tobytes(),
        _bytes(harmonics),
    ]
    return gzip.compress(b"".join(content), mtime=0)


def unpack(content: bytes) -> Gaussians:
    """What `pack` packed, as far as the quantised attributes tell.

    Raises:
        InvalidInput: it is not SPZ, or of another version.
    """
    try:
        plain = gzip.decompress(content)
        magic, version, number, degree, bits, _, _ = _HEADER.unpack_from(plain)
    except (OSError, EOFError, struct.error) as error:
        raise InvalidInput(f"this is no SPZ file: {error}") from error
    if (magic, version) != (_MAGIC, _VERSION):
        raise InvalidInput(f"this is no SPZ file of version {_VERSION}")
    rest = (degree + 1) ** 2 - 1
    sizes = np.array([9, 1, 3, 3, 4, 3 * rest]) * number
    ends = _HEADER.size + np.cumsum(sizes)
    if len(plain) != ends[-1]:
        raise InvalidInput(f"this SPZ file is damaged: it has {len(plain)} bytes and not {ends[-1]}")
    values = np.frombuffer(plain, dtype=np.uint8)
    fixed, alphas, colours, scales, rotations, harmonics = (
        values[end - size : end].reshape(number, -1) for size, end in zip(sizes, ends, strict=True)
    )
    whole = np.pad(fixed.reshape(number, 3, 3), ((0, 0), (0, 0), (1, 0)))  # its sign is in the highest byte
    means = (whole.view("<i4")[..., 0] >> 8) / 2**bits
    share = np.clip(alphas[:, 0] / 255, 1e-4, 1 - 1e-4)
    dc = (colours / 255 - 0.5) / _COLOUR
    sh = np.concatenate([dc[:, None], (harmonics.reshape(number, rest, 3) - 128.0) / 128], axis=1)
    return Gaussians(
        means.astype(np.float32),
        (scales / 16 - 10).astype(np.float32),
        _from_smallest_three(rotations.copy().view("<u4")[:, 0]),
        np.log(share / (1 - share)).astype(np.float32),
        sh.astype(np.float32),
    )


def _bytes(values: NDArray[Any]) -> bytes:
    whole: NDArray[np.uint8] = values.round().clip(0, 255).astype(np.uint8)
    return whole.tobytes()


def _smallest_three(rotations: Array) -> NDArray[np.uint32]:
    """(N,) unit quaternions w, x, y, z as 32 bits: 2 of which of x, y, z, w is the largest, 10 of each other."""
    xyzw = rotations[:, [1, 2, 3, 0]].astype(np.float64)
    largest = np.abs(xyzw).argmax(axis=1)
    xyzw *= np.where(np.take_along_axis(xyzw, largest[:, None], axis=1) < 0, -1, 1)
    packed: NDArray[np.uint32] = largest.astype(np.uint32)
    for i in range(4):
        component = (xyzw[:, i] < 0).astype(np.uint32) << 9 | np.round(np.abs(xyzw[:, i]) * _PER_UNIT).astype(np.uint32)
        packed = np.where(largest == i, packed, packed << 10 | component)
    return packed


def _from_smallest_three(packed: NDArray[np.uint32]) -> Array:
    largest, xyzw = packed >> 30, np.zeros((len(packed), 4))
    for i in reversed(range(4)):
        here = largest != i
        size = (packed & 511) / _PER_UNIT
        xyzw[:, i] = np.where(here, np.where(packed >> 9 & 1, -size, size), 0)
        packed = np.where(here, packed >> 10, packed)
    left = np.sqrt(np.clip(1 - (xyzw**2).sum(axis=1), 0, 1))
    np.put_along_axis(xyzw, largest[:, None].astype(np.int64), left[:, None], axis=1)
    wxyz: Array = xyzw[:, [3, 0, 1, 2]].astype(np.float32)
    return wxyz
