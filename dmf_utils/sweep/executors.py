"""Processes of this machine that compute chunks, where one that dies costs one chunk."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from typing import Any

__all__ = ["ThisProcess", "WorkerProcesses"]


class ThisProcess(Executor):
    """Computes at once, where it is asked to."""

    room = 1  # how much it takes before something must have come back

    def submit(self, work: Callable[..., Any], /, *arguments: Any) -> Future:
        """The result, in a future that is done."""
        future: Future = Future()
        try:
            future.set_result(work(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


class WorkerProcesses(Executor):
    """Several processes, each in a pool of its own.

    When a process of a `ProcessPoolExecutor` dies, all others are ended and everything is lost
    that was handed to any. Here only the future of the one that died raises `BrokenExecutor`, and
    a new process takes its place.

    Parameters
    ----------
    count : int
        Number of processes; not more than so many calls may be under way at once.
    """

    attempts = 3  # after which a call that ends its process is not made again

    def __init__(self, count: int) -> None:
        self.room = count
        self._idle: list[_Worker | None] = [None] * count  # none: still to be started
        self._all: list[_Worker] = []

    def submit(self, work: Callable[..., Any], /, *arguments: Any) -> Future:
        """Begin a call in a process that has nothing to do."""
        worker = self._idle.pop()
        if worker is None:
            worker = _Worker()
            self._all.append(worker)
        try:
            future = worker.pool.submit(work, *arguments)
        except BrokenExecutor:  # it died while it had nothing to do: nothing is lost
            self._end([worker])
            self._idle.append(None)
            return self.submit(work, *arguments)

        def is_idle(done: Future) -> None:
            # A pool calls this while it holds a lock: what is broken is put away later.
            broken = not done.cancelled() and isinstance(done.exception(), BrokenExecutor)
            self._idle.append(None if broken else worker)

        future.add_done_callback(is_idle)
        return future

    def recover(self) -> str:
        """Why calls were lost; a new process starts with the next call anyway."""
        return "as the process died that computed it (killed, or out of memory)"

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes, after their calls, or, to cancel, at once."""
        if cancel_futures:
            for worker in self._all:
                worker.kill()
        self._end(list(self._all), wait)

    def _end(self, workers: list[_Worker], wait: bool = True) -> None:
        for worker in workers:
            worker.pool.shutdown(wait=wait, cancel_futures=True)
            self._all.remove(worker)


class _Worker:
    """A pool of one process, whose number it asks for."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(1, mp_context=context, initializer=_start)
        self._process = self.pool.submit(os.getpid)

    def kill(self) -> None:
        """End the process in the midst of what it does; one that is starting ends by itself."""
        is_known = self._process.done() and not self._process.cancelled()
        if is_known and self._process.exception() is None:
            number = self._process.result()
            # Only a living child, so that the number is not another's by now.
            if any(child.pid == number for child in multiprocessing.active_children()):
                os.kill(number, signal.SIGKILL)


def _start() -> None:
    """What a process does first."""
    # The table's column `status` says how runs ended, and one warning for all.
    warnings.simplefilter("ignore", RuntimeWarning)
    # Ctrl-C, which a terminal sends to all, ends a worker. As an exception it would end one chunk
    # only: the pool may have handed out the next one already, and waits for it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the one that started it is killed: nobody waits for its result."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
