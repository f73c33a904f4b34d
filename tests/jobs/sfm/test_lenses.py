from __future__ import annotations

import numpy as np
import pycolmap
import pytest

from jobs.sfm import lenses


def test_lenses_are_clearly_apart() -> None:
    wide = {f"w{i}": 0.60 + 0.004 * i for i in range(6)}
    long = {f"l{i}": 0.78 + 0.004 * i for i in range(5)}
    assert lenses.by_focal_length({**long, **wide}) == [sorted(wide), sorted(long)]
    assert lenses.by_focal_length(wide) == [sorted(wide)]
    assert lenses.by_focal_length({**wide, "odd": 0.9}) == [[*sorted(wide), "odd"]], "one photo is no lens"
    spread = {f"s{i}": 0.6 * 1.09**i for i in range(8)}
    assert len(lenses.by_focal_length(spread)) == 1, "focal lengths that are badly known are no lenses"
    assert lenses.by_focal_length({}) in ([], [[]])


def test_sizes_are_of_one_lens_if_their_focal_lengths_agree() -> None:
    focals = {"a": 0.60, "b": 0.605, "c": 0.61, "d": 0.603, "e": 0.615, "f": 0.644, "g": 0.648}
    size = {name: "whole" if name < "d" else "half" if name < "f" else "cropped" for name in focals}
    assert lenses.by_focal_length(focals, size) == [["a", "b", "c", "d", "e"], ["f", "g"]]
    assert lenses.by_focal_length(focals, dict.fromkeys(focals, "whole")) == lenses.by_focal_length(focals)
    assert len(lenses.by_focal_length(focals)) == 1


@pytest.mark.parametrize("named", [True, False])
def test_the_focal_length_of_each_photo_is_found(named: bool) -> None:
    """Twelve photos, every other one with a lens 1.3 times as long, that were given one camera."""
    pycolmap.set_random_seed(1)
    options = pycolmap.SyntheticDatasetOptions(num_rigs=1, num_frames_per_rig=12, num_points3D=300)
    options.camera_model_id, options.camera_params = pycolmap.CameraModelId.SIMPLE_RADIAL, [900.0, 512.0, 384.0, 0.0]
    model = pycolmap.synthesize_dataset(options)
    for image in model.images.values():
        for point in image.points2D:
            if image.image_id % 2:
                point.xy = (point.xy - [512, 384]) * 1.3 + [512, 384]
    names = {image.name for image in model.images.values()} if named else set()
    before = {number: list(camera.params) for number, camera in model.cameras.items()}
    found = lenses.focal_lengths(model, names, threads=1)
    assert found.keys() == names
    for image in model.images.values():
        if named:
            longer = 1.3 if image.image_id % 2 else 1.0
            assert found[image.name] * 1280 == pytest.approx(900 * longer, rel=0.02)
    assert {number: list(camera.params) for number, camera in model.cameras.items()} == before
    if named:
        assert [len(group) for group in lenses.by_focal_length(found)] == [6, 6]
    assert np.isfinite(list(found.values())).all()
