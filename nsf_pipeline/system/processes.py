"""Functions called in several processes at once.

The processes are connected by pipes alone. Python's own pools need semaphores, and these need a
`/dev/shm` that can be written, which some containers and clusters do not have.
"""

import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, Literal, cast

from nsf_pipeline.errors import UserError
from nsf_pipeline.system.signals import PATIENCE, behind, in_worker

KILLED = (
    "a process was killed, perhaps for lack of memory: lower --jobs or shard_size, and run the "
    "same command again"
)


class Processes:
    """Processes that wait for calls."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._connections = connections

    def map(self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a function several times at once; each process that is free takes the next call.

        Args:
            function: it can be pickled, as can what it is given and returns.
            calls: the arguments of each call.

        Returns:
            What the calls return, in order.

        Raises:
            UserError: a process was killed.
            Exception: the first one that a call raised.
        """
        results: list[Any] = [None] * len(calls)
        waiting, busy = iter(enumerate(calls)), dict[Connection, int]()
        try:
            for connection in self._connections:
                _next(connection, function, waiting, busy)
            while busy:
                for ready in cast(list[Connection], wait(list(busy))):
                    error, results[busy.pop(ready)] = ready.recv()
                    if error is not None:
                        raise error
                    _next(ready, function, waiting, busy)
        except (EOFError, ConnectionError):  # its end of the pipe was closed
            raise UserError(KILLED) from None
        return results


def _next(
    connection: Connection,
    function: Callable[..., Any],
    waiting: Iterator[tuple[int, tuple[Any, ...]]],
    busy: dict[Connection, int],
) -> None:
    for number, arguments in waiting:
        connection.send((function, arguments))
        busy[connection] = number
        return


@contextmanager
def processes(count: int, method: Literal["fork", "spawn"] = "fork") -> Iterator[Processes]:
    """Start processes that are ready for calls, and end them afterwards, whatever they do.

    Args:
        count: how many.
        method: "spawn" for a caller that has threads, as one with JAX.

    Raises:
        UserError: they cannot be started.
    """
    context: Any = get_context(method)
    connections, started = [], []
    try:
        # Ctrl-C reaches all processes. The new ones ignore it, and this one ends them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            for _ in range(count):
                here, there = context.Pipe()
                connections.append(here)
                process = context.Process(target=_serve, args=(there, os.getpid()), daemon=True)
                process.start()
                started.append(process)
                there.close()  # so that the process's end is noticed here
        except OSError as error:
            raise UserError(
                f"cannot start {count} processes: {error.strerror}; give fewer --jobs or --threads"
            ) from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        several = Processes(connections)
        several.map(abs, [(0,)] * count)
        yield several
    finally:
        # Each process removes its temporary file when it is told to end.
        for connection in connections:
            connection.close()
        for process in started:
            process.terminate()
        for process in started:
            process.join(PATIENCE)
            process.kill()
            process.join()


def _serve(connection: Connection, parent: int) -> None:
    """Answer calls until the other end is closed."""
    in_worker(parent)
    while True:
        try:
            function, arguments = connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            answer: tuple[Exception | None, Any] = None, function(*arguments)
        except Exception as error:
            if ended := behind(error):
                raise ended from None
            error.add_note(traceback.format_exc())
            answer = error, None
        with suppress(ConnectionError):  # the caller was killed
            connection.send(answer)
