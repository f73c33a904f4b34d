"""Configure a method of nerfstudio for a dataset, a device and the options of a job."""

from __future__ import annotations

import copy
import json
from hashlib import sha256
from typing import Any

from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.engine.schedulers import CosineDecaySchedulerConfig
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.models.nerfacto import NerfactoModelConfig
from nerfstudio.models.splatfacto import SplatfactoModelConfig

from jobs import model
from jobs.errors import InvalidInput
from jobs.options import TrainOptions
from jobs.radiance import cuda
from jobs.radiance.dataset import Dataset, nearest_content
from jobs.radiance.methods import all_methods

__all__ = ["SMALL", "configure", "has_appearances"]

_SMALL_NETWORKS: dict[str, Any] = {
    "num_levels": 8,
    "features_per_level": 4,
    "log2_hashmap_size": 17,
    "max_res": 512,
    "hidden_dim": 32,
    "hidden_dim_color": 32,
    "num_proposal_iterations": 1,
    "num_proposal_samples_per_ray": (32,),
    "num_nerf_samples_per_ray": 16,
    "proposal_net_args_list": [
        {"hidden_dim": 16, "log2_hashmap_size": 15, "num_levels": 5, "max_res": 128, "use_linear": False}
    ],
    "use_appearance_embedding": False,  # unless the light differs (benchmarks/light.md)
    "proposal_weights_anneal_max_num_iters": 100,
    "implementation": "torch",
    "eval_num_rays_per_chunk": 2048,  # their intermediate results fit in the CPU's cache
}
SMALL = sha256(json.dumps(_SMALL_NETWORKS, sort_keys=True).encode()).hexdigest()
"""The checksum of the small networks' settings: checkpoints of other sizes do not fit."""

_FAR = 0.7
"""How far the nearest content must be, in units of the scene frame, for gradients near cameras to shrink."""

_APPEARANCE = {"use_appearance_embedding": NerfactoModelConfig, "use_bilateral_grid": SplatfactoModelConfig}
"""The field of a model's config that gives each photo an appearance."""


def configure(options: TrainOptions, dataset: Dataset, device: str) -> TrainerConfig:
    """Return nerfstudio's config of the method, adapted to a dataset, a device ("cpu" or "cuda") and options.

    Raises:
        InvalidInput: the method does not work with this dataset or on this machine, or lacks a requested option.
    """
    method = options.method
    if method == "depth-nerfacto" and not dataset.has_depth:
        raise InvalidInput(f"{dataset.path} has no depth maps, which the method {method} needs. Choose nerfacto.")
    cuda.check(method, device)

    config = copy.deepcopy(all_methods[method])
    config.max_num_iterations = options.max_num_iterations or config.max_num_iterations
    config.steps_per_save = options.steps_per_save
    config.machine.device_type = device
    config.machine.seed = options.seed
    config.logging.local_writer.enable = False
    config.viewer.quit_on_train_completion = True
    config.vis = "none"  # no event files; the trainer opens the viewer itself
    for name, value in model.VIEWER.items():
        setattr(config.viewer, name, value)

    datamanager = config.pipeline.datamanager
    parser = datamanager.dataparser
    if not isinstance(parser, NerfstudioDataParserConfig):
        parser = datamanager.dataparser = NerfstudioDataParserConfig()
    if dataset.in_scene_frame:
        parser.orientation_method, parser.center_method, parser.auto_scale_poses = "none", "none", False
    # nerfstudio rounds the number of training photos up. With fewer than 10 photos, it would hold out none.
    parser.train_split_fraction = min(parser.train_split_fraction, 1 - 1.5 / dataset.images)
    parser.downscale_factor, datamanager.camera_res_scale_factor = _scale(dataset, options.max_image_size)
    if options.rays_per_batch is not None:
        if not hasattr(datamanager, "train_num_rays_per_batch"):
            raise InvalidInput(f"the method {method} trains on whole photos. Leave out the rays per batch.")
        datamanager.train_num_rays_per_batch = options.rays_per_batch
    camera_optimizer = getattr(config.pipeline.model, "camera_optimizer", None)
    if camera_optimizer is not None and not options.refine_poses:
        # Refined poses drift away from the dataset's, which held-out photos and camera paths keep. That costs nerfacto
        # 3 dB or more of held-out PSNR (benchmarks/gpu.md).
        camera_optimizer.mode = "off"
    if options.model_size == "small":
        _make_small(config)
    elif isinstance(config.pipeline.model, NerfactoModelConfig):
        # Near cameras, a nerfacto puts content that only one photo shows (floaters), which weaker gradients prevent.
        # nerfstudio weakens them up to a distance of 1, so nothing real should be much nearer. Small networks have
        # learned too little for floaters, and gain nothing (benchmarks/gpu.md).
        config.pipeline.model.use_gradient_scaling = (nearest_content(dataset) or 0.0) >= _FAR
    _choose_appearance(config, options, dataset)
    return config


def has_appearances(config: TrainerConfig) -> bool:
    """Return whether a model learns an appearance for each photo."""
    network = config.pipeline.model
    return any(getattr(network, field, False) for field in _APPEARANCE if isinstance(network, _APPEARANCE[field]))


def _choose_appearance(config: TrainerConfig, options: TrainOptions, dataset: Dataset) -> None:
    """Let a model learn an appearance for each photo, or one for all.

    If the dataset does not record how the light differs, `auto` keeps what the method and the size begin with.
    """
    per_photo = options.appearance == "per-photo"
    if options.appearance == "auto":
        if dataset.light is None:
            return
        per_photo = dataset.light.differs
    for field, kind in _APPEARANCE.items():
        if isinstance(config.pipeline.model, kind):
            setattr(config.pipeline.model, field, per_photo)


def _scale(dataset: Dataset, max_image_size: int | None) -> tuple[int, float]:
    """Return the pyramid's factor, and the scale that brings its photos to a longest side of `max_image_size` px."""
    if max_image_size is None or max_image_size >= dataset.longest_side:
        return 1, 1.0
    factor = max(f for f in dataset.pyramid if f == 1 or dataset.longest_side // f >= max_image_size)
    side = dataset.longest_side // factor
    # nerfstudio truncates sizes to whole pixels, in double precision here and in single precision there. The added
    # fraction keeps both results equal.
    return factor, 1.0 if side == max_image_size else (max_image_size + 0.01) / side


def _make_small(config: TrainerConfig) -> None:
    """Shrink a nerfacto so that two CPU cores train and render it within minutes (see benchmarks/preview.md)."""
    network = config.pipeline.model
    for name, value in copy.deepcopy(_SMALL_NETWORKS).items():
        setattr(network, name, value)
    for name in ("fields", "proposal_networks"):  # learn fast for most of the few steps, and settle within the last
        config.optimizers[name] = {
            "optimizer": AdamOptimizerConfig(lr=3e-2, eps=1e-15),
            "scheduler": CosineDecaySchedulerConfig(
                warm_up_end=0, learning_rate_alpha=0.01, max_steps=config.max_num_iterations
            ),
        }
