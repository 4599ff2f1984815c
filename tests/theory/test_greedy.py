"""Greedy low-rank learning, on problems whose stops are known."""

import pytest
import torch

from dmf_utils.factorization.initialization import identity
from dmf_utils.flow.flow import gradient_flow
from dmf_utils.flow.settings import Settings
from dmf_utils.flow.trajectory import Record
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.problems.full_observation import FullObservation
from dmf_utils.theory.aligned_modes import aligned_singular_value, time_to_reach
from dmf_utils.theory.greedy import distance_to_path, greedy_low_rank_learning, thinned_path


def orthogonal(d, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q


U, V = orthogonal(4, 0), orthogonal(3, 1)
VALUES = torch.tensor([3.0, 2.0, 0.5], dtype=torch.float64)
TARGET = (U[:, :3] * VALUES) @ V.mT


@pytest.mark.parametrize("depth", [2, 3])
def test_full_observation_stops_at_truncated_decompositions(depth):
    phases = greedy_low_rank_learning(FullObservation(TARGET), depth, 3, step=1e-4, n_times=300)
    for r, phase in enumerate(phases):
        truncated = (U[:, : r + 1] * VALUES[: r + 1]) @ V[:, : r + 1].mT
        assert float((phase.stop - truncated).norm()) < 1e-4
        assert phase.slope == pytest.approx(float(VALUES[r]), rel=1e-4)
        assert abs(float(phase.left @ U[:, r])) == pytest.approx(1, abs=1e-6)
        assert abs(float(phase.right @ V[:, r])) == pytest.approx(1, abs=1e-6)
        assert phase.loss == pytest.approx(float(VALUES[r + 1 :].square().sum() / 2), abs=1e-7)


def test_nothing_is_left_after_a_solution():
    problem = FullObservation(2.0 * torch.outer(U[:, 0], V[:, 0]))
    assert len(greedy_low_rank_learning(problem, 2, 3, n_times=200)) == 1


def test_path_of_a_phase_is_the_aligned_solution():
    problem = FullObservation(torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64)))
    phase = greedy_low_rank_learning(problem, 3, 1, step=1e-3, n_times=200)[0]
    first = phase.path[:200, 0, 0]  # the first stretch: evenly spaced times
    wait = float(time_to_reach(1.0, 1e-3, 2.0, 3))
    times = torch.linspace(0, 1.5 * wait, 200, dtype=torch.float64)
    exact = aligned_singular_value(times, 1e-3, 2.0, 3)
    torch.testing.assert_close(first, exact, rtol=0, atol=1e-5)
    assert float(phase.path[:, 1:].abs().max()) < 1e-12  # the second mode never moves


def test_symmetric_direction_is_the_top_eigenvector_not_the_largest_in_size():
    target = torch.diag(torch.tensor([1.0, -2.0], dtype=torch.float64))
    problem = FullObservation(target)
    symmetric = greedy_low_rank_learning(problem, 2, 1, symmetric=True, n_times=200)[0]
    assert float((symmetric.stop - torch.diag(torch.tensor([1.0, 0.0]))).abs().max()) < 1e-4
    general = greedy_low_rank_learning(problem, 2, 1, n_times=200)[0]
    assert float((general.stop - torch.diag(torch.tensor([0.0, -2.0]))).abs().max()) < 1e-4


def test_a_phase_rests_at_the_same_place_in_any_unit():
    target = torch.diag(torch.tensor([1.0, 0.3], dtype=torch.float64))
    for unit in (1.0, 1e-6):
        problem = FullObservation(unit * target)
        phase = greedy_low_rank_learning(problem, 2, 1, step=1e-4 * unit, n_times=200)[0]
        found = float(phase.stop[0, 0]) / unit
        assert found == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("depth", [2, 3])
def test_small_starts_follow_the_greedy_path(depth):
    generator = torch.Generator().manual_seed(3)
    Q = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64)).Q
    target = (Q[:, :2] * torch.tensor([3.0, 1.0], dtype=torch.float64)) @ Q[:, :2].mT
    mask = torch.ones(5, 5, dtype=torch.bool)
    mask[0, 4] = mask[4, 0] = False
    problem = MatrixCompletion(mask, target, reduction="half_sum")
    phases = greedy_low_rank_learning(problem, depth, 2, symmetric=True, n_times=1000)
    path = torch.cat([phase.path for phase in phases])
    farthest = []
    for norm in (1e-1, 1e-3, 1e-5):
        end = gradient_flow(
            problem, depth, identity(norm), 1e-4, settings=Settings(tolerance=1e-9)
        ).time
        record = Record(torch.linspace(0, end, 50).tolist(), measures={"product": torch.clone})
        run = gradient_flow(
            problem, depth, identity(norm), 1e-4, record=record, settings=Settings(tolerance=1e-9)
        )
        farthest.append(float(distance_to_path(run.measured["product"], path).max()))
    assert farthest[0] > 3 * farthest[1] > 9 * farthest[2]


def test_distance_to_path():
    path = torch.tensor([[[0.0, 0.0]], [[2.0, 0.0]], [[2.0, 0.0]], [[2.0, 3.0]]])
    points = torch.tensor([[[1.0, 1.0]], [[-3.0, 4.0]], [[2.0, 2.5]], [[5.0, 7.0]]])
    expected = torch.tensor([1.0, 5.0, 0.0, 5.0], dtype=torch.float64)
    torch.testing.assert_close(distance_to_path(points, path), expected, rtol=0, atol=1e-12)


def test_thinned_path_keeps_both_ends_and_the_spacing():
    path = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.2, 1.25]).view(-1, 1, 1)
    kept = thinned_path(path, 0.5).flatten()
    torch.testing.assert_close(kept, path.double()[[0, 2, 4, 5], 0, 0], rtol=0, atol=1e-7)
    assert len(thinned_path(path[:1], 0.5)) == 1


def test_arguments_are_checked():
    problem = FullObservation(TARGET)
    with pytest.raises(ValueError, match="depth must be at least 2"):
        greedy_low_rank_learning(problem, 1, 1)
    with pytest.raises(ValueError, match="n_phases must be at most min"):
        greedy_low_rank_learning(problem, 2, 4)
    with pytest.raises(ValueError, match="step must be a positive number"):
        greedy_low_rank_learning(problem, 2, 1, step=0.0)
    with pytest.raises(ValueError, match=r"symmetric needs a square problem, got shape \(4, 3\)"):
        greedy_low_rank_learning(problem, 2, 1, symmetric=True)
    with pytest.raises(ValueError, match="spacing must be a positive number"):
        thinned_path(torch.zeros(2, 2, 2), 0.0)
    with pytest.raises(ValueError, match="points and path must have shapes"):
        distance_to_path(torch.zeros(2, 2, 2), torch.zeros(1, 2, 2))
