"""A Dask cluster as the place where a sweep computes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import suppress
from typing import Any

from dmf_utils._support.checks import positive

__all__ = ["Cluster"]


class Cluster(Executor):
    """The workers of a Dask scheduler, for ``sweep(..., executor=Cluster(address))``.

    Whoever reaches the port of a scheduler can run code as the user who started it: let it listen
    on this machine only (``dask scheduler --host 127.0.0.1``), on a network of your own, or with
    TLS, for which Dask reads the certificates from its configuration.

    A worker that dies is Dask's affair: its chunk goes to another one, and so does one that it
    finished an instant before and could not hand over. When the scheduler goes away, what it had in
    hand is lost; the sweep keeps what is finished, waits for a scheduler at the same address, and
    hands out the rest again.

    Parameters
    ----------
    address : str
        Of the scheduler, such as ``"tcp://127.0.0.1:8786"``.
    wait : float
        Seconds to wait for the scheduler, at first and when it has gone away.

    Raises
    ------
    ImportError
        If Dask is not installed.
    ConnectionError
        If no scheduler answers at the address.
    """

    attempts = math.inf  # how often a chunk may be lost: Dask itself counts dead workers

    def __init__(self, address: str, wait: float = 60.0) -> None:
        try:
            import distributed
        except ImportError as error:
            raise ImportError(
                "Dask is not installed; in the project's folder, `pip install '.[dask]'` does it"
            ) from error
        self.address, self.wait = address, positive(wait, "wait")
        self._connect = distributed.Client
        self._client = self._connected()

    @property
    def n_workers(self) -> int:
        """Number of workers there are now."""
        return len(self._client.nthreads())

    def submit(self, work: Callable[..., Any], /, *arguments: Any) -> Future:
        """Hand out a call; its future raises `BrokenExecutor` if the scheduler goes away."""
        future: Future = Future()
        try:
            remote = self._client.submit(_quietly, work, *arguments, pure=False)
            remote.add_done_callback(lambda done: _settle(done, future))
        except Exception as error:  # whatever a client says that has lost its scheduler
            future.set_exception(BrokenExecutor(str(error)))
            return future
        # Dask drops a call when nobody holds what it is to return; and keeps it as long.
        future.add_done_callback(lambda done: remote.release())
        return future

    def recover(self) -> str:
        """Wait for a scheduler at the address.

        Raises
        ------
        ConnectionError
            If there is none in time.
        """
        with suppress(Exception):
            self._client.close(timeout=1)
        self._client = self._connected()
        return f"as the scheduler at {self.address} went away; one answers there again"

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster; scheduler and workers go on."""
        with suppress(Exception):
            self._client.close(timeout=5)

    def _connected(self) -> Any:
        try:
            return self._connect(self.address, timeout=self.wait, set_as_default=False)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConnectionError(
                f"no Dask scheduler answered at {self.address!r} within {self.wait:g} s ({reason})"
            ) from error


def _quietly(work: Callable[..., Any], *arguments: Any) -> Any:
    """Without warnings of single runs in the log of the worker: the table says how they ended."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return work(*arguments)


def _settle(remote: Any, future: Future) -> None:
    """Give the outcome of Dask's future to ours; called when there is one."""
    if future.cancelled():
        return
    try:
        error = remote.exception() if remote.status == "error" else None
        rows = remote.result() if error is None else None
    except BaseException as lost:  # no outcome, and nobody to ask; a cancellation is no Exception
        error = BrokenExecutor(str(lost))
    with suppress(Exception):  # cancelled in between
        if error is None:
            future.set_result(rows)
        else:
            future.set_exception(error)
