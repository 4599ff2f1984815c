"""Chebyshev steps whose stages follow only what is stiff, beside steps of all factors."""

import functools
import weakref
from itertools import pairwise

import numpy as np
import pytest
import torch

from dmf_utils.factorization.initialization import gaussian, identity
from dmf_utils.factorization.product import product_matrix
from dmf_utils.flow import integration
from dmf_utils.flow.batch import Factorizations, prepare
from dmf_utils.flow.chebyshev import chebyshev_step, longest_chebyshev_step
from dmf_utils.flow.curvature import spectral_radius
from dmf_utils.flow.flow import gradient_flow
from dmf_utils.flow.reduction import ReducedStages, may_be_reduced
from dmf_utils.flow.settings import Settings
from dmf_utils.flow.step import Workspace
from dmf_utils.flow.trajectory import Record, Status
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.problems.full_observation import FullObservation
from dmf_utils.problems.sensing import MatrixSensing

SHAPES = {"square": (110, 110), "wide": (105, 160), "tall": (160, 105)}
SPARSE = (240, 400)  # with a tenth observed, the engine forms no product matrix


def completion(shape, share=0.25, rank=3):
    return MatrixCompletion.random(shape, rank, int(share * shape[0] * shape[1]), seed=0)


@functools.cache
def sensing(shape):
    return MatrixSensing.random(shape, 3, 700, seed=0)


def at_rest(problem, depth, hidden=None, loss=0.05):
    """Factors late in a run, when a few directions are large and the rest waits."""
    coarse = Settings(tolerance=1e-3)
    start = gaussian(norm=1e-3, seed=1)
    return gradient_flow(
        problem, depth, start, hidden=hidden, until_loss=loss, settings=coarse
    ).factors


class Run:
    """One factorization with its scratch memory, and the bases of its reduced steps."""

    def __init__(self, problem, factors):
        self.batch, states, _ = prepare(problem, len(factors), factors, None, "cpu", torch.float64)
        self.state, gradient = states[0], torch.empty_like(states)
        self.batch.gradient(states, out=gradient)
        self.gradient = gradient[0]
        self.workspace = Workspace(self.batch, states.new_full((1, 9, states.shape[1]), 99.0))
        self.reduced = ReducedStages(self.batch)
        direction = torch.randn(states.shape, generator=torch.Generator().manual_seed(0)).double()
        self.curvature = spectral_radius(self.batch, states, gradient, direction)[0]

    def step(self, h, stages, is_reduced, expected=None):
        expected = torch.zeros_like(self.state) if expected is None else expected
        origin = self.batch, [self.state], [self.gradient], [h], [stages], self.workspace
        if is_reduced:
            assert self.enters(stages)
        return chebyshev_step(*origin, [expected], self.reduced if is_reduced else None)

    def enters(self, stages):
        stiffness = longest_chebyshev_step(1.0, stages)
        return self.reduced.enters(self.state, stages, stiffness, torch.float64)

    def move_to(self, step):
        self.state, self.gradient = step.states[0], step.gradients[0].clone()
        self.reduced.accept()


def whole_bases(run, seed=0):
    """Orthonormal bases of whole layers: nothing is left out."""
    random = torch.Generator().manual_seed(seed)
    hidden = [rows for rows, _ in run.batch.shapes[:-1]]
    run.reduced._age = 0
    run.reduced.bases = [
        None,
        *(torch.linalg.qr(torch.randn(h, h, generator=random).double())[0] for h in hidden),
        None,
    ]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("depth", [3, 4])
def test_with_whole_bases_a_step_is_that_of_all_factors(shape, depth):
    problem = completion(SHAPES[shape])
    run = Run(problem, at_rest(problem, depth))
    whole_bases(run)
    h = longest_chebyshev_step(run.curvature, 6) / 1.2
    random = torch.Generator().manual_seed(1)
    expected = 1e-4 * torch.randn(run.state.shape, generator=random).double()
    whole, reduced = (run.step(h, 6, is_reduced, expected) for is_reduced in (False, True))
    moved = torch.linalg.vector_norm(whole.states[0] - run.state)
    assert torch.linalg.vector_norm(reduced.states[0] - whole.states[0]) < 1e-10 * moved
    assert reduced.errors[0] == pytest.approx(whole.errors[0], rel=1e-7)
    assert reduced.losses[0] == pytest.approx(whole.losses[0], rel=1e-10)


@pytest.mark.parametrize("shape", [(45, 45), (40, 50), (50, 40)])
@pytest.mark.parametrize("depth", [3, 4])
def test_with_whole_bases_measurements_are_all_used(shape, depth):
    run = Run(sensing(shape), at_rest(sensing(shape), depth))
    whole_bases(run)
    h = longest_chebyshev_step(run.curvature, 9) / 1.2
    whole, reduced = (run.step(h, 9, is_reduced) for is_reduced in (False, True))
    moved = torch.linalg.vector_norm(whole.states[0] - run.state)
    assert torch.linalg.vector_norm(reduced.states[0] - whole.states[0]) < 1e-9 * moved
    assert reduced.losses[0] == pytest.approx(whole.losses[0], rel=1e-10)
    assert [whole.evaluations, reduced.evaluations] == [[9], [10]]


@pytest.mark.parametrize("shape", [SPARSE, SPARSE[::-1]], ids=["wide", "tall"])
def test_observed_entries_alone_are_enough(shape):
    problem = completion(shape, 0.1)
    run = Run(problem, at_rest(problem, 3, loss=0.2))
    assert run.batch.from_factors
    whole_bases(run)
    h = longest_chebyshev_step(run.curvature, 5) / 1.2
    whole, reduced = (run.step(h, 5, is_reduced) for is_reduced in (False, True))
    moved = torch.linalg.vector_norm(whole.states[0] - run.state)
    assert torch.linalg.vector_norm(reduced.states[0] - whole.states[0]) < 1e-10 * moved


def difference_of_two_steps(run, h, stages):
    """After two steps, reduced and whole, over the distance that they move."""
    state, gradient = run.state, run.gradient
    ends = []
    for is_reduced in (True, False):
        run.state, run.gradient = state, gradient
        run.reduced = ReducedStages(run.batch)
        expected = torch.zeros_like(state)
        for _ in range(2):
            step = run.step(h, stages, is_reduced, expected)
            expected = step.missed(0).clone()
            run.move_to(step)
        ends.append(run.state)
    return float(torch.linalg.vector_norm(ends[0] - ends[1]))


@pytest.mark.parametrize("depth", [3, 4])
def test_what_is_left_out_is_followed_to_second_order(depth):
    problem = completion(SHAPES["square"])
    run = Run(problem, at_rest(problem, depth, loss=0.3))
    longest = longest_chebyshev_step(run.curvature, 4) / 1.2
    apart = [difference_of_two_steps(run, longest / 2**k, 4) for k in (1, 2, 3)]
    # The first of the two knows nothing of the change: that is the error, of second order.
    assert apart[0] > 1e-12
    for coarse, fine in pairwise(apart):
        assert 3 < coarse / fine < 20


def test_the_second_step_knows_how_the_rest_changes():
    factors = at_rest(completion(SHAPES["square"]), 3, loss=0.3)
    apart = []
    for part in (16, 32):
        run = Run(completion(SHAPES["square"]), factors)
        h = longest_chebyshev_step(run.curvature, 4) / part
        run.move_to(run.step(h, 4, True))
        whole = run.step(h, 4, False).states[0]
        known = run.step(h, 4, True).states[0]
        run.reduced.change = None
        unknown = run.step(h, 4, True).states[0]
        apart.append([float(torch.linalg.vector_norm(end - whole)) for end in (known, unknown)])
    coarse, fine = apart
    assert fine[0] < 0.1 * fine[1]
    assert coarse[0] / fine[0] > 6.5  # of third order
    assert 3 < coarse[1] / fine[1] < 5  # of second order


def test_only_an_accepted_reduced_step_tells_how_the_rest_changes():
    problem = completion(SHAPES["square"])
    run = Run(problem, at_rest(problem, 3))
    h = longest_chebyshev_step(run.curvature, 4) / 2
    run.step(h, 4, True)
    assert run.reduced.change is None
    run.reduced.reject()
    run.reduced.accept()  # of a whole step
    assert run.reduced.change is None
    run.move_to(run.step(h, 4, True))
    assert run.reduced.change is not None
    run.reduced.accept()
    assert run.reduced.change is None


def at_its_start(problem, run, factors):
    """What a reduced step needs to know there, by other ways."""
    product = product_matrix(factors)
    if isinstance(problem, MatrixSensing):
        return problem.gradient(product)
    return product[problem.mask] if run.batch.from_factors else product


@pytest.mark.parametrize(
    "problem",
    [
        sensing((40, 50)),
        completion((110, 110)),
        completion(SPARSE, 0.1),
        completion((400, 240), 0.1),
    ],
    ids=["sensing", "completion", "wide", "tall"],
)
def test_what_is_known_at_an_end_is_what_the_next_step_needs(problem):
    run = Run(problem, at_rest(problem, 3, loss=0.2))
    h, seen = longest_chebyshev_step(run.curvature, 9) / 4, []
    for_blocks = run.reduced._rest.for_blocks

    def compared(factors, blocks, known):
        found = for_blocks(factors, blocks, known)
        expected = at_its_start(problem, run, [W.clone() for W in factors])
        torch.testing.assert_close(found[1], expected, rtol=1e-10, atol=1e-12)
        seen.append(known is not None)
        return found

    run.reduced._rest.for_blocks = compared
    run.step(h, 9, True)
    run.reduced.reject()
    run.move_to(run.step(h / 2, 9, True))
    second = run.step(h / 2, 9, True)
    run.move_to(second)
    run.move_to(run.step(h / 2, 9, False))
    last = run.step(h / 2, 9, True)
    # Not at the first, and not after a whole step.
    assert seen == [False, True, True, False]
    is_sensing = isinstance(problem, MatrixSensing)
    assert [second.evaluations, last.evaluations] == [[9], [10 if is_sensing else 9]]


def test_a_rejected_end_is_no_start():
    problem = sensing((40, 50))
    run = Run(problem, at_rest(problem, 3, loss=0.2))
    h = longest_chebyshev_step(run.curvature, 9) / 4
    run.step(h, 9, True)
    run.reduced.reject()
    run.move_to(run.step(h, 9, False))
    assert run.step(h, 9, True).evaluations == [10]


def test_a_coarse_gradient_is_not_taken_for_a_fine_one():
    problem = sensing((40, 50))
    run = Run(problem, at_rest(problem, 3, loss=0.2))
    h = longest_chebyshev_step(run.curvature, 9) / 4
    run.move_to(run.step(h, 9, True))
    run.reduced._at_origin = run.reduced._at_origin.float()
    assert run.step(h, 9, True).evaluations == [10]
    assert run.reduced._at_origin.dtype == torch.float64


def test_bases_are_of_the_largest_directions():
    problem = completion(SHAPES["square"])
    factors = at_rest(problem, 3, loss=1e-3)
    run = Run(problem, factors)
    assert run.enters(4)
    for j, basis in enumerate(run.reduced.bases[1:-1]):
        lower, upper = factors[j], factors[j + 1]
        values, vectors = torch.linalg.eigh(lower @ lower.T + upper.T @ upper)
        leading = vectors[:, -3:]  # the rank of the ground truth
        assert values[-3] > 50 * values[-4]
        assert torch.linalg.matrix_norm(leading - basis @ (basis.T @ leading)) < 1e-6
        eye = torch.eye(basis.shape[1], dtype=basis.dtype)
        torch.testing.assert_close(basis.T @ basis, eye, rtol=0, atol=1e-12)


def test_each_layer_has_a_share_of_the_curvature_that_is_left_out():
    problem = completion(SHAPES["square"])
    for depth in (3, 4):
        run = Run(problem, at_rest(problem, depth))
        for _ in range(4):  # each time, the bases are nearer to the largest directions
            run.reduced._age = 99
            run.enters(5)
        factors = [W[0] for W in run.batch.factors(run.state[None])]
        found, k = [], run.reduced.bases[1].shape[1]
        for lower, upper in pairwise(factors):
            values = torch.linalg.eigvalsh(lower @ lower.T + upper.T @ upper)
            found.append(float(values[-k] / values[-1]) / depth)
        assert run.reduced._left_out == pytest.approx(max(found), rel=0.3)


def test_near_the_start_of_a_step_the_gradient_is_the_one_there():
    problem = sensing((40, 50))
    run = Run(problem, at_rest(problem, 3, loss=0.3))
    assert run.enters(9)
    factors = [W[0] for W in run.batch.factors(run.state[None])]
    blocks = run.reduced._blocks(run.state[None])
    inner, gradient = run.reduced._rest.for_blocks(factors, blocks, None)
    torch.testing.assert_close(gradient, problem.gradient(product_matrix(factors)))
    torch.testing.assert_close(inner.gradient(product_matrix(blocks)), gradient, rtol=0, atol=0)


def test_measurements_on_a_tangent_space_stay_in_one_memory_that_is_freed_at_the_end():
    problem = sensing((40, 50))
    run = Run(problem, at_rest(problem, 3, loss=0.2))
    h = longest_chebyshev_step(run.curvature, 9) / 8
    run.move_to(run.step(h, 9, True))
    memory = run.reduced._rest._tangent.measured
    before = memory.clone()
    for _ in range(4):
        run.move_to(run.step(h, 9, True))
    run.move_to(run.step(h, 9, True))  # with new bases
    assert run.reduced._rest._tangent.measured.data_ptr() == memory.data_ptr()
    assert not torch.equal(run.reduced._rest._tangent.measured, before)
    run.reduced.release()
    assert run.reduced._rest._tangent is None
    freed = weakref.ref(memory)
    del memory
    assert freed() is None
    assert run.enters(9)


def test_a_stiff_rest_and_few_stages_are_left_to_whole_steps():
    problem = completion(SHAPES["square"])
    run = Run(problem, at_rest(problem, 3))
    assert not run.enters(2)
    assert run.enters(5)
    assert not run.enters(2000)
    assert not run.enters(5)  # not asked again at once
    asked = [run.enters(5) for _ in range(12)]
    assert asked[-1]


@pytest.mark.filterwarnings("ignore:hidden")
@pytest.mark.parametrize(
    ("problem", "depth", "hidden", "expected"),
    [
        (completion((100, 120)), 3, None, True),
        (completion((100, 120)), 2, None, False),
        (completion((99, 120)), 3, None, False),
        # Where the product is taken at many observed entries only, fewer hidden units are enough.
        (completion((300, 800), 0.1), 3, 50, True),
        (completion((300, 800), 0.1), 3, 40, False),
        (completion((300, 800), 0.05), 3, 50, False),
        (completion((60, 400), 0.9), 3, None, False),  # where it is not taken so
        (FullObservation(torch.eye(100, dtype=torch.float64)), 3, None, False),
        (MatrixSensing.random((100, 100), 1, 20, seed=0), 3, None, False),
        (sensing((40, 60)), 3, None, True),
        (sensing((40, 60)), 2, None, False),
        (sensing((30, 80)), 3, None, False),
    ],
)
def test_which_runs_may_be_reduced(problem, depth, hidden, expected):
    batch, _, _ = prepare(problem, depth, gaussian(1e-2, seed=0), hidden, "cpu", torch.float64)
    assert may_be_reduced(batch) is expected


@pytest.fixture
def blocks(monkeypatch):
    """Grows by one with each reduced step that is tried."""
    made, prepare_blocks = [], ReducedStages.prepare

    def counted(self, *args):
        made.append(args)
        return prepare_blocks(self, *args)

    monkeypatch.setattr(ReducedStages, "prepare", counted)
    return made


def with_and_without(monkeypatch, problem, depth, start, **options):
    reduced = gradient_flow(problem, depth, start, **options)
    with monkeypatch.context() as patch:
        patch.setattr(integration, "may_be_reduced", lambda batch: False)
        whole = gradient_flow(problem, depth, start, **options)
    return reduced, whole


@functools.cache
def exact_end(problem, depth, start):
    settings = Settings(tolerance=1e-8, method="dormand-prince")
    return gradient_flow(problem, depth, start, 1e-5, settings=settings)


WIDE = MatrixCompletion.random((100, 120), 3, 3000, seed=0)


@pytest.mark.parametrize("precision", [None, torch.float32])
@pytest.mark.parametrize(
    ("problem", "depth", "norm"),
    [
        (WIDE, 3, 1e-4),
        (WIDE, 4, 1e-4),
        (sensing((40, 50)), 3, 1e-8),
        (sensing((50, 40)), 4, 1e-4),
    ],
)
def test_runs_end_where_whole_steps_end(monkeypatch, blocks, problem, depth, norm, precision):
    start = gaussian(norm, seed=0)
    exact = exact_end(problem, depth, start)
    settings = Settings(tolerance=1e-4, gradient_dtype=precision)
    options = {"until_loss": 1e-5, "settings": settings}
    ends = with_and_without(monkeypatch, problem, depth, start, **options)
    assert len(blocks) > 10
    size = torch.linalg.matrix_norm(exact.product)
    for end in ends:
        assert end.status is Status.reached
        assert end.time == pytest.approx(exact.time, rel=2e-3)
        assert torch.linalg.matrix_norm(end.product - exact.product) < 3e-5 * size
    assert ends[0].n_gradients < 1.2 * ends[1].n_gradients


def imbalances(factors):
    return [upper.T @ upper - lower @ lower.T for lower, upper in pairwise(factors)]


def test_a_run_conserves_what_the_flow_conserves(blocks):
    problem, start = completion(SHAPES["wide"]), gaussian(norm=1e-5, seed=0)
    end = gradient_flow(problem, 4, start, settings=Settings(tolerance=1e-4))
    assert len(blocks) > 50
    size = sum(torch.linalg.matrix_norm(W) ** 2 for W in end.factors)
    first, last = imbalances(start.factors(problem.shape, 4)), imbalances(end.factors)
    for before, after in zip(first, last, strict=True):
        assert torch.linalg.matrix_norm(after - before) < 5e-5 * size


def ratings_like(shape, share, seed=0):
    """A mean, rows and columns that differ from it, and three weaker modes, which wait."""
    rng = np.random.default_rng(seed)
    modes = 0.5 * rng.standard_normal((shape[0], 3)) @ rng.standard_normal((3, shape[1]))
    offsets = [0.5 * rng.standard_normal(size) for size in ((shape[0], 1), (1, shape[1]))]
    observed = torch.from_numpy(rng.random(shape) < share)
    return MatrixCompletion(observed, torch.from_numpy(3 + sum(offsets) + modes))


def test_what_waits_is_followed_on_observed_entries(monkeypatch, blocks):
    problem, start = ratings_like((150, 620), 0.1), identity(norm=1e-3 * 150**0.5)
    record = Record(times=np.linspace(0, 2500, 6), singular_values=8)
    options = {"until_loss": None, "until_time": 2500.0, "record": record}
    with monkeypatch.context() as patch:
        patch.setattr(integration, "may_be_reduced", lambda batch: False)
        exact = gradient_flow(problem, 3, start, settings=Settings(tolerance=1e-6), **options)
    assert not blocks
    coarse = Settings(tolerance=1e-4, gradient_dtype=torch.float32)
    ends = with_and_without(monkeypatch, problem, 3, start, settings=coarse, **options)
    assert len(blocks) > 20
    waiting = exact.singular_values[-1, 1:]
    assert waiting[0] > 10 * exact.singular_values[0, 1]  # it has grown, and is not learned
    off = [(end.singular_values / exact.singular_values - 1).abs().amax(0) for end in ends]
    assert off[0].max() < 0.05
    assert off[0].max() < 2 * off[1].max()


def test_most_gradients_are_of_blocks(monkeypatch):
    seen = {"blocks": 0, "factors": 0}
    slope_at, gradient_at = Factorizations.slope_at, Factorizations.gradient_at

    def counted(method):
        def call(self, factors, out):
            is_block = self.shapes[0][0] < 100
            seen["blocks" if is_block else "factors"] += 1
            return method(self, factors, out)

        return call

    monkeypatch.setattr(Factorizations, "slope_at", counted(slope_at))
    monkeypatch.setattr(Factorizations, "gradient_at", counted(gradient_at))
    problem = MatrixCompletion.random((100, 100), 5, 2000, seed=0)
    end = gradient_flow(problem, 4, gaussian(1e-7, seed=0), settings=Settings(tolerance=1e-3))
    assert end.status is Status.reached
    assert seen["factors"] < 0.5 * seen["blocks"]
    assert end.n_gradients <= sum(seen.values())


@pytest.mark.parametrize(
    ("shape", "share"), [(SHAPES["square"], 0.25), (SPARSE, 0.1), (SPARSE[::-1], 0.1)]
)
def test_blocks_begin_with_the_loss_of_all_factors(shape, share):
    problem = completion(shape, share)
    run = Run(problem, at_rest(problem, 3, loss=0.3))
    assert run.enters(4)
    factors = [W[0] for W in run.batch.factors(run.state[None])]
    blocks = run.reduced._blocks(run.state[None])
    assert all(min(C.shape) < min(shape) / 2 for C in blocks)
    inner = run.reduced._rest.for_blocks(factors, blocks, None)[0]
    inner = Factorizations(inner, [tuple(C.shape) for C in blocks], 1)
    loss = inner.loss(torch.cat([C.flatten() for C in blocks])[None])
    torch.testing.assert_close(loss[0], problem.loss(product_matrix(factors)))


def test_the_rest_of_a_product_shifts_the_problem():
    random = torch.Generator().manual_seed(0)
    W, B = (torch.randn(1, 12, 9, generator=random).double() for _ in range(2))
    problem = MatrixCompletion.random((12, 9), 2, 50, seed=0)
    torch.testing.assert_close(
        problem.shifted(B).unchecked_gradient(W), problem.unchecked_gradient(W + B)
    )
    for shape in ((12, 9), (9, 12)):
        problem = MatrixCompletion.random(shape, 2, 50, seed=0)
        factors = [
            torch.randn(size, generator=random).double()
            for size in ((5, shape[1]), (5, 5), (shape[0], 5))
        ]
        entries = problem.observed_entries()
        product = product_matrix(factors)
        torch.testing.assert_close(entries.product(factors), product[problem.mask])
        by = torch.randn(50, generator=random).double()
        moved = torch.zeros(shape, dtype=torch.float64)
        moved[problem.mask] = by
        loss = entries.shifted(by).loss_and_factor_gradients(factors, None)
        torch.testing.assert_close(loss, problem.loss(product + moved))
        given = problem.shifted_at_entries(by).observed_entries()
        torch.testing.assert_close(given.loss_and_factor_gradients(factors, None), loss)


def test_factorizations_taken_from_a_batch_share_their_scratch_memory():
    problem = completion(SHAPES["square"])
    starts = [gaussian(1e-2, seed=k) for k in range(3)]
    batch, states, _ = prepare(problem, 3, starts, None, "cpu", torch.float64)
    whole = torch.empty_like(states)
    batch.gradient(states, out=whole)
    for b in range(3):
        alone = torch.empty_like(states[:1])
        batch.take([b]).gradient(states[b][None], out=alone)
        torch.testing.assert_close(alone[0], whole[b])
    assert {count for count, _ in batch._kept} == {1, 3}
