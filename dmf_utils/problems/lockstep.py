"""Several computations on one problem, side by side: what they ask of it is evaluated together.

Two gradients of matrix sensing read the same measurement matrices, which is what they take time
for. Runs of different depths and step sizes ask for them one by one, and here wait for each other:
when all wait, one evaluation answers all.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from dmf_utils.problems.base import SquaredLoss
from dmf_utils.problems.tangent import TangentSensing

__all__ = ["Shared", "in_lockstep"]

T = TypeVar("T")


class _Stopped(Exception):
    pass


class _Meeting:
    """Where computations wait: of their threads one runs at a time, the one that has the turn."""

    def __init__(self, problem: SquaredLoss, count: int) -> None:
        self.problem, self.still_there = problem, count
        self.turn = threading.Condition()
        self.asked: dict[int, tuple[SquaredLoss, Tensor]] = {}
        self.answers: dict[int, tuple[Tensor, Tensor]] = {}
        self.is_stopped = False
        self.converted: dict[tuple[torch.device, torch.dtype], SquaredLoss] = {}

    def answer(self, place: int, problem: SquaredLoss, W: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and gradient at `W`, as soon as all others have asked as well."""
        self.asked[place] = problem, W
        self._evaluate_if_all_wait()
        self.turn.wait_for(lambda: self.is_stopped or place in self.answers)
        if self.is_stopped:
            raise _Stopped
        return self.answers.pop(place)

    def leave(self) -> None:
        """One computation less to wait for."""
        self.still_there -= 1
        self._evaluate_if_all_wait()

    def stop(self) -> None:
        """End all computations where they are."""
        self.is_stopped = True
        self.turn.notify_all()

    def _evaluate_if_all_wait(self) -> None:
        if self.is_stopped or not self.asked or len(self.asked) < self.still_there:
            return
        for problem in {id(problem): problem for problem, _ in self.asked.values()}.values():
            # By place, not by who came first: a product's last digits depend on the order.
            of_it = sorted(place for place, (asked, _) in self.asked.items() if asked is problem)
            at = [self.asked[place][1] for place in of_it]
            counts = [W.shape[:-2].numel() for W in at]
            together = torch.cat([W.reshape(-1, *problem.shape) for W in at])
            losses, gradients = problem.loss_and_gradient(together)
            parts = zip(of_it, at, losses.split(counts), gradients.split(counts), strict=True)
            for place, W, loss, gradient in parts:
                self.answers[place] = loss.view(W.shape[:-2]), gradient.view(W.shape)
        self.asked.clear()
        self.turn.notify_all()


class Shared(SquaredLoss):
    """The problem as one of the computations sees it."""

    def __init__(self, problem: SquaredLoss, meeting: _Meeting, place: int) -> None:
        self.problem, self.meeting, self.place = problem, meeting, place
        self.shape, self.ground_truth, self.data = problem.shape, problem.ground_truth, problem.data

    def loss_and_gradient(self, W: Tensor) -> tuple[Tensor, Tensor]:
        return self.meeting.answer(self.place, self.problem, W)

    def unchecked_loss(self, W: Tensor) -> Tensor:
        """At once: few ask for it, and each for another moment."""
        return self.problem.unchecked_loss(W)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Shared:
        """On another device, in another precision: the same one for all that ask."""
        converted, key = self.meeting.converted, (torch.device(device), dtype)
        if key not in converted:
            converted[key] = self.meeting.problem.to(*key)
        return self._changed(problem=converted[key], data=converted[key].data)

    def on_tangent_space(
        self, left: Tensor, right: Tensor, memory: Tensor | None = None
    ) -> TangentSensing:
        """Of its own for every computation, which then need not wait for the others."""
        return self.problem.on_tangent_space(left, right, memory)

    def take(self, indices: Tensor | slice) -> Shared:
        return self


def in_lockstep(problem: SquaredLoss, tasks: Sequence[Callable[[SquaredLoss], T]]) -> list[T]:
    """Call each task with the problem, and return what they return.

    Each has a thread of its own, of which one at a time runs. Results do not depend on the
    machine's load: the matrices of an evaluation are always those of all tasks that are not done.

    Parameters
    ----------
    problem : SquaredLoss
        Which evaluates a batch at less cost than its matrices one by one, such as `MatrixSensing`.
    tasks : sequence of callable
        Each takes a problem.

    Raises
    ------
    Exception
        Whatever a task, or the problem, raises first; the other tasks are ended then.
    """
    if len(tasks) == 1:
        return [tasks[0](problem)]
    meeting = _Meeting(problem, len(tasks))

    def run(place: int, task: Callable[[SquaredLoss], T]) -> T:
        with meeting.turn:
            try:
                found = task(Shared(problem, meeting, place))
                meeting.leave()
            except BaseException:
                meeting.stop()
                raise
            return found

    with ThreadPoolExecutor(len(tasks)) as threads:
        # In a copy of the context each: how many threads may multiply is said there.
        begun = [
            threads.submit(contextvars.copy_context().run, run, place, task)
            for place, task in enumerate(tasks)
        ]
        try:
            return [one.result() for one in begun]
        except BaseException:
            with meeting.turn:
                meeting.stop()
            failures = [one.exception() for one in begun]
            first = next((e for e in failures if e and not isinstance(e, _Stopped)), None)
            if first is not None:
                raise first from None
            raise
