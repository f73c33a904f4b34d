"""Write the frames of a video as PNG files, too."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from jobs.video.h264 import Picture

__all__ = ["png_writer"]

_THREADS = 4  # a GPU renders a frame in less time than one thread compresses it
_LEVEL = 2  # of zlib's compression: a quarter of the time of Pillow's 6, for files that are an eighth larger


@contextmanager
def png_writer(folder: Path) -> Iterator[Callable[[str, Picture], None]]:
    """Yield a function that writes a picture (height, width, 3) to a file name in a new folder.

    It returns before the file is written, unless all threads are busy. When the context ends, all files are complete.
    The function and the end of the context raise OSError if a file could not be written.
    """
    folder.mkdir()
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(_THREADS) as threads:

        def save(name: str, picture: Picture) -> None:
            if len(waiting) == _THREADS:  # so that memory does not grow
                waiting.popleft().result()
            waiting.append(threads.submit(Image.fromarray(picture).save, folder / name, compress_level=_LEVEL))

        yield save
        for each in waiting:
            each.result()
