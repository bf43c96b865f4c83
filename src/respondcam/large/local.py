"""Tasks in this process: reading, the network, and stitching and writing overlap.

Three threads pass tiles on through queues of two, so that what is held in memory does not depend on
the volume: the region that is read, two that wait, one in the network, two maps that wait, and one
that is written.
"""

import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any

from respondcam.large.engine import Engine, explain_tile
from respondcam.large.job import Done, Task
from respondcam.large.store import Store
from respondcam.large.tasks import perform, read_region
from respondcam.volume.lazy import LazyVolume

_END = object()


class _Stopped(Exception):  # noqa: N818  (no error: another thread has one)
    """Another thread of the run has stopped."""


class _Belt:
    """A queue of two whose both ends notice when the run has stopped."""

    def __init__(self, stop: threading.Event):
        self.queue: queue.Queue[Any] = queue.Queue(2)
        self.stop = stop

    def put(self, item: Any) -> None:
        while not self.stop.is_set():
            try:
                return self.queue.put(item, timeout=0.2)
            except queue.Full:
                continue
        raise _Stopped

    def get(self) -> Any:
        while not self.stop.is_set():
            try:
                return self.queue.get(timeout=0.2)
            except queue.Empty:
                continue
        raise _Stopped


def run_local(
    store: Store,
    engine: Engine,
    volume: LazyVolume,
    tasks: Iterable[Task],
    report: Callable[[Task, Done], None],
) -> None:
    """Do all tasks; `report` is called behind each one, from the thread that writes.

    Raises
    ------
    Exception
        Whatever a task raises; what is under way then is finished or left out, never torn.
    """
    stop = threading.Event()
    read, explained = _Belt(stop), _Belt(stop)
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> threading.Thread:
        def body() -> None:
            try:
                work()
            except _Stopped:
                pass
            except BaseException as error:  # raised again in the caller's thread
                failures.append(error)
                stop.set()

        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        return thread

    def reading() -> None:
        for task in tasks:
            tile = task.kind == "tile"
            read.put((task, read_region(store.job, volume, task.index) if tile else None))
        read.put(_END)

    def writing() -> None:
        while (item := explained.get()) is not _END:
            task, found = item
            if found is None:
                report(task, perform(store, task))
            else:
                store.write_tile(task.index, found)
                report(task, found.done())

    threads = [guarded(reading), guarded(writing)]
    try:
        _explain_all(store, engine, read, explained)
        threads[1].join()
    except _Stopped:
        pass
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def _explain_all(store: Store, engine: Engine, read: _Belt, explained: _Belt) -> None:
    while (item := read.get()) is not _END:
        task, region = item
        found = None if region is None else explain_tile(store.job, engine, task.index, region)
        explained.put((task, found))
    explained.put(_END)
