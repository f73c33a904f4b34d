"""The training photos in GPU memory, as bytes, with the ray of each pixel and the pixels that masks keep."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor

import torch
import triton
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datasets.base_dataset import InputDataset
from torch import Tensor

from jobs.errors import InvalidInput
from jobs.radiance import kernels
from jobs.radiance.support import NotCovered

__all__ = ["Photos"]

_SHARE = 0.5  # of the free memory, for photos and rays; training needs the rest


class Photos:
    """All photos of a dataset, of any size and lens, with or without masks, and the rays through their pixels.

    Args:
        dataset: returns photos as bytes.
        device: holds the photos.

    Raises:
        NotCovered: the photos do not fit into the GPU's memory or have a fourth channel, or a pose contains a scale.
        InvalidInput: a mask leaves no pixel of its photo.
    """

    def __init__(self, dataset: InputDataset, device: torch.device) -> None:
        cameras = dataset.cameras
        sizes = torch.cat([cameras.height, cameras.width], dim=1).long().cpu()
        areas = sizes.prod(dim=1)
        lenses, lens_of = _lenses(cameras)
        first_of_lens = [int((lens_of == lens).nonzero()[0, 0]) for lens in range(len(lenses))]
        self._masked = dataset._dataparser_outputs.mask_filenames is not None
        a_pixel = 7 if self._masked else 3  # bytes: its colours, and its place in the list of valid pixels
        _check_room(int(areas.sum()) * a_pixel + int(areas[first_of_lens].sum()) * 12, device)
        rotations = cameras.camera_to_worlds[:, :, :3].cpu()
        if not torch.allclose(rotations @ rotations.mT, torch.eye(3).expand_as(rotations), atol=1e-3):
            raise NotCovered("a photo's pose is not a rotation and a translation")
        self._device = device
        self._number = len(cameras)
        self._sizes = sizes.to(device)
        self._first = (areas.cumsum(0) - areas).to(device)  # index of the first pixel of each photo
        self._poses = cameras.camera_to_worlds.float().contiguous().to(device)
        tables = [self._directions(cameras[first : first + 1]) for first in first_of_lens]
        begin = torch.tensor([0, *(len(table) for table in tables)]).cumsum(0)
        self._lens = begin[lens_of].to(device)  # index of the first direction of each photo's lens
        self._table = torch.cat(tables).contiguous()
        self._pixels = torch.empty((int(areas.sum()), 3), dtype=torch.uint8, device=device)
        valid = self._load(dataset, areas.tolist())
        begin = torch.tensor([0, *(len(each) for each in valid)]).cumsum(0)
        self._begin = begin.to(device)  # of each photo, in the list of valid pixels
        self._valid = torch.cat(valid).to(device)

    def draw(self, rays: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draw random pixels. All photos are equally likely; pixels outside a photo's mask are never drawn.

        Returns:
            The origins and directions (R, 3) of their rays, their photos (R,), and their colours (R, 3), 0 to 1.
        """
        random = torch.rand((rays, 3), device=self._device)
        origins, directions, colours = (torch.empty_like(random) for _ in range(3))
        cameras = torch.empty(rays, dtype=torch.int64, device=self._device)
        kernels.draw[(triton.cdiv(rays, 128),)](
            random, self._pixels, self._first, self._sizes, self._table, self._lens, self._poses, self._valid,
            self._begin, origins, directions, cameras, colours, self._number, rays, MASKED=self._masked, BLOCK=128,
        )  # fmt: skip
        return origins, directions, cameras, colours

    def _directions(self, camera: Cameras) -> Tensor:
        """Return nerfstudio's directions (H x W, 3) through a camera's pixels, in the camera's axes."""
        camera = camera.to(self._device)
        rays = camera.generate_rays(camera_indices=0)
        pose = camera.camera_to_worlds[0]
        if not torch.allclose(rays.origins, pose[:, 3].expand_as(rays.origins), atol=1e-4):
            raise NotCovered("a camera's rays do not start at one point")
        directions: Tensor = (rays.directions.reshape(-1, 1, 3) * pose[:, :3].t()).sum(-1)  # no TF32 here
        return directions

    def _load(self, dataset: InputDataset, areas: list[int]) -> list[Tensor]:
        """Load all photos; return the indices of each photo's valid pixels, none where there are no masks."""
        places = torch.split(self._pixels, areas)

        def load(index: int) -> Tensor:
            data = dataset[index]
            image = data["image"]
            if image.shape[-1] != 3 or image.dtype != torch.uint8:
                raise NotCovered(f"photo {index + 1} has {image.shape[-1]} channels of {image.dtype}")
            places[index].copy_(image.reshape(-1, 3))
            if not self._masked:
                return torch.empty(0, dtype=torch.int32)
            valid: Tensor = data["mask"].reshape(-1).nonzero()[:, 0].int()
            if not len(valid):
                file = dataset._dataparser_outputs.mask_filenames[index]
                raise InvalidInput(f"the mask {file} leaves no pixel of its photo; take out that photo or mask")
            return valid

        with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as threads:
            return list(threads.map(load, range(len(areas))))


def _lenses(cameras: Cameras) -> tuple[Tensor, Tensor]:
    """Return the distinct lenses and sizes of cameras, and the index of each camera's lens."""
    parts = [cameras.fx, cameras.fy, cameras.cx, cameras.cy, cameras.height, cameras.width, cameras.camera_type]
    if cameras.distortion_params is not None:
        parts.append(cameras.distortion_params)
    lenses, lens_of = torch.unique(torch.cat([part.double().cpu() for part in parts], -1), dim=0, return_inverse=True)
    return lenses, lens_of


def _check_room(size: int, device: torch.device) -> None:
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf
    if size > _SHARE * free:
        raise NotCovered(f"photos and rays need {size / 1e9:.1f} GB, and the GPU has {free / 1e9:.1f} GB free")
