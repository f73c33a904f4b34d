"""Make a PDF of markers to print: `rebel-nerf markers --size 150 --count 4`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from commands.shell.run import as_command, parse_command
from jobs.errors import InvalidInput
from jobs.metric.given import Family


class PrintMarkers(BaseModel):
    """Write a PDF of square markers in true size. Photos that show them give the scene its scale."""

    output: Path = Field(Path("markers.pdf"), description="file to write")
    family: Family = Field("DICT_APRILTAG_36h11", description="OpenCV's name of the markers' dictionary")
    size: float = Field(
        150.0, ge=1, le=1000, description="side of the black square, mm; a side should be 20 px or more in photos"
    )
    first: int = Field(0, ge=0, description="number of the first marker; print each number once for a scene")
    count: int = Field(4, ge=1, le=250, description="how many markers")
    paper: Literal["a4", "letter"] = Field("a4", description="size of the pages")


def write(options: PrintMarkers) -> None:
    """Write the PDF, and print what to do with it.

    Raises:
        InvalidInput: OpenCV is not installed, a marker does not fit on a page, or the file cannot be written.
    """
    try:
        from jobs.metric.printing import write_markers
    except ImportError as error:
        raise InvalidInput("Markers are drawn by OpenCV: pip install 'rebel-nerf[local]'.") from error
    file = options.output.expanduser()
    try:
        pages = write_markers(file, options.family, options.size, options.first, options.count, options.paper)
    except OSError as error:
        raise InvalidInput(f"{file} cannot be written ({error.strerror or error}). Choose another --output.") from error
    markers, sheets = f"marker{'s' * (options.count > 1)} of {options.size:g} mm", f"{pages} page{'s' * (pages > 1)}"
    print(f"{options.count} {markers}, {sheets}: {file}")
    print("Print at 100 %, measure the side of a black square, and write it into scale.json beside the photos:")
    print(f'{{"markers": {{"family": "{options.family}", "metres": {options.size / 1000:g}}}}}')


if __name__ == "__main__":
    with as_command():
        write(parse_command(PrintMarkers, sys.argv[1:]))
