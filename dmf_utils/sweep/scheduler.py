"""The driver of a sweep: hands out chunks, takes in results, and copes with what is lost."""

from __future__ import annotations

import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future
from queue import Empty, SimpleQueue
from typing import Any

from dmf_utils.sweep.cache import ChunkCache, SweepWarning
from dmf_utils.sweep.run_parameters import Chunk
from dmf_utils.sweep.source import SOURCE

__all__ = ["computed"]

_ROOM = 10_000  # chunks that an executor which does not say otherwise is given at once
_PAUSE = 0.2  # seconds to wait for other bad news; and for Ctrl-C, which ends workers as well
Result = tuple[Chunk, list[dict[str, Any]]]


def computed(
    chunks: list[Chunk],
    pool: Executor,
    kept: ChunkCache,
    options: Mapping[str, Any],
    label: str,
    work: Callable[..., list[dict[str, Any]]],
) -> Generator[Result, None, None]:
    """Results of the chunks as they become ready.

    Chunks that another sweep with the same cache computes are left to it, as long as it lives.
    Those that are lost with a worker are handed out again. When interrupted, what has not begun is
    dropped, and what is done still comes.

    Parameters
    ----------
    chunks : list of Chunk
        Those that are missing, in the order in which to begin them.
    pool : Executor
        Its attribute `room`, if it has one, is how many calls it takes at once. One that loses
        calls raises `BrokenExecutor` from their futures; if it has `attempts` (how often a call
        may be lost) and `recover` (which makes it ready again, and says what happened), they are
        made again.
    kept : ChunkCache
    options : mapping
        Passed to `work`.
    label : str
        Names the sweep in messages.
    work : callable
        ``work(runs, options, source)`` returns the rows.

    Raises
    ------
    RuntimeError
        If a chunk was lost too often.
    """
    waiting, busy = deque(chunks), deque[Chunk]()
    under_way: dict[Future, Chunk] = {}
    finished: SimpleQueue[Future] = SimpleQueue()
    lost: Counter[int] = Counter()  # how often, by a chunk's first run
    room = getattr(pool, "room", _ROOM)
    try:
        while waiting or busy or under_way:
            while waiting and len(under_way) < room:
                chunk = waiting.popleft()
                if not kept.take(chunk):
                    busy.append(chunk)
                elif (found := kept.find(chunk)) is not None:
                    kept.release(chunk)
                    yield chunk, found
                else:
                    future = pool.submit(work, list(chunk.runs), dict(options), SOURCE)
                    under_way[future] = chunk
                    future.add_done_callback(finished.put)
            missed = []
            for future in _ready(finished, is_waiting=bool(under_way), patient=not busy):
                chunk = under_way[future]
                if _is_lost(future):
                    missed.append(under_way.pop(future))
                    continue
                found = _result(future, chunk)
                del under_way[future]
                yield chunk, found
            if missed:
                lost.update(chunk.first for chunk in missed)
                _recover(pool, missed, lost, label)
                waiting.extendleft(reversed(missed))
            elif not waiting:
                waiting, busy = busy, deque()
    except (Exception, KeyboardInterrupt):
        for future in under_way:
            future.cancel()
        for future, chunk in under_way.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                yield chunk, future.result()
        raise
    finally:
        for future in under_way:
            future.cancel()


def _ready(finished: SimpleQueue[Future], *, is_waiting: bool, patient: bool) -> list[Future]:
    """What has finished, at least one unless others are `busy` with what is left."""
    if not is_waiting:
        time.sleep(0 if patient else _PAUSE)
        return []
    found: list[Future] = []
    try:
        found.append(finished.get(timeout=None if patient else _PAUSE))
        if _is_lost(found[0]):  # others may be lost for the same reason
            time.sleep(_PAUSE)
        while True:
            found.append(finished.get_nowait())
    except Empty:
        return found


def _is_lost(future: Future) -> bool:
    return future.cancelled() or isinstance(future.exception(), BrokenExecutor)


def _result(future: Future, chunk: Chunk) -> list[dict[str, Any]]:
    """The rows, or what the runs raised, with a note of which they were."""
    try:
        return future.result()
    except Exception as error:
        error.add_note(
            f"This was raised by a chunk of {len(chunk.runs)} runs, the first of which is run "
            f"{chunk.first}: {chunk.runs[0]}"
        )
        raise


def _recover(pool: Executor, missed: list[Chunk], lost: Counter[int], label: str) -> None:
    """Make the pool ready again and say what happened, or raise what cannot be mended."""
    n_runs = sum(len(chunk.runs) for chunk in missed)
    what = f"{len(missed)} {'chunk' if len(missed) == 1 else 'chunks'} ({n_runs} runs)"
    if not hasattr(pool, "recover"):
        raise RuntimeError(
            f"{label}: the executor lost {what}: its workers died, or it was shut down. What was "
            "finished is kept in the cache, if there is one; call again with a new executor"
        )
    for chunk in missed:
        if lost[chunk.first] >= pool.attempts:
            raise RuntimeError(
                f"{label}: {pool.attempts} processes died, one after the other, while they "
                f"computed the same chunk of {len(chunk.runs)} runs, the first of which is run "
                f"{chunk.first}: {chunk.runs[0]}. If the system ends them for want of memory, take "
                "fewer workers or smaller runs; if they never start, the script that calls sweep "
                'needs `if __name__ == "__main__":`. What was finished is kept in the cache, if '
                "there is one"
            )
    why = pool.recover()
    warnings.warn(
        f"{label}: {what} lost, {why}; only these are computed again",
        SweepWarning,
        stacklevel=2,
    )
