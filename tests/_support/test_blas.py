"""Which library multiplies, and that it does not matter for the result."""

import numpy as np
import pytest
import threadpoolctl
import torch

from dmf_utils import MatrixCompletion, Settings, gaussian, gradient_flow
from dmf_utils._support import blas
from dmf_utils._support.blas import BY_TORCH, by_numpy, fastest_products, multiply
from dmf_utils._support.machine import LARGE_VARIABLE
from dmf_utils._support.threads import numpy_library, one_thread
from dmf_utils.flow.batch import Factorizations


@pytest.fixture
def by_numpys(monkeypatch):
    """As on a processor where numpy's library is the faster one."""
    monkeypatch.setattr(blas, "outruns_torch", lambda: True)


def randn(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, dtype=dtype, generator=generator)


@pytest.mark.usefixtures("by_numpys")
@pytest.mark.parametrize("size", [5, 60, 310])
@pytest.mark.parametrize("kind", ["plain", "left transposed", "right transposed", "both"])
def test_a_product_is_that_of_torch(size, kind):
    A, B = randn(size, size + 1), randn(size + 1, size + 2)
    A = A.T.contiguous().T if kind in ("left transposed", "both") else A
    B = B.T.contiguous().T if kind in ("right transposed", "both") else B
    wanted, out = torch.mm(A, B), A.new_empty(size, size + 2)
    torch.testing.assert_close(multiply(A, B), wanted, rtol=1e-12, atol=1e-12)
    assert multiply(A, B, out=out) is out
    torch.testing.assert_close(out, wanted, rtol=1e-12, atol=1e-12)


def test_a_batch_is_multiplied_into_the_place_given_for_it():
    A, B, room = randn(3, 7, 5), randn(3, 5, 6), torch.zeros(3, 2, 42, dtype=torch.float64)
    out = room[:, 1].view(3, 7, 6)  # with room between the members, as the states of a batch have
    by_numpy(A, B, out=out)
    torch.testing.assert_close(room[:, 1].view(3, 7, 6), torch.bmm(A, B))
    assert not room[:, 0].any()
    torch.testing.assert_close(by_numpy(A, B), torch.bmm(A, B))


@pytest.mark.usefixtures("by_numpys")
def test_autograd_follows_what_it_is_to_follow():
    A, B = randn(60, 60).requires_grad_(), randn(60, 60)
    (slope,) = torch.autograd.grad(multiply(A, B).sum(), A)
    torch.testing.assert_close(slope, B.sum(1).expand(60, 60))


@pytest.mark.usefixtures("by_numpys")
def test_the_rule_is_by_size_and_layout():
    assert fastest_products(40, 40, 40) is BY_TORCH
    medium = fastest_products(100, 100, 13)
    assert medium.plain is by_numpy
    assert medium.by_transposed is torch.bmm
    with one_thread():
        assert fastest_products(300, 300, 300).by_transposed is by_numpy


@pytest.mark.usefixtures("by_numpys")
def test_where_several_threads_multiply_it_is_those_of_torch(monkeypatch):
    monkeypatch.setenv(LARGE_VARIABLE, "2")
    assert fastest_products(300, 300, 300) is BY_TORCH
    assert fastest_products(100, 100, 100) is not BY_TORCH  # one thread in any case
    monkeypatch.setenv(LARGE_VARIABLE, "1")
    assert fastest_products(300, 300, 300) is not BY_TORCH


@pytest.mark.parametrize(
    ("has_kernels", "name", "expected"),
    [
        (True, "AMD EPYC", True),
        (False, "AMD Ryzen", False),
        (True, "Intel(R) Xeon(R)", False),
    ],
)
def test_only_where_it_was_measured(has_kernels, name, expected, monkeypatch):
    own = Library("/env/site-packages/numpy.libs/libscipy_openblas64_.so")
    own.architecture = "SkylakeX" if has_kernels else "Zen"
    monkeypatch.setattr(blas, "numpy_library", lambda: own)
    monkeypatch.setattr(blas, "processor", lambda: name)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert blas.outruns_torch.__wrapped__() is expected
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert not blas.outruns_torch.__wrapped__()
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(blas, "numpy_library", lambda: None)
    assert not blas.outruns_torch.__wrapped__()


class Library:
    """As threadpoolctl tells of it."""

    def __init__(self, filepath, internal_api="openblas"):
        self.filepath, self.internal_api = filepath, internal_api


OTHERS = [
    Library("/env/site-packages/scs.libs/libopenblas-r0.so"),
    Library("/env/site-packages/scipy.libs/libscipy_openblas.so"),
    Library("/env/site-packages/scipy/.dylibs/libopenblas.dylib"),
    Library("/env/site-packages/torch/lib/libgomp.so", "openmp"),
]


@pytest.mark.parametrize(
    "path",
    [
        "/env/site-packages/numpy.libs/libscipy_openblas64_.so",
        "/env/site-packages/numpy/.dylibs/libscipy_openblas64_.dylib",
        "/env/lib/libopenblas.so",
    ],
)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_the_library_is_that_of_numpy_wherever_it_is_listed(path, place, monkeypatch):
    own, listed = Library(path), list(OTHERS)
    listed.insert(place, own)

    class Controller:
        lib_controllers = listed

    monkeypatch.setattr(threadpoolctl, "ThreadpoolController", Controller)
    assert numpy_library.__wrapped__() is own
    Controller.lib_controllers = OTHERS
    assert numpy_library.__wrapped__() is None


def test_here_as_well_after_all_others_were_loaded():
    import cvxpy  # noqa: F401, brings those of its solvers
    import scipy.linalg  # noqa: F401, brings its own

    library = numpy_library.__wrapped__()
    kind = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
    assert (library is not None) == ("openblas" in kind)
    assert library is None or numpy_library().filepath == library.filepath


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_a_flow_is_the_same_by_either(depth, monkeypatch):
    # 50 rows and 60 columns: products of 150,000 multiplications.
    problem = MatrixCompletion.random((50, 60), 2, 1500, seed=0)
    start, settings = gaussian(norm=1e-2, seed=0), Settings(tolerance=1e-6)
    ends = []
    for outruns in (True, False):
        monkeypatch.setattr(blas, "outruns_torch", lambda outruns=outruns: outruns)
        batch = Factorizations(problem, [(50, 60)] + [(50, 50)] * (depth - 1), 1)
        assert (batch.products is BY_TORCH) is not outruns
        ends.append(gradient_flow(problem, depth, start, 1e-4, settings=settings))
    one, other = ends
    assert one.n_gradients == other.n_gradients
    torch.testing.assert_close(one.product, other.product, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("by_numpys")
def test_a_problem_of_the_users_is_multiplied_by_torch():
    class Own:
        shape = (50, 60)
        data = torch.zeros(1)

        def loss_and_gradient(self, W):
            return W.square().sum((-2, -1)), 2 * W

    assert Factorizations(Own(), [(50, 60), (50, 50)], 1).products is BY_TORCH


@pytest.mark.usefixtures("by_numpys")
def test_by_a_transposed_matrix_of_medium_size_torch_is_faster(monkeypatch):
    asked = []

    def counted(A, B, out=None):
        asked.append(tuple(B.stride()))
        return by_numpy(A, B, out)

    monkeypatch.setattr(blas, "by_numpy", counted)
    A, B = randn(60, 60), randn(60, 60)
    multiply(A, B.T)
    assert not asked
    multiply(A.T, B)
    assert asked == [(60, 1)]
