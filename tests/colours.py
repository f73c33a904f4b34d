"""Known colours, and how cameras write them: what comes out is compared with what went in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageCms

COLOURS = np.array(
    [
        *([200, 40, 40], [40, 160, 40], [40, 60, 200], [128, 128, 128]),
        *([235, 235, 235], [20, 20, 20], [224, 172, 140], [90, 140, 60]),
    ]
)
"""sRGB."""
WHITE = 203.0
"""cd/m²: where ITU-R BT.2408 has white in HDR."""


def light(colours: NDArray[np.number[Any]]) -> NDArray[np.float64]:
    """Return linear light in BT.2020 of sRGB colours."""
    value = colours / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    to_2020 = [[0.627404, 0.329283, 0.043313], [0.069097, 0.919540, 0.011362], [0.016391, 0.088013, 0.895595]]
    linear_2020: NDArray[np.float64] = np.maximum(linear @ np.array(to_2020).T, 0)
    return linear_2020


def pq(display: NDArray[np.number[Any]]) -> NDArray[np.float64]:
    """Return the signal of light in cd/m², ITU-R BT.2100."""
    power = (display.astype(np.float64) / 10_000) ** 0.1593017578125
    signal: NDArray[np.float64] = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    return signal


def hlg(display: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the signal of light in cd/m² on a display of 1000 cd/m², ITU-R BT.2100."""
    relative = display / 1000
    luminance = np.maximum(relative @ [0.2627, 0.6780, 0.0593], 1e-9)[:, None]
    scene = relative * luminance ** (1 / 1.2 - 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    high = a * np.log(np.maximum(12 * scene - b, 1e-9)) + c
    signal: NDArray[np.float64] = np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)
    return signal


def display_p3(colours: NDArray[np.number[Any]]) -> NDArray[np.uint8]:
    """Return sRGB colours in Display P3."""
    from_2020 = [[1.343578, -0.282180, -0.061399], [-0.065298, 1.075788, -0.010490], [0.002822, -0.019599, 1.016777]]
    linear = np.maximum(light(colours) @ np.array(from_2020).T, 0)
    value = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    signal: NDArray[np.uint8] = np.rint(value * 255).astype(np.uint8)
    return signal


def icc_profile(*, p3: bool) -> bytes:
    """Return the ICC profile of sRGB or Display P3, which differ in the XYZ of their primaries."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    primaries = {
        b"rXYZ": (0.51512, 0.24120, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.15710, 0.06657, 0.78407),
    }
    for entry in range(132, 132 + 12 * int.from_bytes(profile[128:132], "big"), 12):
        xyz, at = (
            primaries.get(bytes(profile[entry : entry + 4])),
            int.from_bytes(profile[entry + 4 : entry + 8], "big"),
        )
        if p3 and xyz:
            fixed = b"".join(round(value * 65536).to_bytes(4, "big", signed=True) for value in xyz)
            profile[at + 8 : at + 20] = fixed
    return bytes(profile)
