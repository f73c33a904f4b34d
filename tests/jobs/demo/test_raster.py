from __future__ import annotations

import numpy as np
import pytest

from jobs.demo.raster import Camera, Geometry, Light, Patch, Scene

_GREY = np.full((20, 20, 3), 0.5)


def _patches(rng: np.random.Generator, count: int) -> list[Patch]:
    """Return random parallelograms, each with two sides, before a camera at the origin that looks along +y."""
    return [
        Patch(rng.uniform([-2, 3, -2], [2, 9, 2]), rng.normal(0, 1.5, 3), rng.normal(0, 1.5, 3), _GREY, two_sided=True)
        for _ in range(count)
    ]


def _scene(patches: list[Patch], light: Light) -> Scene:
    return Scene(patches, [light], [], np.zeros(3), np.array([[0.8, 0.8, 0.8], [0.2, 0.4, 0.9]]))


def test_rays_and_projection_agree() -> None:
    rng = np.random.default_rng(0)
    camera = Camera.looking_at(np.array([1.0, -5, 2]), np.array([0.0, 3, 1]), 50, 64, 48, roll=0.3)
    pixels = rng.uniform(0, 48, (10, 2))
    depth = rng.uniform(1, 9, (10, 1))
    points = camera.center + depth * (np.c_[pixels, np.ones(10)] @ camera.rays().T)
    x, y, z = camera.project(points)
    np.testing.assert_allclose(np.c_[x - 0.5, y - 0.5, z], np.c_[pixels, depth], rtol=1e-9)
    np.testing.assert_allclose(camera.rotation.T @ camera.rotation, np.eye(3), atol=1e-12)


def test_every_pixel_sees_the_nearest_patch_that_its_ray_meets() -> None:
    patches = _patches(np.random.default_rng(1), 25)
    camera = Camera.looking_at(np.zeros(3), np.array([0.0, 1, 0]), 40, 64, 48)
    nearness, index, _ = Geometry(patches).rasterize(camera)
    wrong = 0
    for row in range(0, 48, 3):
        for column in range(0, 64, 3):
            ray = camera.rays() @ [column, row, 1]
            hits = []
            for i, p in enumerate(patches):
                a, b, minus_t = np.linalg.solve(np.stack([p.right, p.down, ray], axis=1), camera.center - p.origin)
                if 0 <= a <= 1 and 0 <= b <= 1 and minus_t < 0:
                    hits.append((-minus_t, i))
            expected = min(hits, default=(np.inf, -1))
            wrong += index[row, column] != expected[1] or abs(nearness[row, column] - 1 / expected[0]) > 1e-5
    assert (index >= 0).mean() > 0.3
    assert wrong <= 1  # a ray through an edge may go either way


def test_a_patch_is_seen_from_its_front_and_through_its_holes() -> None:
    opaque = np.ones((20, 20), bool)
    opaque[5:15, 5:15] = False
    corner, right, down = np.array([-1.0, 2, 1]), np.array([2.0, 0, 0]), np.array([0.0, 0, -2])
    camera = Camera.looking_at(np.zeros(3), np.array([0.0, 1, 0]), 20, 40, 40)
    _, index, _ = Geometry([Patch(corner, right, down, _GREY, opaque)]).rasterize(camera)
    assert (index == 0).sum() == 20 * 20 - 10 * 10
    assert index[20, 20] == -1
    _, index, _ = Geometry([Patch(corner + right, -right, down, _GREY)]).rasterize(camera)
    assert (index == -1).all()


def test_a_texture_lies_the_right_way_round() -> None:
    color = np.zeros((2, 2, 3))
    color[0, 0], color[0, 1], color[1, 0], color[1, 1] = (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)
    patch = Patch(
        np.array([-1.0, 2, 1]), np.array([2.0, 0, 0]), np.array([0.0, 0, -2]), np.kron(color, np.ones((9, 9, 1)))
    )
    scene = _scene([patch], Light(np.array([0.0, -1, 0]), np.full(3, 3.0)))
    picture = scene.photograph(Camera.looking_at(np.zeros(3), np.array([0.0, 1, 0]), 20, 40, 40))
    seen = [tuple(picture[y, x] > 128) for y, x in ((15, 15), (15, 25), (25, 15), (25, 25))]
    assert seen == [(True, False, False), (False, True, False), (False, False, True), (True, True, True)]
    assert picture[0, 20, 2] > picture[0, 20, 0]  # above it, the blue sky


def test_objects_in_the_light_cast_shadows() -> None:
    ground = Patch(np.array([-5.0, 5, 0]), np.array([10.0, 0, 0]), np.array([0.0, -10, 0]), np.full((200, 200, 3), 0.5))
    roof = Patch(np.array([-1.0, 1, 2]), np.array([2.0, 0, 0]), np.array([0.0, -2, 0]), _GREY, two_sided=True)
    direction = np.array([1.0, 0, 1]) / 2**0.5
    scene = _scene([ground, roof], Light(direction, np.full(3, 2.0)))
    camera = Camera.looking_at(np.array([0, -8.0, 5]), np.zeros(3), 60, 160, 120)
    picture = scene.photograph(camera).mean(axis=2)

    def at(point: list[float]) -> float:
        x, y, _ = camera.project(np.array(point))
        return float(picture[int(y), int(x)])

    assert at([-2, 0, 0]) < 5  # two metres up, two metres aside
    assert at([1.5, 0, 0]) == at([-4, 0, 0]) > 100


@pytest.mark.parametrize("samples", [1, 3])
def test_samples_change_edges_only(samples: int) -> None:
    patches = _patches(np.random.default_rng(5), 6)
    scene = _scene(patches, Light(np.array([0.0, -1, 0]), np.full(3, 2.0)))
    camera = Camera.looking_at(np.zeros(3), np.array([0.0, 1, 0]), 40, 64, 48)
    first, second = (scene.photograph(camera, s).astype(int) for s in (samples, 2))
    assert np.median(abs(first - second)) <= 1
