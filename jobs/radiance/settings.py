"""nerfstudio's config of a method, set for a dataset, a device and a job's options."""

from __future__ import annotations

import copy
from typing import Any

from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.engine.schedulers import ExponentialDecaySchedulerConfig
from nerfstudio.engine.trainer import TrainerConfig

from jobs import model
from jobs.errors import InvalidInput
from jobs.options import TrainOptions
from jobs.radiance import cuda
from jobs.radiance.dataset import Dataset
from jobs.radiance.methods import all_methods

__all__ = ["configure"]


def configure(options: TrainOptions, dataset: Dataset, device: str) -> TrainerConfig:
    """nerfstudio's config of the method, set for this dataset, device ("cpu" or "cuda") and these options.

    Raises:
        InvalidInput: the method cannot work on this dataset or machine, or lacks an option that was asked for.
    """
    method = options.method
    if method == "depth-nerfacto" and not dataset.has_depth:
        raise InvalidInput(f"{dataset.path} has no depth maps, which the method {method} needs; take nerfacto")
    cuda.check(method, device)

    config = copy.deepcopy(all_methods[method])
    config.max_num_iterations = options.max_num_iterations or config.max_num_iterations
    config.steps_per_save = options.steps_per_save
    config.machine.device_type = device
    config.machine.seed = options.seed
    config.logging.local_writer.enable = False
    config.viewer.quit_on_train_completion = True
    config.vis = "none"  # no event files; the viewer is opened once there is something to see
    for name, value in model.VIEWER.items():
        setattr(config.viewer, name, value)

    datamanager = config.pipeline.datamanager
    parser = datamanager.dataparser
    if not isinstance(parser, NerfstudioDataParserConfig):
        parser = datamanager.dataparser = NerfstudioDataParserConfig()
    if dataset.in_scene_frame:
        parser.orientation_method, parser.center_method, parser.auto_scale_poses = "none", "none", False
    # nerfstudio rounds the share of training photos up: with fewer than 10 nothing would be held out
    parser.train_split_fraction = min(parser.train_split_fraction, 1 - 1.5 / dataset.images)
    parser.downscale_factor, datamanager.camera_res_scale_factor = _scale(dataset, options.max_image_size)
    if options.rays_per_batch is not None:
        if not hasattr(datamanager, "train_num_rays_per_batch"):
            raise InvalidInput(f"the method {method} trains on whole photos: leave out the rays per batch")
        datamanager.train_num_rays_per_batch = options.rays_per_batch
    if options.model_size == "small":
        _make_small(config)
    return config


def _scale(dataset: Dataset, max_image_size: int | None) -> tuple[int, float]:
    """The pyramid's factor, and by how much to scale its images so that the longest side is `max_image_size` px."""
    if max_image_size is None or max_image_size >= dataset.longest_side:
        return 1, 1.0
    factor = max(f for f in dataset.pyramid if f == 1 or dataset.longest_side // f >= max_image_size)
    side = dataset.longest_side // factor
    # nerfstudio cuts sizes to whole pixels, once in double and once in single precision: stay off the edge
    return factor, 1.0 if side == max_image_size else (max_image_size + 0.01) / side


def _make_small(config: TrainerConfig) -> None:
    """Shrink a nerfacto to what two CPU cores train and render within minutes (see benchmarks/cpu_encoding.py)."""
    small: dict[str, Any] = {
        "num_levels": 8,
        "features_per_level": 4,
        "log2_hashmap_size": 16,
        "max_res": 512,
        "hidden_dim": 32,
        "hidden_dim_color": 32,
        "num_proposal_iterations": 1,
        "num_proposal_samples_per_ray": (32,),
        "num_nerf_samples_per_ray": 16,
        "proposal_net_args_list": [
            {"hidden_dim": 16, "log2_hashmap_size": 15, "num_levels": 5, "max_res": 128, "use_linear": False}
        ],
        "use_appearance_embedding": False,
        "proposal_weights_anneal_max_num_iters": 100,
        "implementation": "torch",
        "eval_num_rays_per_chunk": 2048,  # what is computed for them stays in the cache
    }
    network = config.pipeline.model
    for name, value in small.items():
        setattr(network, name, value)
    network.camera_optimizer.mode = "off"
    for name in ("fields", "proposal_networks"):  # fast at first, and fine within the few steps there are
        config.optimizers[name] = {
            "optimizer": AdamOptimizerConfig(lr=2e-2, eps=1e-15),
            "scheduler": ExponentialDecaySchedulerConfig(lr_final=1e-3, max_steps=config.max_num_iterations),
        }
