from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
encodings = pytest.importorskip("nerfstudio.field_components.encodings")

from jobs import hash_encoding  # noqa: E402


@pytest.mark.parametrize(
    ("levels", "features", "log2_size", "max_res"), [(6, 4, 15, 512), (5, 2, 17, 128), (1, 2, 8, 16)]
)
@pytest.mark.parametrize("points", [1, 1000, hash_encoding._BLOCK + 7])
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
    for forward in (hash_encoding._stock_forward, hash_encoding.encode):
        encoding.hash_table.grad = None
        value = forward(encoding, x)
        value.backward(upstream)
        values.append(value.detach())
        gradients.append(encoding.hash_table.grad)
    torch.testing.assert_close(values[1], values[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(hash_encoding.encode(encoding, x), values[1], rtol=0, atol=0)
