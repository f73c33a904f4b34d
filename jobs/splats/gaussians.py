"""The Gaussians of 3D Gaussian splatting (Kerbl et al. 2023): read from a model, moved, and written as PLY."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.geometry import Floats, Similarity
from jobs.ply import write_vertices

__all__ = ["SH_0", "Array", "Gaussians"]

Array = NDArray[np.float32]

SH_0 = 0.28209479177387814
"""The spherical harmonic of degree 0. A colour is 0.5 + SH_0 times its coefficient."""

_LEAST_OPACITY = float(np.log(1 / 254))  # logit of 1/255; less is not drawn
_POINT_OPACITY = float(np.log(0.98 / 0.02))


@dataclass(frozen=True)
class Gaussians:
    """Gaussians in any coordinate frame, with the names and units of splatting's PLY files.

    Args:
        means: (N, 3).
        scales: (N, 3) natural logarithms of the standard deviations along their own axes.
        rotations: (N, 4) unit quaternions w, x, y, z, from their own axes to the frame's.
        opacities: (N,) logits.
        sh: (N, K, 3) coefficients of the real spherical harmonics, K = (degree + 1)², of red, green and blue.
    """

    means: Array
    scales: Array
    rotations: Array
    opacities: Array
    sh: Array

    def __len__(self) -> int:
        return len(self.means)

    @staticmethod
    def of_checkpoint(file: Path) -> Gaussians:
        """Read the Gaussians of a splatfacto, without those that are not finite or never drawn. Needs no GPU.

        Args:
            file: a checkpoint that `jobs.train` wrote.
        """
        import torch

        state = torch.load(file, map_location="cpu", weights_only=True)["pipeline"]
        means, scales, rotations, opacities, dc, rest = (
            state[f"_model.gauss_params.{name}"].float().numpy()
            for name in ("means", "scales", "quats", "opacities", "features_dc", "features_rest")
        )
        if rest.shape[1] == 0:  # without harmonics, nerfstudio trains logits of the colours
            dc = (1 / (1 + np.exp(-dc)) - 0.5) / SH_0
        rotations = rotations / np.linalg.norm(rotations, axis=1, keepdims=True)
        found = Gaussians(means, scales, rotations, opacities[:, 0], np.concatenate([dc[:, None], rest], axis=1))
        fields = (found.means, found.scales, found.rotations, found.opacities, found.sh)
        finite = np.all([np.isfinite(each.reshape(len(means), -1)).all(axis=1) for each in fields], axis=0)
        return found[finite & (found.opacities > _LEAST_OPACITY)]

    @staticmethod
    def of_points(points: Array, colours: Array, sizes: Array) -> Gaussians:
        """Make a ball for each point.

        Args:
            points: (N, 3).
            colours: (N, 3), 0 to 1.
            sizes: (N,) standard deviations, in the unit of the points.
        """
        ones = np.ones((len(points), 1), dtype=np.float32)
        return Gaussians(
            points.astype(np.float32),
            np.log(sizes[:, None]).astype(np.float32) * np.ones(3, dtype=np.float32),
            ones * np.array([1, 0, 0, 0], dtype=np.float32),
            ones[:, 0] * np.float32(_POINT_OPACITY),
            ((colours - 0.5) / SH_0).astype(np.float32)[:, None],
        )

    def __getitem__(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> Gaussians:
        fields = (self.means, self.scales, self.rotations, self.opacities, self.sh)
        return Gaussians(*(each[which] for each in fields))

    def moved(self, to_frame: Similarity) -> Gaussians:
        """Return the same Gaussians in another frame."""
        return Gaussians(
            to_frame.points(self.means).astype(np.float32),
            self.scales + np.float32(np.log(to_frame.scale)),
            _product(_quaternion(to_frame.rotation), self.rotations).astype(np.float32),
            self.opacities,
            _turned(self.sh, to_frame.rotation),
        )

    def plain(self) -> Gaussians:
        """Return the same Gaussians with one colour from all directions."""
        return replace(self, sh=self.sh[:, :1])

    def write_ply(self, file: Path) -> None:
        """Write a PLY file with the properties of Kerbl et al.'s program, in its order."""
        rest = self.sh[:, 1:].transpose(0, 2, 1).reshape(len(self), -1)  # all of red, then green, then blue
        columns = {
            **dict(zip("xyz", self.means.T, strict=True)),
            **{name: np.zeros(len(self), dtype=np.float32) for name in ("nx", "ny", "nz")},
            **{f"f_dc_{i}": each for i, each in enumerate(self.sh[:, 0].T)},
            **{f"f_rest_{i}": each for i, each in enumerate(rest.T)},
            "opacity": self.opacities,
            **{f"scale_{i}": each for i, each in enumerate(self.scales.T)},
            **{f"rot_{i}": each for i, each in enumerate(self.rotations.T)},
        }
        write_vertices(file, {name: column.astype(np.float32) for name, column in columns.items()})


def _quaternion(rotation: Floats) -> Array:
    """Return the unit quaternion w, x, y, z of a rotation (3, 3)."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return np.array([w, x, y, z], dtype=np.float32)


def _product(left: Array, right: Array) -> Array:
    """Return the Hamilton products (N, 4) of one quaternion (4,) with many (N, 4), which are applied first."""
    w, x, y, z = left
    matrix = np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]], dtype=np.float32)
    return right @ matrix.T


def _turned(sh: Array, rotation: Floats) -> Array:
    """Return the coefficients (N, K, 3) of the same colours after a rotation.

    The new colours are f'(d) = f(Rᵀ d). Their coefficients are solved for from a few directions d. The harmonics are
    gsplat's, so that order and signs are those of the training.
    """
    number = sh.shape[1]
    if number == 1 or np.allclose(rotation, np.eye(3), atol=1e-6):
        return sh
    import torch
    from gsplat.cuda._torch_impl import _eval_sh_bases_fast

    directions = np.random.default_rng(0).normal(size=(8 * number, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    here, there = (
        _eval_sh_bases_fast(number, torch.from_numpy(each)).numpy() for each in (directions, directions @ rotation)
    )
    turn = np.linalg.lstsq(here, there, rcond=None)[0]
    turned: Array = np.einsum("kl,nlc->nkc", turn, sh).astype(np.float32)
    return turned
