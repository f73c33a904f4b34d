"""Gaussians of a real splatfacto: built, and written as training does, on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("nerfstudio")

from jobs.geometry import Similarity  # noqa: E402
from jobs.splats.gaussians import SH_0, Gaussians  # noqa: E402
from tests.splats import splatfacto, write_checkpoint  # noqa: E402


def test_they_are_those_of_the_model(tmp_path: Path) -> None:
    model = splatfacto(200)
    found = Gaussians.of_checkpoint(write_checkpoint(model, tmp_path / "step.ckpt"))
    assert len(found) == 200 and found.sh.shape == (200, 16, 3)
    assert np.array_equal(found.means, model.means.detach().numpy())
    colours = 0.5 + SH_0 * found.sh[:, 0]
    assert np.allclose(colours, model.colors.detach().numpy(), atol=1e-6)


def test_of_a_model_without_harmonics(tmp_path: Path) -> None:
    model = splatfacto(50, sh_degree=0)
    found = Gaussians.of_checkpoint(write_checkpoint(model, tmp_path / "step.ckpt"))
    assert found.sh.shape == (50, 1, 3)
    assert np.allclose(0.5 + SH_0 * found.sh[:, 0], model.colors.detach().numpy(), atol=1e-6)


def test_unseen_gaussians_are_left_out(tmp_path: Path) -> None:
    model = splatfacto(100)
    with torch.no_grad():
        model.gauss_params["means"][3, 1] = float("nan")
        model.gauss_params["scales"][5] = float("inf")
        model.gauss_params["opacities"][7] = -6
    found = Gaussians.of_checkpoint(write_checkpoint(model, tmp_path / "step.ckpt"))
    assert np.array_equal(found.means, np.delete(model.means.detach().numpy(), [3, 5, 7], axis=0))


def test_in_another_frame_they_look_the_same(tmp_path: Path) -> None:
    """By nerfstudio's own colours and gsplat's own covariances, from there and from here."""
    from gsplat.cuda._torch_impl import _quat_scale_to_covar_preci, _spherical_harmonics
    from scipy.spatial.transform import Rotation

    here = Gaussians.of_checkpoint(write_checkpoint(splatfacto(100), tmp_path / "step.ckpt"))
    rotation = Rotation.from_rotvec([0.4, -1.1, 0.7]).as_matrix().astype(np.float32)
    there = here.moved(Similarity(2.5, rotation, 2.5 * np.array([1, 2, 3])))
    eye = np.array([0.3, -4, 1], np.float32)
    eye_there = 2.5 * (rotation @ eye + [1, 2, 3])

    def seen(gaussians: Gaussians, eye: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
        directions = torch.from_numpy((gaussians.means - eye).astype(np.float32))
        directions /= directions.norm(dim=1, keepdim=True)
        colours = _spherical_harmonics(3, directions, torch.from_numpy(gaussians.sh))
        scales = torch.from_numpy(gaussians.scales).exp()
        spread, _ = _quat_scale_to_covar_preci(torch.from_numpy(gaussians.rotations), scales, True, False)
        return colours.numpy(), spread.numpy()

    (colours, spread), (colours_there, spread_there) = seen(here, eye), seen(there, eye_there)
    assert np.ptp(colours - SH_0 * here.sh[:, 0]) > 0.1, "of one colour from all sides: nothing was tried"
    assert np.allclose(colours_there, colours, atol=1e-4)
    assert np.allclose(spread_there, 2.5**2 * rotation @ spread @ rotation.T, rtol=1e-3, atol=1e-5)
    assert np.allclose(there.means, 2.5 * (here.means @ rotation.T + [1, 2, 3]), atol=1e-4)


def test_a_ply_has_what_nerfstudio_writes(tmp_path: Path) -> None:
    """Names, order and figures of nerfstudio's own exporter, of whose writer only the rows are taken."""
    import trimesh

    model = splatfacto(60)
    Gaussians.of_checkpoint(write_checkpoint(model, tmp_path / "step.ckpt")).write_ply(tmp_path / "splat.ply")
    found = trimesh.load(tmp_path / "splat.ply").metadata["_ply_raw"]["vertex"]["data"]
    assert found.dtype.names == (
        *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"),
        *(f"f_rest_{i}" for i in range(45)),
        *("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
    )
    rest = model.shs_rest.transpose(1, 2).reshape(60, -1).detach().numpy()
    assert np.array_equal(np.stack([found[f"f_rest_{i}"] for i in range(45)], axis=1), rest)
    assert np.array_equal(found["opacity"], model.opacities[:, 0].detach().numpy())
    assert np.array_equal(found["scale_1"], model.scales[:, 1].detach().numpy())
