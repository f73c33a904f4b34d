"""Write points as LAZ, the compressed form of LAS 1.4."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jobs.geometry import Floats
from jobs.splats.gaussians import Array

__all__ = ["write_laz"]

_STEP = 0.001  # metres
_DEPTH = 65_535  # colours have 16 bits
_WITH_COLOURS = 7  # the first point format of LAS 1.4 that has them


def write_laz(file: Path, points: Floats, colours: Array, wkt: str | None) -> None:
    """Write a LAZ file.

    Args:
        file: to write.
        points: (N, 3) in metres, within 2,000 km of their origin.
        colours: (N, 3), 0 to 1.
        wkt: the coordinate system; None if it is not known.
    """
    import laspy
    from laspy.vlrs.known import WktCoordinateSystemVlr

    header = laspy.LasHeader(point_format=_WITH_COLOURS, version="1.4")
    header.generating_software = "rebel-nerf"
    header.scales, header.offsets = np.full(3, _STEP), np.zeros(3)
    header.global_encoding.wkt = True  # required by the point format, even without a coordinate system
    if wkt:
        header.vlrs.append(WktCoordinateSystemVlr(wkt))
    content = laspy.LasData(header)
    content.x, content.y, content.z = points.T
    content.red, content.green, content.blue = (colours.T * _DEPTH).round().astype(np.uint16)
    content.write(file)
