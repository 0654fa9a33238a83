"""Tucker-2 against tensorly's partial HOSVD."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hscc.methods.tucker import hosvd


@pytest.mark.parametrize("core", [(3, 4), (6, 10), (1, 1)])
def test_hosvd_is_tensorlys(core: tuple[int, int]) -> None:
    tensorly = pytest.importorskip("tensorly")
    from tensorly.decomposition import partial_tucker

    torch.manual_seed(0)
    weight = torch.randn(10, 6, 3, 3, dtype=torch.float64)
    inner, kernel, outer = hosvd(weight, core)
    ours = torch.einsum("rskl,or,is->oikl", kernel, outer, inner).numpy()
    (reference, factors), _ = partial_tucker(
        weight.numpy(), rank=[core[1], core[0]], modes=[0, 1], n_iter_max=0, init="svd", svd="truncated_svd"
    )
    theirs = tensorly.tenalg.multi_mode_dot(reference, factors, modes=[0, 1])
    np.testing.assert_allclose(ours, theirs, atol=1e-10)
