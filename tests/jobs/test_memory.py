from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageFile

from blocks.local_captures import list_dropped
from jobs import media, memory
from jobs.errors import InvalidInput
from jobs.options import PrepareOptions
from jobs.pictures import film, photo, reading


def test_jobs_that_do_not_fit_wait_and_oversized_ones_run_alone() -> None:
    room, inside, most = memory.Room(10), set[int](), list[set[int]]()
    lock = threading.Lock()

    def hold(item: tuple[int, int]) -> None:
        number, size = item
        with room.take(size):
            with lock:
                inside.add(number)
                most.append(set(inside))
            time.sleep(0.001)  # the others come meanwhile, if they are let in
            with lock:
                inside.discard(number)

    sizes = dict(enumerate([4, 4, 30, 4, 9, 4, 30, 2] * 20))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, sizes.items()))
    assert len(most) == len(sizes)
    for together in most:
        assert len(together) == 1 or sum(sizes[number] for number in together) <= 10


def test_a_photo_that_does_not_fit_into_memory_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (4000, 3000)).save(tmp_path / "large.png")
    assert photo.read(tmp_path / "large.png").image.size == (4000, 3000)
    monkeypatch.setattr(memory, "available", lambda: 100_000_000)
    with pytest.raises(InvalidInput, match=r"0\.2 GB .*0\.1 GB"):
        photo.read(tmp_path / "large.png")


def peak(expression: str, file: Path) -> int:
    """Return by how many bytes an expression raises the peak of a process's memory. The file is `sys.argv[1]`."""
    if not Path("/proc/self/status").exists():
        pytest.skip("only Linux tells the peak of memory")
    code = (
        "import re, sys, numpy, av; from contextlib import suppress; from pathlib import Path\n"
        "from jobs import media; from jobs.errors import InvalidInput; from jobs.pictures import film, photo\n"
        "photo.pillow(); peak = lambda: int(\n"
        "    re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) * 1024\n"
        f"before = peak()\nwith suppress(InvalidInput): {expression}\nprint(peak() - before)"
    )
    return int(subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, check=True).stdout)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
def test_the_estimate_is_above_what_decoding_takes(tmp_path: Path, mode: str) -> None:
    file = tmp_path / "a.png"
    Image.new(mode, (4000, 3000)).save(file)
    taken = peak("photo.read(Path(sys.argv[1]))", file)
    assert 0 < taken <= photo.bytes_to_decode(file)


@pytest.mark.parametrize("suffix", ["webp", "heic", "avif"])
def test_a_file_full_of_holes_is_not_read_into_memory(tmp_path: Path, suffix: str) -> None:
    """It takes no space on the disk, and the decoders read it whole."""
    (tmp_path / "street").mkdir()
    for number in range(3):
        photo.pillow().new("RGB", (64, 48), (number, 0, 0)).save(tmp_path / "street" / f"{number}.{suffix}")
    hollow = photo.pillow().new("RGB", (64, 48), (3, 0, 0))
    hollow.save(tmp_path / "street" / f"hollow.{suffix}")
    os.truncate(tmp_path / "street" / f"hollow.{suffix}", 1_000_000_001)
    found = media.scan(tmp_path / "street")
    assert len(found.photos) == 3 and "more than a photo has" in found.unreadable[f"hollow.{suffix}"]
    assert f"hollow.{suffix}" not in found.files
    [dropped] = list_dropped(tmp_path, tmp_path / "checksums.json", "street")
    assert set(dropped.files) == set(found.photos)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "heic", "avif", "bmp"])
def test_nothing_is_decoded_to_read_a_header(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / f"a.{suffix}"
    photo.pillow().new("RGB", (64, 48)).save(file)

    decoded = []  # an exception would be taken for that of a broken tag

    def note(image: ImageFile.ImageFile) -> None:
        decoded.append(image.filename)

    with monkeypatch.context() as patch:
        for kind in (ImageFile.ImageFile, *ImageFile.ImageFile.__subclasses__()):
            if "load" in vars(kind):
                patch.setattr(kind, "load", note)
        with file.open("rb") as stream:
            header = photo.read_header(stream, file.suffix)
    assert (header.width, header.height) == (64, 48) and not decoded


def long_video(file: Path, width: int, height: int, frames: int = 1, **options: str) -> Path:
    """Write a grey H.264 video of one colour."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast", **options})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        grey = np.full((height * 3 // 2, width), 128, np.uint8)  # a new frame has any content
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="yuv420p")))
        container.mux(stream.encode())
    return file


def test_a_video_of_huge_frames_is_refused_undecoded(tmp_path: Path) -> None:
    file = long_video(tmp_path / "bomb.mp4", 10_000, 8_100)
    with pytest.raises(InvalidInput, match=r"bomb\.mp4 .* 80 megapixels"):
        media.scan(file)
    assert peak("media.scan(Path(sys.argv[1]))", file) < 10_000 * 8_100


def test_the_estimate_is_above_what_a_decoder_takes(tmp_path: Path) -> None:
    """Sixteen frames that others refer to are the most that H.264 allows."""
    width, height = 2400, 1600
    file = long_video(
        tmp_path / "a.mp4", width, height, 24, refs="16", bf="16", **{"x264-params": "b-adapt=0:b-pyramid=2"}
    )
    with av.open(str(file)) as container:
        estimate = film._bytes_held(container.streams.video[0].codec_context, film._THREADS)
    taken = peak("[None for frame in film._decode(film._open(sys.argv[1]))]", file)
    assert 6 * width * height < taken <= estimate


def test_a_video_that_does_not_fit_into_memory_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = long_video(tmp_path / "a.mp4", 640, 480, 12)
    capture, needed = media.scan(file), 640 * 480 * 1.5 * 19
    (tmp_path / "grey").mkdir()
    monkeypatch.setattr(memory, "available", lambda: int(needed) - 1)
    with pytest.raises(InvalidInput, match=r"a\.mp4 .*too large to decode here"):
        media.scan(file)
    monkeypatch.setattr(memory, "available", lambda: int(needed) + 1)
    assert media.scan(file).videos
    with pytest.raises(InvalidInput, match=r"a\.mp4: too large to decode here"):
        reading.read(capture, tmp_path, tmp_path / "grey", PrepareOptions(num_frames=8))


def test_frames_that_grow_in_the_middle_of_a_video_are_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, packets = tmp_path / "grows.mkv", list[bytes]()
    for side in (64, 64, 400, 64):
        picture = io.BytesIO()
        Image.new("RGB", (side, side)).save(picture, "JPEG")
        packets.append(picture.getvalue())
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
        for number, content in enumerate(packets):
            packet = av.Packet(content)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 10)
            container.mux(packet)
    monkeypatch.setattr(film, "MAX_FRAME_PIXELS", 10_000)
    frames = film.sharpest_frames(file, film.frame_times(file), len(packets))
    assert [frame.image.size for frame in frames] == 3 * [(64, 64)]
