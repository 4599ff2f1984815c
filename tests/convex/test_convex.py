"""Minimum nuclear norm: certificates, closed cases, symmetries, and two solvers of cvxpy."""

from __future__ import annotations

import math
import warnings

import cvxpy as cp
import numpy as np
import pytest
import torch

from dmf_utils import (
    FullObservation,
    MatrixCompletion,
    MatrixSensing,
    low_rank_matrix,
    nuclear_norm,
    numerical_rank,
)
from dmf_utils.convex.douglas_rachford import _Extrapolation, soft_threshold
from dmf_utils.convex.measurement_operator import _gram, affine_constraint
from dmf_utils.convex.nuclear_norm import MinimumNuclearNorm, min_nuclear_norm

Problem = MatrixCompletion | MatrixSensing | FullObservation


def generic_completion(shape: tuple[int, int], n_observed: int, seed: int) -> MatrixCompletion:
    """Observed entries that no low rank explains."""
    mask = MatrixCompletion.random(shape, 1, n_observed, seed).mask
    rng = np.random.default_rng([seed, 99])
    return MatrixCompletion(mask, torch.from_numpy(rng.standard_normal(shape)))


def generic_sensing(shape: tuple[int, int], n_measurements: int, seed: int) -> MatrixSensing:
    rng = np.random.default_rng([seed, 98])
    return MatrixSensing(
        torch.from_numpy(rng.standard_normal((n_measurements, *shape))),
        torch.from_numpy(rng.standard_normal(n_measurements)),
    )


PROBLEMS: dict[str, Problem] = {
    "completion, square, recovered": MatrixCompletion.random((12, 12), 1, 110, 0),
    "completion, square, not recovered": MatrixCompletion.random((12, 12), 3, 70, 1),
    "completion, wide": MatrixCompletion.random((7, 15), 2, 60, 2),
    "completion, tall": MatrixCompletion.random((14, 6), 2, 50, 3),
    "completion, generic values": generic_completion((10, 8), 35, 4),
    "sensing, square, recovered": MatrixSensing.random((10, 10), 1, 75, 5),
    "sensing, square, not recovered": MatrixSensing.random((10, 10), 3, 40, 6),
    "sensing, wide": MatrixSensing.random((6, 11), 2, 40, 7),
    "sensing, tall, generic values": generic_sensing((11, 5), 25, 8),
    "one row": MatrixCompletion.random((1, 9), 1, 4, 9),
    "one measurement": generic_sensing((5, 7), 1, 10),
}
NAMES = list(PROBLEMS)


def measured(problem: Problem, W: torch.Tensor) -> torch.Tensor:
    """A(W), written anew: nothing of the module's own operators."""
    if isinstance(problem, MatrixSensing):
        A = problem.operator.view(-1, *problem.shape)
        return torch.stack([(A_i * W).sum() for A_i in A])
    if isinstance(problem, MatrixCompletion):
        return torch.stack([W[i, j] for i, j in problem.mask.nonzero()])
    return W.flatten()


def adjoint(problem: Problem, nu: torch.Tensor) -> torch.Tensor:
    """A*(nu), from its definition."""
    if isinstance(problem, MatrixSensing):
        A = problem.operator.view(-1, *problem.shape)
        return sum(nu_i * A_i for nu_i, A_i in zip(nu, A, strict=True))
    made = torch.zeros(problem.shape, dtype=torch.float64)
    if isinstance(problem, MatrixCompletion):
        for value, (i, j) in zip(nu, problem.mask.nonzero(), strict=True):
            made[i, j] = value
        return made
    return nu.view(problem.shape)


def observations(problem: Problem) -> torch.Tensor:
    if isinstance(problem, MatrixSensing):
        return problem.values
    source = problem.values if isinstance(problem, MatrixCompletion) else problem.target
    return measured(problem, source)


def check_certificate(problem: Problem, found: MinimumNuclearNorm, gap: float) -> None:
    """Feasible pair, and the values and gap that are claimed of it."""
    y = observations(problem)
    residual = torch.linalg.vector_norm(measured(problem, found.matrix) - y)
    assert residual <= 1e-12 * torch.linalg.vector_norm(y)
    assert found.feasibility <= 1e-12
    assert torch.linalg.matrix_norm(adjoint(problem, found.dual), ord=2) <= 1 + 1e-9
    primal, dual = float(nuclear_norm(found.matrix)), float(found.dual @ y)
    assert found.nuclear_norm == pytest.approx(primal, rel=1e-12)
    assert found.gap == pytest.approx((primal - dual) / primal, abs=1e-12)
    assert 0 <= found.gap <= gap


@pytest.mark.parametrize("name", NAMES)
def test_certificate(name: str) -> None:
    found = min_nuclear_norm(PROBLEMS[name], tolerance=1e-10)
    assert found.method == "douglas-rachford"
    check_certificate(PROBLEMS[name], found, 1e-10)


@pytest.mark.parametrize("solver", ["clarabel", "scs"])
@pytest.mark.parametrize("name", NAMES)
def test_cvxpy_finds_the_same(name: str, solver: str) -> None:
    problem = PROBLEMS[name]
    ours = min_nuclear_norm(problem, "douglas-rachford", tolerance=1e-10)
    with warnings.catch_warnings():
        # Clarabel stops short of its tolerance on some; the certificate below says how short.
        warnings.filterwarnings("ignore", "clarabel stopped", RuntimeWarning)
        theirs = min_nuclear_norm(problem, solver, tolerance=1e-8, max_iterations=100_000)
    assert theirs.method == solver
    check_certificate(problem, theirs, 1e-6)
    assert theirs.nuclear_norm == pytest.approx(ours.nuclear_norm, rel=1e-6)
    assert theirs.dual @ observations(problem) == pytest.approx(ours.nuclear_norm, rel=1e-6)
    # The matrix is settled more slowly than its norm: quadratically, where it is not a vertex.
    distance = torch.linalg.matrix_norm(theirs.matrix - ours.matrix)
    assert distance <= 1e-3 * torch.linalg.matrix_norm(ours.matrix)


# --- observations that may be missed by a residual ------------------------------------------------


def check_certificate_with_residual(
    problem: Problem, found: MinimumNuclearNorm, width: float, gap: float
) -> None:
    """Feasible pair of the relaxed problem, and the values and gap that are claimed of it."""
    y = observations(problem)
    assert (measured(problem, found.matrix) - y).abs().max() <= width * (1 + 1e-9)
    assert torch.linalg.matrix_norm(adjoint(problem, found.dual), ord=2) <= 1 + 1e-9
    primal = float(nuclear_norm(found.matrix))
    dual = float(found.dual @ y - width * found.dual.abs().sum())
    assert found.nuclear_norm == pytest.approx(primal, rel=1e-12)
    assert found.gap == pytest.approx((primal - dual) / primal, abs=1e-12)
    assert 0 <= found.gap <= gap


@pytest.mark.parametrize("width", [1e-3, 0.2])
@pytest.mark.parametrize("name", NAMES)
def test_residual_against_cvxpy(name: str, width: float) -> None:
    problem = PROBLEMS[name]
    ours = min_nuclear_norm(problem, residual=width, tolerance=1e-7)
    assert ours.method == "douglas-rachford"
    check_certificate_with_residual(problem, ours, width, 1e-7)
    theirs = min_nuclear_norm(problem, "clarabel", residual=width, tolerance=5e-6)
    check_certificate_with_residual(problem, theirs, width, 5e-6)
    assert theirs.nuclear_norm == pytest.approx(ours.nuclear_norm, rel=1e-5)
    # Independent of both: the program as one would write it down.
    W = cp.Variable(problem.shape)
    A = np.stack([adjoint(problem, row).numpy().ravel() for row in torch.eye(len(ours.dual))])
    y = observations(problem).numpy()
    program = cp.Problem(cp.Minimize(cp.normNuc(W)), [cp.abs(A @ cp.vec(W, "C") - y) <= width])
    program.solve(solver="CLARABEL")
    assert ours.nuclear_norm == pytest.approx(program.value, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_residual_lowers_the_minimum_by_no_more_than_the_dual_says(name: str) -> None:
    problem = PROBLEMS[name]
    exact = min_nuclear_norm(problem, tolerance=1e-10)
    norms = [exact.nuclear_norm]
    for width in (1e-3, 1e-2, 1e-1):
        relaxed = min_nuclear_norm(problem, residual=width, tolerance=1e-7)
        most = width * float(exact.dual.abs().sum())
        room = 1e-6 * exact.nuclear_norm
        assert -room <= exact.nuclear_norm - relaxed.nuclear_norm <= most + room
        norms.append(relaxed.nuclear_norm)
    assert norms == sorted(norms, reverse=True)


def test_residual_of_one_measurement_in_closed_form() -> None:
    problem = PROBLEMS["one measurement"]
    steepest = float(torch.linalg.matrix_norm(problem.operator.view(problem.shape), ord=2))
    y = float(problem.values[0])
    found = min_nuclear_norm(problem, residual=0.25 * abs(y), tolerance=1e-10)
    assert found.nuclear_norm == pytest.approx(0.75 * abs(y) / steepest, rel=1e-9)


@pytest.mark.parametrize("method", ["auto", "clarabel", "douglas-rachford"])
def test_residual_as_large_as_the_values_gives_the_zero_matrix(method: str) -> None:
    problem = PROBLEMS["completion, wide"]
    most = float(observations(problem).abs().max())
    found = min_nuclear_norm(problem, method, residual=most)
    assert torch.equal(found.matrix, torch.zeros(problem.shape, dtype=torch.float64))
    assert (found.nuclear_norm, found.gap, found.method) == (0.0, 0.0, "closed form")
    assert float(nuclear_norm(min_nuclear_norm(problem, residual=0.9 * most).matrix)) > 0


def test_everything_observed_within_a_residual_is_a_threshold_of_its_own() -> None:
    # Not the target: a matrix of smaller norm is within the residual of it.
    target = low_rank_matrix((9, 5), 2, 0)
    found = min_nuclear_norm(FullObservation(target), residual=0.1, tolerance=1e-8)
    assert found.method == "douglas-rachford"
    assert (found.matrix - target).abs().max() <= 0.1 * (1 + 1e-9)
    assert found.nuclear_norm < float(nuclear_norm(target)) - 0.1


@pytest.mark.parametrize("name", [n for n in NAMES if n.endswith(" recovered") and "not" not in n])
def test_low_rank_truth_is_recovered(name: str) -> None:
    problem = PROBLEMS[name]
    found = min_nuclear_norm(problem, tolerance=1e-10)
    assert problem.error(found.matrix) < 1e-16
    assert numerical_rank(found.matrix, 1e-6) == 1


@pytest.mark.parametrize(
    ("name", "n_observed", "recovered"), [("few", 2000, False), ("many", 5000, True)]
)
def test_paper_size(name: str, n_observed: int, recovered: bool) -> None:
    problem = MatrixCompletion.random((100, 100), 5, n_observed, 0)
    found = min_nuclear_norm(problem)
    check_certificate(problem, found, 1e-8)
    assert found.n_iterations <= 1000
    assert bool(problem.error(found.matrix) < 1e-12) is recovered
    if not recovered:
        # Settled: a hundredth of the gap changes the error by less than a thousandth.
        closer = min_nuclear_norm(problem, tolerance=1e-10)
        assert problem.error(closer.matrix) == pytest.approx(
            float(problem.error(found.matrix)), rel=1e-3
        )
        truth = float(nuclear_norm(problem.ground_truth))
        assert found.nuclear_norm < 0.99 * truth


def test_next_to_the_recovery_threshold() -> None:
    # The hardest place: the certificate is all but tight off the solution's singular vectors.
    # With a third of the memory of its extrapolation, the method needs 12,060 iterations here.
    problem = MatrixCompletion.random((100, 100), 5, 2700, 0)
    found = min_nuclear_norm(problem, max_iterations=3000)
    check_certificate(problem, found, 1e-8)
    assert problem.error(found.matrix) < 1e-9


def test_extrapolation_cannot_spoil_convergence(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = PROBLEMS["completion, wide"]
    expected = min_nuclear_norm(problem, tolerance=1e-10).matrix
    # A hundredfold step is no averaged one: left alone, it diverges.
    monkeypatch.setattr(_Extrapolation, "next", lambda self, Z, residual: Z + 100 * residual)
    found = min_nuclear_norm(problem, tolerance=1e-10)
    check_certificate(problem, found, 1e-10)
    assert torch.allclose(found.matrix, expected, rtol=0, atol=1e-6)


def test_solution_settles_however_loose_the_tolerance() -> None:
    problem = PROBLEMS["completion, square, not recovered"]
    loose, tight = (min_nuclear_norm(problem, tolerance=t) for t in (0.9, 1e-12))
    distance = torch.linalg.matrix_norm(loose.matrix - tight.matrix)
    assert distance <= 1e-5 * torch.linalg.matrix_norm(tight.matrix)


def test_diagonal_observed_gives_its_sum() -> None:
    # The trace bounds the nuclear norm from below, with the identity as certificate.
    d = torch.tensor([3.0, 1.0, 0.5, 2.0], dtype=torch.float64)
    found = min_nuclear_norm(MatrixCompletion(torch.eye(4, dtype=torch.bool), torch.diag(d)))
    assert found.nuclear_norm == pytest.approx(6.5, rel=1e-8)
    # Every positive semidefinite matrix with this diagonal does as well, and nothing else.
    assert torch.linalg.matrix_norm(found.matrix - found.matrix.T) < 1e-6
    assert torch.linalg.eigvalsh(found.matrix).min() > -1e-6
    assert found.dual == pytest.approx(torch.ones(4, dtype=torch.float64), abs=1e-6)


def test_missing_corner_of_a_two_by_two() -> None:
    # w11 missing of [[w11, 1], [1, 0]]: the nuclear norm is sqrt(w11² + 4), least at 0.
    found = min_nuclear_norm(MatrixCompletion.from_entries([0, 1, 1], [1, 0, 1], [1, 1, 0], (2, 2)))
    assert found.nuclear_norm == pytest.approx(2, rel=1e-8)
    assert abs(found.matrix[0, 0]) < 1e-4
    # Of [[w11, 1], [1, 2]]: least where the matrix has rank 1, at 1/2, and constant to no side.
    found = min_nuclear_norm(MatrixCompletion.from_entries([0, 1, 1], [1, 0, 1], [1, 1, 2], (2, 2)))
    assert found.nuclear_norm == pytest.approx(2.5, rel=1e-8)
    assert found.matrix[0, 0] == pytest.approx(0.5, abs=1e-6)


def test_one_measurement_in_closed_form() -> None:
    # min ‖W‖_* over <A, W> = y is |y| / ‖A‖_op, the dual is 1 / ‖A‖_op with the sign of y.
    problem = PROBLEMS["one measurement"]
    steepest = float(torch.linalg.matrix_norm(problem.operator.view(problem.shape), ord=2))
    y = float(problem.values[0])
    found = min_nuclear_norm(problem, tolerance=1e-12)
    assert found.nuclear_norm == pytest.approx(abs(y) / steepest, rel=1e-11)
    assert float(found.dual[0]) == pytest.approx(math.copysign(1 / steepest, y), rel=1e-9)


def test_completion_is_sensing_with_indicators() -> None:
    problem = PROBLEMS["completion, wide"]
    places = problem.mask.nonzero()
    A = torch.zeros(len(places), *problem.shape, dtype=torch.float64)
    A[torch.arange(len(places)), places[:, 0], places[:, 1]] = 1
    sensing = MatrixSensing(A, problem.values[problem.mask])
    one, other = (min_nuclear_norm(p, tolerance=1e-12) for p in (problem, sensing))
    assert torch.allclose(one.matrix, other.matrix, rtol=0, atol=1e-9)
    assert torch.allclose(one.dual, other.dual, rtol=0, atol=1e-7)


@pytest.mark.parametrize("factor", [-3.0, 1e-200, 1e200])
@pytest.mark.parametrize("name", ["completion, tall", "sensing, wide"])
def test_scaled_values_scale_the_solution(name: str, factor: float) -> None:
    problem = PROBLEMS[name]
    if isinstance(problem, MatrixCompletion):
        scaled = MatrixCompletion(problem.mask, problem.values * factor)
    else:
        A = problem.operator.view(-1, *problem.shape)
        scaled = MatrixSensing(A, problem.values * factor)
    one, other = (min_nuclear_norm(p, tolerance=1e-12) for p in (problem, scaled))
    assert other.nuclear_norm == pytest.approx(abs(factor) * one.nuclear_norm, rel=1e-11)
    assert torch.allclose(other.matrix / factor, one.matrix, rtol=0, atol=1e-8)


def test_scaled_measurements_scale_the_dual() -> None:
    problem = PROBLEMS["sensing, wide"]
    A = problem.operator.view(-1, *problem.shape)
    scaled = MatrixSensing(A * 1e6, problem.values * 1e6)
    one, other = (min_nuclear_norm(p, tolerance=1e-12) for p in (problem, scaled))
    assert torch.allclose(other.matrix, one.matrix, rtol=0, atol=1e-8)
    assert torch.allclose(other.dual * 1e6, one.dual, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["completion, wide", "completion, generic values"])
def test_transposed_problem_has_the_transposed_solution(name: str) -> None:
    problem = PROBLEMS[name]
    flipped = MatrixCompletion(problem.mask.T, problem.values.T)
    one, other = (min_nuclear_norm(p, tolerance=1e-12) for p in (problem, flipped))
    assert other.nuclear_norm == pytest.approx(one.nuclear_norm, rel=1e-11)
    assert torch.allclose(other.matrix.T, one.matrix, rtol=0, atol=1e-8)


def test_rotated_sensing_has_the_rotated_solution() -> None:
    problem = PROBLEMS["sensing, square, not recovered"]
    rng = np.random.default_rng(0)
    P, Q = (torch.from_numpy(np.linalg.qr(rng.standard_normal((10, 10)))[0]) for _ in range(2))
    rotated = MatrixSensing(P @ problem.operator.view(-1, 10, 10) @ Q, problem.values)
    one, other = (min_nuclear_norm(p, tolerance=1e-12) for p in (problem, rotated))
    assert torch.allclose(other.matrix, P @ one.matrix @ Q, rtol=0, atol=1e-8)


@pytest.mark.parametrize("method", ["auto", "clarabel", "scs", "douglas-rachford"])
def test_zero_observations_give_the_zero_matrix(method: str) -> None:
    mask = torch.eye(4, 6, dtype=torch.bool)
    found = min_nuclear_norm(MatrixCompletion(mask, torch.zeros(4, 6)), method)
    assert torch.equal(found.matrix, torch.zeros(4, 6, dtype=torch.float64))
    assert (found.nuclear_norm, found.gap, found.feasibility) == (0.0, 0.0, 0.0)
    assert torch.equal(found.dual, torch.zeros(4, dtype=torch.float64))
    assert found.method == "closed form"


@pytest.mark.parametrize("kind", ["full", "completion"])
def test_everything_observed_gives_the_target(kind: str) -> None:
    target = low_rank_matrix((9, 5), 2, 0)
    everywhere = torch.ones(9, 5, dtype=torch.bool)
    full = FullObservation(target)
    problem = full if kind == "full" else MatrixCompletion(everywhere, target)
    found = min_nuclear_norm(problem)
    assert torch.equal(found.matrix, target)
    assert found.method == "closed form"
    check_certificate(problem, found, 1e-14)
    iterated = min_nuclear_norm(problem, "douglas-rachford", tolerance=1e-10)
    assert torch.equal(iterated.matrix, target)
    check_certificate(problem, iterated, 1e-10)


def test_repeated_measurements_do_no_harm() -> None:
    problem = PROBLEMS["sensing, wide"]
    A = problem.operator.view(-1, *problem.shape)
    repeated = MatrixSensing(
        torch.cat([A, 2 * A[:3], A[:1] + A[1:2]]),
        torch.cat([problem.values, 2 * problem.values[:3], problem.values[:2].sum()[None]]),
    )
    one, other = (min_nuclear_norm(p, tolerance=1e-11) for p in (problem, repeated))
    check_certificate(repeated, other, 1e-11)
    assert torch.allclose(one.matrix, other.matrix, rtol=0, atol=1e-7)
    assert affine_constraint(repeated).rank == len(A)


def test_more_measurements_than_entries() -> None:
    problem = MatrixSensing.random((4, 5), 2, 31, 0)
    found = min_nuclear_norm(problem, tolerance=1e-10)
    assert problem.error(found.matrix) < 1e-20
    check_certificate(problem, found, 1e-10)


@pytest.mark.parametrize("condition", [1e4, 1e6, 1e8])
@pytest.mark.parametrize("seed", range(5))
def test_measurements_of_large_condition(condition: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    shape, m = (6, 5), 20
    right = np.linalg.qr(generator.standard_normal((30, m)))[0]
    left = np.linalg.qr(generator.standard_normal((m, m)))[0]
    A = torch.from_numpy(left * np.geomspace(1, 1 / condition, m) @ right.T).view(m, *shape)
    truth = low_rank_matrix(shape, 1, seed)
    y = torch.einsum("kij,ij->k", A, truth)
    # Consistent, and not called contradictory.
    found = min_nuclear_norm(MatrixSensing(A, y), tolerance=1e-6)
    # The same constraint with orthonormal measurements.
    easy = MatrixSensing(
        torch.from_numpy(right.T.copy()).view(m, *shape),
        torch.from_numpy(right.T.copy()) @ truth.flatten(),
    )
    assert found.nuclear_norm == pytest.approx(min_nuclear_norm(easy).nuclear_norm, rel=1e-5)
    repeated = torch.cat([A, A[:1]]), torch.cat([y, y[:1] + 1e-3 * y.norm()])
    with pytest.raises(ValueError, match="contradicts the other measurements"):
        min_nuclear_norm(MatrixSensing(*repeated))


def test_contradicting_measurements_are_refused() -> None:
    A = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 4, 4)))
    y = torch.tensor([1.0, 2.0, 1.5], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"values\[\d\] = .* contradicts the other measurements"):
        min_nuclear_norm(MatrixSensing(torch.cat([A, A[:1]]), torch.cat([y, y[:1] + 1e-3])))


def test_float32_problem_is_solved_in_float64() -> None:
    problem = PROBLEMS["completion, tall"]
    single = MatrixCompletion(problem.mask, problem.values.float())
    found = min_nuclear_norm(single)
    assert found.matrix.dtype == torch.float64
    assert torch.equal(found.matrix[single.mask], single.values[single.mask].double())


def test_limit_of_iterations_warns_with_a_valid_bound() -> None:
    problem = PROBLEMS["completion, wide"]
    best = min_nuclear_norm(problem, tolerance=1e-12).nuclear_norm
    with pytest.warns(RuntimeWarning, match="douglas-rachford stopped after 7 iterations.*gap"):
        early = min_nuclear_norm(problem, max_iterations=7)
    assert early.n_iterations == 7
    check_certificate(problem, early, 1.0)
    assert early.gap > 1e-6
    assert early.nuclear_norm * (1 - early.gap) < best < early.nuclear_norm
    with pytest.warns(RuntimeWarning, match="scs stopped after 5 iterations"):
        early = min_nuclear_norm(problem, "scs", max_iterations=5)
    assert early.nuclear_norm * (1 - early.gap) < best < early.nuclear_norm


def test_same_problem_same_numbers() -> None:
    one, other = (min_nuclear_norm(MatrixSensing.random((8, 9), 2, 40, 0)) for _ in range(2))
    assert torch.equal(one.matrix, other.matrix)
    assert torch.equal(one.dual, other.dual)


def test_progress_is_shown_on_request(capfd: pytest.CaptureFixture[str]) -> None:
    min_nuclear_norm(PROBLEMS["completion, wide"])
    assert capfd.readouterr().err == ""
    min_nuclear_norm(PROBLEMS["completion, wide"], show_progress=True)
    assert "100/100" in capfd.readouterr().err


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (7, 7)])
def test_soft_threshold_against_the_decomposition(shape: tuple[int, int]) -> None:
    Z = torch.from_numpy(np.random.default_rng(0).standard_normal(shape))
    U, s, Vh = torch.linalg.svd(Z, full_matrices=False)
    for threshold in (1e-3, 1.0, float(s[2]), 100.0):
        expected = U @ torch.diag((s - threshold).clamp(min=0)) @ Vh
        assert torch.allclose(soft_threshold(Z, threshold), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_constraint_operators(name: str) -> None:
    problem = PROBLEMS[name]
    constraint = affine_constraint(problem)
    rng = np.random.default_rng(1)
    W = torch.from_numpy(rng.standard_normal(problem.shape))
    nu = torch.from_numpy(rng.standard_normal(len(constraint.values)))
    assert torch.allclose(constraint.apply(W), measured(problem, W), rtol=1e-13, atol=1e-13)
    assert float(constraint.apply(W) @ nu) == pytest.approx(
        float((W * constraint.adjoint(nu)).sum()), abs=1e-12
    )
    projected = constraint.project(W)
    assert torch.allclose(constraint.apply(projected), observations(problem), rtol=0, atol=1e-12)
    # The step of a projection lies in the range of the adjoint.
    step = projected - W
    again = constraint.adjoint(constraint.coefficients(step))
    assert torch.allclose(again, step, rtol=0, atol=1e-11)
    assert np.allclose(constraint.rows() @ W.numpy().ravel(), constraint.apply(W), atol=1e-13)


@pytest.mark.parametrize("size", [(17, 6), (6, 17)])
def test_gram_matrix_is_whole(size: tuple[int, int]) -> None:
    A = torch.from_numpy(np.random.default_rng(0).standard_normal(size))
    assert torch.allclose(_gram(A), A @ A.T, rtol=0, atol=1e-13)


@pytest.mark.parametrize("copies", [1, 2])
def test_solvers_of_measurements_are_those_of_the_gram_matrix(copies: int) -> None:
    rng = np.random.default_rng(1)
    rows = np.tile(rng.standard_normal((7, 12)) * 10.0 ** np.arange(-3, 4)[:, None], (copies, 1))
    A, W = torch.from_numpy(rows), torch.from_numpy(rng.standard_normal(12))
    constraint = affine_constraint(MatrixSensing(A.view(-1, 4, 3), A @ W))
    ridge, solve = constraint.ridge_solver(0.3)
    gram = rows @ rows.T
    assert ridge == pytest.approx(0.3 * np.trace(gram) / len(gram))
    right = torch.from_numpy(rng.standard_normal(len(gram)))
    expected = np.linalg.solve(gram + ridge * np.eye(len(gram)), right.numpy())
    np.testing.assert_allclose(solve(right), expected, rtol=1e-10, atol=1e-10 * abs(expected).max())
    # Its own solver is as it was: both stand in memory that they share with nothing.
    if copies == 1:
        found = rows @ (rows.T @ constraint.solve_gram(right).numpy())
        np.testing.assert_allclose(found, right, rtol=0, atol=1e-3)
        assert torch.equal(solve(right), constraint.ridge_solver(0.3)[1](right))


@pytest.mark.parametrize(
    ("problem", "arguments", "error", "message"),
    [
        (torch.eye(3), {}, TypeError, "problem must be one MatrixCompletion.*got Tensor"),
        ([PROBLEMS["one row"]], {}, TypeError, "got list; pass the members"),
        (PROBLEMS["one row"], {"method": "SCS"}, ValueError, "method must be .*got 'SCS'"),
        (PROBLEMS["one row"], {"tolerance": 0}, ValueError, "tolerance must be a positive"),
        (PROBLEMS["one row"], {"tolerance": math.nan}, ValueError, "tolerance must be"),
        (PROBLEMS["one row"], {"residual": -1e-3}, ValueError, "residual must be .* got -0.001"),
        (PROBLEMS["one row"], {"residual": math.nan}, ValueError, "residual must be .* got nan"),
        (PROBLEMS["one row"], {"residual": "1e-3"}, ValueError, "residual must be a number"),
        (PROBLEMS["one row"], {"max_iterations": 0}, ValueError, "max_iterations must be at least"),
        (PROBLEMS["one row"], {"max_iterations": 2.5}, TypeError, "max_iterations must be a whole"),
    ],
)
def test_bad_arguments(problem, arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        min_nuclear_norm(problem, **arguments)
