from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
encodings = pytest.importorskip("nerfstudio.field_components.encodings")

from nerfstudio.engine.optimizers import AdamOptimizerConfig, Optimizers, RAdamOptimizerConfig  # noqa: E402
from nerfstudio.field_components.spatial_distortions import SceneContraction  # noqa: E402

from jobs.radiance import cpu  # noqa: E402


@pytest.mark.parametrize(
    ("levels", "features", "log2_size", "max_res"), [(6, 4, 15, 512), (5, 2, 17, 128), (1, 2, 8, 16)]
)
@pytest.mark.parametrize("points", [2, 1000, cpu._BLOCK + 7])
def test_values_and_gradients_are_nerfstudios(
    levels: int, features: int, log2_size: int, max_res: int, points: int
) -> None:
    torch.manual_seed(0)
    encoding = encodings.HashEncoding(
        num_levels=levels,
        max_res=max_res,
        log2_hashmap_size=log2_size,
        features_per_level=features,
        hash_init_scale=1.0,
        implementation="torch",
    )
    x = torch.rand(points, 3)
    x[0] = 0.0  # on a corner of every level
    x[-1] = torch.tensor([1.0, 0.5, 0.25])
    upstream = torch.rand(points, encoding.get_out_dim())
    values, gradients = [], []
    for forward in (cpu._stock_encode, cpu.encode):
        encoding.hash_table.grad = None
        value = forward(encoding, x)
        value.backward(upstream)
        values.append(value.detach())
        gradients.append(encoding.hash_table.grad)
    torch.testing.assert_close(values[1], values[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(cpu.encode(encoding, x), values[1], rtol=0, atol=0)


def test_space_is_contracted_as_nerfstudio_does() -> None:
    contraction = SceneContraction(order=float("inf"))
    results = []
    for contract in (cpu._stock_contract, cpu.contract):
        x = (torch.randn(5000, 3, generator=torch.Generator().manual_seed(0)) * 3).requires_grad_()
        y = contract(contraction, x)
        y.square().sum().backward()
        results.append((y.detach(), x.grad))
    torch.testing.assert_close(results[1], results[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("wanted", [True, False])
def test_points_get_a_gradient_where_it_is_wanted(wanted: bool) -> None:
    encoding = encodings.HashEncoding(num_levels=4, log2_hashmap_size=10, implementation="torch")
    expected, x = (torch.rand(50, 3, generator=torch.Generator().manual_seed(0)).requires_grad_() for _ in range(2))
    cpu._stock_encode(encoding, expected).sum().backward()
    cpu.encode(encoding, x, point_gradients=wanted).sum().backward()
    assert x.grad is None if not wanted else torch.equal(x.grad, expected.grad)


def test_adam_takes_the_same_steps_in_one_pass() -> None:
    generator = torch.Generator().manual_seed(0)
    start, gradients = torch.randn(50, generator=generator), torch.randn(20, 50, generator=generator)
    gradients[:, 10] = 0  # a row of the table that no point uses
    results = []
    for fused in (False, True):
        parameters = {name: [torch.nn.Parameter(start.clone())] for name in ("adam", "radam")}
        configs = {"adam": AdamOptimizerConfig(lr=1e-2, eps=1e-15), "radam": RAdamOptimizerConfig(lr=1e-2)}
        optimizers = Optimizers({n: {"optimizer": each, "scheduler": None} for n, each in configs.items()}, parameters)
        if fused:
            cpu.fuse(optimizers)
        for gradient in gradients:
            for [each] in parameters.values():
                each.grad = gradient.clone()
            optimizers.optimizer_step_all()
        results.append({name: each.detach() for name, [each] in parameters.items()})
    assert optimizers.optimizers["adam"].param_groups[0]["fused"]
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-6)
    assert not torch.equal(results[1]["adam"], start) and results[1]["adam"][10] == start[10]
