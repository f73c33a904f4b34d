"""A data manager that keeps the photos as bytes and runs in the process of the training."""

from __future__ import annotations

from typing import Any

import torch
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager
from nerfstudio.data.datamanagers.parallel_datamanager import ParallelDataManager
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.data.utils.dataloaders import FixedIndicesEvalDataloader
from nerfstudio.engine.trainer import TrainerConfig

from jobs import memory
from jobs.radiance.dataset import Dataset
from jobs.radiance.randomness import random_state, set_random_state

__all__ = ["ByteImages", "DataManager", "cache_images"]


class ByteImages(InputDataset):  # type: ignore[misc]
    """Photos as bytes, which take a quarter of the memory of floats."""

    def __getitem__(self, image_idx: int) -> dict[str, Any]:
        data: dict[str, Any] = self.get_data(image_idx, image_type="uint8")
        return data


class DataManager(VanillaDataManager[InputDataset]):  # type: ignore[misc]
    """nerfstudio's data manager for rays, with the photos cached as bytes.

    nerfacto's own data manager starts a second process. That process imports everything again, a checkpoint cannot
    hold its random state, and if it is killed alone, training hangs.
    """

    def create_train_dataset(self) -> InputDataset:
        return ByteImages(self.train_dataparser_outputs, scale_factor=self.config.camera_res_scale_factor)

    def setup_train(self) -> None:
        self._is_set_up = False  # the first batch reads the photos; CUDA graphs have their own copy

    def setup_eval(self) -> None:
        # nerfstudio would cache all held-out photos, too. They are needed once, one by one.
        self.fixed_indices_eval_dataloader = FixedIndicesEvalDataloader(self.eval_dataset, device=self.device)

    def next_train(self, step: int) -> tuple[Any, dict[str, Any]]:
        if not self._is_set_up:
            before = random_state()  # a resumed training continues with the random numbers of its checkpoint
            super().setup_train()
            set_random_state(before)
            self.train_ray_generator.to(self.device)
            self._is_set_up = True
        rays, batch = super().next_train(step)
        batch["image"] = batch["image"].float() / 255.0
        return rays, batch


def cache_images(config: TrainerConfig, dataset: Dataset, longest_side: int) -> None:
    """Cache the photos in this process: on the GPU if they fit, and in parts if memory is short."""
    datamanager = config.pipeline.datamanager
    if datamanager._target not in (ParallelDataManager, VanillaDataManager):
        return
    datamanager._target = DataManager
    size = dataset.images * longest_side**2 * 3
    if config.machine.device_type == "cuda":
        datamanager.images_on_gpu = size < 0.2 * torch.cuda.mem_get_info()[0]
    room = 0.4 * memory.available()  # the list of photos and the tensor built from it exist at the same time
    if size > room and not datamanager.images_on_gpu:
        at_a_time = max(1, int(dataset.images * room / size))
        datamanager.train_num_images_to_sample_from = at_a_time
        datamanager.train_num_times_to_repeat_images = max(100, at_a_time)
        print(f"{dataset.images} photos do not fit in memory. Training uses {at_a_time} of them at a time.")
