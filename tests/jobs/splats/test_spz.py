"""SPZ: what is packed is what comes out, byte by byte where the format says which."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from jobs.errors import InvalidInput
from jobs.splats import spz
from jobs.splats.gaussians import Gaussians
from tests.splats import unpack


@pytest.fixture
def gaussians() -> Gaussians:
    """Return 500 Gaussians of degree 3, within the ranges of the format."""
    random = np.random.default_rng(4)
    rotations = random.normal(size=(500, 4))
    return Gaussians(
        *(
            each.astype(np.float32)
            for each in (
                random.normal(size=(500, 3)) * [20, 20, 3],
                random.uniform(-9, 2, (500, 3)),
                rotations / np.linalg.norm(rotations, axis=1, keepdims=True),
                random.uniform(-4, 4, 500),
                random.uniform(-0.9, 0.9, (500, 16, 3)),
            )
        )
    )


def test_unpacked_gaussians_are_those_that_were_packed(gaussians: Gaussians) -> None:
    content = spz.pack(gaussians)
    found = unpack(content)
    assert np.abs(found.means - gaussians.means).max() < 2**-16
    assert np.abs(found.scales - gaussians.scales).max() <= 1 / 32 + 1e-6
    turned = np.abs((found.rotations * gaussians.rotations).sum(axis=1))
    assert np.degrees(2 * np.arccos(turned.clip(0, 1))).max() < 0.25
    alphas = [1 / (1 + np.exp(-each.opacities)) for each in (found, gaussians)]
    assert np.abs(alphas[0] - alphas[1]).max() <= 0.51 / 255
    off = np.abs(found.sh - gaussians.sh).max(axis=(0, 2))
    assert off[0] <= 0.5 / 255 / 0.15 + 1e-6 and off[1:4].max() <= 4.5 / 128 and off[4:].max() <= 8.5 / 128
    assert len(content) < 500 * 59 * 4 / 3, "of 59 floats each"


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_harmonics_of_every_degree_are_packed(gaussians: Gaussians, degree: int) -> None:
    some = Gaussians(**{**vars(gaussians), "sh": gaussians.sh[:, : (degree + 1) ** 2]})
    assert unpack(spz.pack(some)).sh.shape == some.sh.shape


def test_the_bytes_are_those_of_the_format() -> None:
    """A Gaussian whose packed form follows from the format's description."""
    one = Gaussians(
        np.array([[1, -2, 0.5]], np.float32),
        np.array([[-10, 0, 5]], np.float32),
        np.array([[0, 0, 0, 1]], np.float32),  # half a turn about z
        np.zeros(1, np.float32),
        np.array([[[0, 1, -1]]], np.float32),
    )
    plain = gzip.decompress(spz.pack(one))
    assert plain[:12] == b"NGSP" + struct.pack("<II", 3, 1)
    assert plain[12:16] == bytes([0, 16, 0, 0])
    assert plain[16:25] == b"".join(struct.pack("<i", value << 15)[:3] for value in (2, -4, 1))
    assert plain[25] == 128
    assert list(plain[26:29]) == [128, 166, 89]
    assert list(plain[29:32]) == [0, 160, 240]
    assert struct.unpack("<I", plain[32:]) == (2 << 30,)


def test_distant_points_cost_precision_and_too_distant_ones_are_reported(gaussians: Gaussians) -> None:
    far = Gaussians(**{**vars(gaussians), "means": gaussians.means * 1000})
    assert np.abs(unpack(spz.pack(far)).means - far.means).max() < np.abs(far.means).max() / 2**22
    with pytest.raises(InvalidInput, match="origin"):
        spz.pack(Gaussians(**{**vars(gaussians), "means": gaussians.means * 1e7}))
