"""Losses, gradients and pictures against nerfstudio's own, by the same parameters and random numbers.

Kernels run on the GPU where there is one, else in Triton's interpreter on the CPU (see `tests/conftest.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("nerfstudio")
pytest.importorskip("triton", reason="the kernels are Triton's, and it is not installed")

import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.model_components.renderers import background_color_override_context
from nerfstudio.models.nerfacto import NerfactoModel, NerfactoModelConfig

from jobs import model as models
from jobs.radiance import support
from jobs.radiance.frames import Frames
from jobs.radiance.nerfacto import Nerfacto

pytestmark = pytest.mark.usefixtures("nerfstudios_own_functions")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PHOTOS = 5
RAYS = 6 if DEVICE == "cpu" else 512

SMALL: dict[str, Any] = {
    "num_levels": 4,
    "log2_hashmap_size": 10,
    "max_res": 256,
    "num_proposal_samples_per_ray": (20, 16),
    "num_nerf_samples_per_ray": 12,
    "proposal_net_args_list": [
        {"hidden_dim": 16, "log2_hashmap_size": 9, "num_levels": 2, "max_res": 64, "use_linear": False},
        {"hidden_dim": 16, "log2_hashmap_size": 9, "num_levels": 2, "max_res": 96, "use_linear": False},
    ],
}


def build(**options: Any) -> NerfactoModel:
    """Return a nerfacto whose densities and colours differ from place to place."""
    values = {
        "average_init_density": 0.01,
        "camera_optimizer": CameraOptimizerConfig(mode="SO3xR3"),
        **SMALL,
        **options,
    }
    config = NerfactoModelConfig(implementation="torch", **values)
    with models.lpips_from_cache(), torch.random.fork_rng():
        torch.manual_seed(5)
        model = config.setup(scene_box=SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3])), num_train_data=PHOTOS)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "hash_table" in name:
                sharp = 1 if "proposal" in name else 8  # so that both proposals have something to learn
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * sharp)
            if name.endswith(("mlp_base.1.layers.1.bias", "mlp_base.model.1.layers.1.bias")):
                parameter += 4
            if "pose" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    result: NerfactoModel = model.to(DEVICE)
    return result


def rays() -> RayBundle:
    generator = torch.Generator().manual_seed(1)
    bundle = RayBundle(
        origins=torch.rand(RAYS, 3, generator=generator) - 0.5,
        directions=torch.nn.functional.normalize(torch.randn(RAYS, 3, generator=generator), dim=-1),
        pixel_area=torch.ones(RAYS, 1),
        camera_indices=torch.randint(0, PHOTOS, (RAYS, 1), generator=generator),
    )
    result: RayBundle = bundle.to(DEVICE)
    return result


def nerfstudios(model: NerfactoModel, anneal: float, update: bool, truth: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return nerfstudio's losses for `rays`."""
    sampler = model.proposal_sampler
    sampler.set_anneal(anneal)
    sampler._step, sampler._steps_since_update = (0, 0) if update else (6000, 1)
    torch.manual_seed(7)
    outputs = model(rays())
    batch = {"image": truth}
    losses: dict[str, torch.Tensor] = model.get_loss_dict(outputs, batch, model.get_metrics_dict(outputs, batch))
    return losses


VARIANTS: dict[str, dict[str, Any]] = {
    "nerfacto": {},
    "without appearance and camera optimizer": {
        "use_appearance_embedding": False,
        "camera_optimizer": CameraOptimizerConfig(mode="off"),
    },
    "other sizes": {"hidden_dim": 32, "hidden_dim_color": 48, "num_proposal_iterations": 1, "appearance_embed_dim": 8},
    "two parts of a block": {"num_levels": 2, "num_nerf_samples_per_ray": 48},
    "gradients scaled": {"use_gradient_scaling": True},
}


TENSOR_CORES = pytest.mark.skipif(
    DEVICE == "cuda" and torch.cuda.get_device_capability() < (8, 0), reason="Triton lacks this GPU's tensor cores"
)
FUSED: dict[str, Any] = {"num_levels": 8, "log2_hashmap_size": 8}  # the kernels of the networks support this size


@pytest.fixture
def exact() -> Iterator[None]:
    """Multiply in full precision: an earlier training may have allowed TF32."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("update", [True, False])
@pytest.mark.parametrize("variant", [*VARIANTS, pytest.param("fused", marks=TENSOR_CORES)])
def test_losses_and_every_gradient_are_nerfstudios(variant: str, update: bool) -> None:
    model = build(**VARIANTS.get(variant, FUSED)).train()
    truth = torch.rand(RAYS, 3, generator=torch.Generator().manual_seed(2)).to(DEVICE)
    expected = nerfstudios(model, 0.7, update, truth)
    torch.stack(list(expected.values())).sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad(set_to_none=True)

    torch.manual_seed(7)
    given = rays()
    losses = Nerfacto(model, fused=variant == "fused").losses(
        given.origins, given.directions, given.camera_indices[:, 0], truth, torch.tensor(0.7, device=DEVICE), update
    )
    torch.stack(list(losses.values())).sum().backward()
    if not update:  # nerfstudio computes it, and trains nothing by it
        expected.pop("interlevel_loss")
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], rtol=1e-4 if DEVICE == "cpu" else 5e-3, atol=1e-6)
    trained = 0
    for name, parameter in model.named_parameters():
        gradient = gradients[name]
        if gradient is None or not gradient.any():
            assert parameter.grad is None or not parameter.grad.any(), name
            continue
        trained += 1
        assert parameter.grad is not None, name
        error = (parameter.grad - gradient).norm() / gradient.norm()
        # The order of a sum, which the processor's load changes, moves the smallest gradients by 2e-4. TF32, which the
        # kernels of the networks use on a GPU, moves the inputs of some ReLUs across zero.
        bound = 1e-3 if DEVICE == "cpu" else 0.1 if variant == "fused" else 2e-2
        assert error < bound, (name, float(error))
    networks = [name for name, _ in model.named_parameters() if not name.startswith(("device", "lpips"))]
    assert trained == sum(1 for name in networks if update or "proposal" not in name)


def picture(model: NerfactoModel, **planes: torch.Tensor) -> RayBundle:
    """Return `rays` as those of a picture two pixels wide, with other members of a bundle."""
    bundle = rays()
    bundle.nears, bundle.fars = planes.get("nears"), planes.get("fars")
    result: RayBundle = bundle.reshape((RAYS // 2, 2))
    return result


@pytest.mark.parametrize("variant", [*VARIANTS, "fused"])
def test_pictures_are_nerfstudios(variant: str) -> None:
    model = build(**VARIANTS.get(variant, FUSED)).eval()
    with torch.inference_mode():
        expected = model.get_outputs_for_camera_ray_bundle(picture(model))
        shown = Frames(model, graph=True)(picture(model))
    assert shown.keys() == expected.keys()
    bound = 5e-3 if DEVICE == "cuda" or variant == "fused" else 1e-5  # float16, or float32
    for name, values in shown.items():
        assert values.shape == expected[name].shape and not values.is_inference()
        differs = (values - expected[name]).abs() > bound + 4 * bound * expected[name].abs()
        assert differs.float().mean() < 0.02, name  # a median may fall on the next sample
    error = (shown["rgb"] - expected["rgb"]).square().mean()
    assert -10 * torch.log10(error) > 60


def test_a_picture_is_cropped_and_begins_at_the_near_plane_as_nerfstudios() -> None:
    model = build().eval()
    planes = {"nears": torch.full((RAYS, 1), 0.2), "fars": torch.full((RAYS, 1), 1.5)}
    planes["nears"][0] = planes["fars"][0] = 1e10  # this ray misses the box
    planes = {name: values.to(DEVICE) for name, values in planes.items()}
    red = torch.tensor([1.0, 0.0, 0.0], device=DEVICE)
    frames = Frames(model, graph=True)
    with torch.no_grad(), background_color_override_context(red):
        expected = model.get_outputs_for_camera_ray_bundle(picture(model, **planes))
        shown = frames(picture(model, **planes))
    torch.testing.assert_close(shown["rgb"], expected["rgb"], rtol=0, atol=5e-3)
    torch.testing.assert_close(shown["accumulation"], expected["accumulation"], rtol=0, atol=5e-3)
    torch.testing.assert_close(shown["rgb"][0, 0], red)
    assert (frames(picture(model))["rgb"][0, 0] - red).abs().max() > 0.1  # and not in the next picture


def test_a_picture_in_parts_is_the_same() -> None:
    model = build().eval()
    frames = Frames(model, graph=True)
    whole = frames(picture(model))
    model.config.eval_num_rays_per_chunk = 4
    parts = frames(picture(model))
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"predict_normals": True}, "predict_normals is True"),
        ({"features_per_level": 4}, "features_per_level is 4"),
        ({"background_color": "white"}, "background_color is white"),
        ({"proposal_net_args_list": [{"use_linear": True}]}, "a proposal network is linear"),
    ],
)
def test_another_nerfacto_is_left_to_nerfstudio(changed: dict[str, Any], words: str) -> None:
    assert support.model_lacks(build()) is None
    assert support.model_lacks(build(**changed)) == words
