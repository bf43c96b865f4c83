"""The same tasks on a Dask cluster.

Workers read the volume and write the store themselves, so both must be on a file system that all of
them see; nothing large passes through the scheduler. Each worker loads the network once, from its
address, and keeps it. Two workers that do the same task, as can happen when one of them seems lost,
write the same bytes.
"""

import contextlib
import itertools
import logging
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any

from respondcam._extras import require
from respondcam.errors import InputError
from respondcam.large.engine import engine_of
from respondcam.large.job import Done, Job, Task
from respondcam.large.store import Store
from respondcam.large.tasks import do_tile, perform
from respondcam.volume.lazy import LazyVolume, open_volume

_AHEAD = 4  # tasks for each thread of the cluster that are handed over at a time
_KEPT = 4  # jobs of which a worker keeps the store and the volume open


@contextlib.contextmanager
def connected(scheduler: str | None, workers: int | None) -> Generator[Any, None, None]:
    """A client of the scheduler at an address, or of a new cluster on this machine.

    Raises
    ------
    InputError
        If there is no scheduler at the address.
    """
    distributed = require("distributed", extra="large", purpose="run on a Dask cluster")
    if scheduler is not None:
        try:
            client = distributed.Client(scheduler, timeout="10s", set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"There is no Dask scheduler at {scheduler!r} ({error}). Start one with: dask "
                f"scheduler; and workers with: dask worker ADDRESS"
            ) from error
        with client:
            yield client
        return
    settings = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.LocalCluster(processes=True, memory_limit=0, **settings) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        client.run(_leave_interrupts_alone)
        with _silent_when_interrupted():
            yield client


def _leave_interrupts_alone() -> None:
    """What each worker of an own cluster does: a terminal's CTRL-C goes to all, and one answers."""
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    of_tasks = logging.getLogger("distributed.worker.state_machine")
    of_tasks.addFilter(lambda record: "CancelledError" not in record.getMessage())


@contextlib.contextmanager
def _silent_when_interrupted() -> Generator[None, None, None]:
    """Keep Dask from telling of every worker that it ends because it was asked to."""
    try:
        yield
    except KeyboardInterrupt:
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        raise


def run_on(
    client: Any,
    work: Iterable[tuple[Job, Task]],
    report: Callable[[Job, Task, Done], None],
) -> None:
    """Do all tasks on a cluster; a few for each thread of it are under way at a time.

    Raises
    ------
    InputError
        If a task says so, or the cluster is gone.
    """
    distributed = require("distributed", extra="large", purpose="run on a Dask cluster")
    under_way: dict[Any, tuple[Job, Task]] = {}
    by_task: dict[tuple[Any, Task], Any] = {}
    pending = iter(work)
    ended = distributed.as_completed(loop=client.loop)
    try:
        while True:
            limit = _AHEAD * max(1, sum(client.nthreads().values()))
            for job, task in itertools.islice(pending, max(0, limit - len(under_way))):
                before = [by_task[job.store, t] for t in task.after if (job.store, t) in by_task]
                future = client.submit(do_task, job, task, before, pure=False, retries=2)
                under_way[future] = (job, task)
                by_task[job.store, task] = future
                ended.add(future)
            if not under_way:
                return
            future = next(ended)
            job, task = under_way.pop(future)
            del by_task[job.store, task]
            report(job, task, future.result())
    except (distributed.KilledWorker, OSError, RuntimeError, TimeoutError) as error:
        raise _gone(error) from error
    except BaseException as error:
        if type(error).__name__ in ("CancelledError", "FutureCancelledError"):
            raise _gone(error) from error
        raise
    finally:
        with contextlib.suppress(Exception):
            client.cancel(list(under_way), force=True)


def do_task(job: Job, task: Task, before: list[Any]) -> Done:
    """What a worker does; `before` only makes it wait."""
    store, volume = _open(job)
    if task.kind == "tile":
        return do_tile(store, engine_of(job), volume, task.index)
    engine_of(job)  # sets the number of threads in a process that has done nothing yet
    return perform(store, task)


_opened: dict[Any, tuple[Store, LazyVolume]] = {}
_opening = threading.Lock()


def _open(job: Job) -> tuple[Store, LazyVolume]:
    """Store and volume of a job, opened once in each process as long as few jobs are at work."""
    key = (job.store, job.signature, job.plan)
    with _opening:
        if key not in _opened:
            while len(_opened) >= _KEPT:
                del _opened[next(iter(_opened))]
            _opened[key] = (Store(job), open_volume(job.source, job.scratch))
        return _opened[key]


def _gone(error: BaseException) -> InputError:
    return InputError(
        f"The Dask cluster has lost the run ({type(error).__name__}: {error}). What is done is "
        f"kept: start the scheduler and workers again, and give the same command to continue."
    )
