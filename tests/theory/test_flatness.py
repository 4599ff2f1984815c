"""The trace of the Hessian against automatic differentiation."""

import pytest
import torch

from dmf_utils import MatrixSensing, gaussian
from dmf_utils.theory.flatness import hessian_trace


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(3, 4), (4, 2)])
@pytest.mark.parametrize("reduction", ["mean", "half_sum"])
def test_trace_is_that_of_autograd(depth, shape, reduction):
    problem = MatrixSensing.random(shape, 1, 5, seed=0, reduction=reduction)
    factors = gaussian(norm=1.3, seed=depth).factors(shape, depth)
    sizes = [W.numel() for W in factors]

    def loss(flat):
        parts = [p.view(W.shape) for p, W in zip(flat.split(sizes), factors, strict=True)]
        product = parts[0]
        for W in parts[1:]:
            product = W @ product
        return problem.loss(product)

    flat = torch.cat([W.flatten() for W in factors])
    hessian = torch.autograd.functional.hessian(loss, flat)
    assert float(hessian_trace(problem, factors)) == pytest.approx(float(hessian.trace()))


def test_a_batch_is_its_members():
    problem = MatrixSensing.random((3, 4), 1, 5, seed=0)
    several = [gaussian(norm=1.0, seed=s).factors((3, 4), 3) for s in range(2)]
    together = hessian_trace(problem, [torch.stack(layer) for layer in zip(*several, strict=True)])
    one_by_one = torch.stack([hessian_trace(problem, factors) for factors in several])
    torch.testing.assert_close(together, one_by_one)


def test_factors_of_another_shape_are_refused():
    problem = MatrixSensing.random((3, 4), 1, 5, seed=0)
    with pytest.raises(ValueError, match="product of shape"):
        hessian_trace(problem, gaussian(norm=1.0, seed=0).factors((4, 3), 2))
