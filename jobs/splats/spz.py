"""Write Niantic's SPZ format, version 3, which stores Gaussians in about a tenth of the size of a PLY file.

A file is a gzipped header of 16 bytes, followed by the attributes, each quantised to one to four bytes. The axes are
right, up and back (+Y up). Written after the README and `load-spz.cc` of https://github.com/nianticlabs/spz (MIT).
"""

from __future__ import annotations

import gzip
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.errors import InvalidInput
from jobs.splats.gaussians import Array, Gaussians

__all__ = ["pack"]

_HEADER = struct.Struct("<IIIBBBB")  # magic, version, number, degree of harmonics, fractional bits, flags, reserved
_MAGIC, _VERSION = 0x5053474E, 3
_MOST_BITS = 16  # of a coordinate's fraction; 0.015 mm if the unit is a metre
_COLOUR = 0.15  # less than SH_0, which leaves room for colours that higher harmonics bring back into range
_BUCKETS = np.array([8] * 3 + [16] * 12, dtype=np.int32)  # degree 1 keeps 5 bits, the others keep 4
_PER_UNIT = 511 * np.sqrt(2)  # of a quaternion's smaller components: at most √½, in 9 bits and a sign


def pack(gaussians: Gaussians) -> bytes:
    """Return the content of a `.spz` file.

    Args:
        gaussians: with +Y up and harmonics up to degree 3. Harmonics' coefficients are clipped to ±1, and standard
            deviations to the range from e⁻¹⁰ to e⁵·⁹.

    Raises:
        InvalidInput: a Gaussian is too far away for the format.
    """
    means, sh = gaussians.means, gaussians.sh
    farthest = float(np.abs(means).max(initial=1e-3))
    bits = min(_MOST_BITS, int(np.floor(np.log2((2**23 - 1) / farthest))))
    if bits < 0:
        raise InvalidInput(
            f"A Gaussian is {farthest:.3g} units from the origin, and an SPZ file covers at most {2**23 - 1}. The "
            "training did not converge: train the model again."
        )
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


def _bytes(values: NDArray[Any]) -> bytes:
    whole: NDArray[np.uint8] = values.round().clip(0, 255).astype(np.uint8)
    return whole.tobytes()


def _smallest_three(rotations: Array) -> NDArray[np.uint32]:
    """Pack unit quaternions w, x, y, z into 32 bits: 2 for the index of the largest component, 10 for each other."""
    xyzw = rotations[:, [1, 2, 3, 0]].astype(np.float64)
    largest = np.abs(xyzw).argmax(axis=1)
    xyzw *= np.where(np.take_along_axis(xyzw, largest[:, None], axis=1) < 0, -1, 1)
    packed: NDArray[np.uint32] = largest.astype(np.uint32)
    for i in range(4):
        component = (xyzw[:, i] < 0).astype(np.uint32) << 9 | np.round(np.abs(xyzw[:, i]) * _PER_UNIT).astype(np.uint32)
        packed = np.where(largest == i, packed, packed << 10 | component)
    return packed
