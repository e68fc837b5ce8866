"""What runs in a worker process of a DataLoader, and what goes between the processes."""

import os
import pickle
import queue
import random
import sys
import traceback
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler

import numpy as np

import graphc as torch
from graphc.utils.data.fetch import make_fetcher

__all__ = ["WorkerInfo", "get_worker_info"]

# Seconds after which a waiting process looks whether the other side still lives.
STATUS_CHECK_INTERVAL = 5.0

_worker_info = None


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What a worker knows of itself.

    Attributes:
        id: number of the worker, from 0.
        num_workers: number of workers.
        seed: its random seed.
        dataset: its copy of the data set.
    """

    id: int
    num_workers: int
    seed: int
    dataset: object
    rng: object = None
    worker_method: str = "multiprocessing"


def get_worker_info():
    """Return the :class:`WorkerInfo` of this process, or None in the main process."""
    return _worker_info


@dataclass(frozen=True)
class IterationEnd:
    """Sent instead of data: the worker's iterable data set has ended."""

    worker_id: int


@dataclass(frozen=True)
class Resume:
    """Sent to a worker that is kept, and back by it: a new epoch begins."""


class KeyErrorMessage(str):
    """A message that a KeyError shows as it is, without escaping its line breaks."""

    __slots__ = ()

    def __repr__(self):
        return str(self)


class ExceptionWrapper:
    """An exception as a type and the text of its traceback, to be raised in another process."""

    def __init__(self, exc_info=None, where="in background"):
        exc_info = sys.exc_info() if exc_info is None else exc_info
        self.exc_type = exc_info[0]
        self.exc_msg = "".join(traceback.format_exception(*exc_info))
        self.where = where

    def reraise(self):
        """Raise an exception of the same type whose message holds the original traceback."""
        message = f"Caught {self.exc_type.__name__} {self.where}.\nOriginal {self.exc_msg}"
        if self.exc_type is KeyError:
            message = KeyErrorMessage(message)
        try:
            exception = self.exc_type(message)
        except Exception:
            # Its constructor takes other arguments; the message names the type.
            raise RuntimeError(message) from None
        raise exception


def numpy_seed(base_seed, worker_id):
    """Return four words that seed numpy's global generator, different in every worker."""
    entropy = [worker_id, base_seed & 0xFFFFFFFF, base_seed >> 32, 0]
    return np.random.SeedSequence(entropy).generate_state(4)


@dataclass(frozen=True)
class WorkerTask:
    """Everything that a worker is started with."""

    dataset_kind: str
    dataset: object
    auto_collation: bool
    collate_fn: object
    drop_last: bool
    base_seed: int
    init_fn: object
    worker_id: int
    num_workers: int

    def fetcher(self):
        """Return what makes batches from indices."""
        return make_fetcher(
            self.dataset_kind, self.dataset, self.auto_collation, self.collate_fn, self.drop_last
        )


def _seed(task):
    seed = task.base_seed + task.worker_id
    random.seed(seed)
    torch.manual_seed(seed)
    np.random.seed(numpy_seed(task.base_seed, task.worker_id))
    return seed


def _pickled(number, data, where):
    """Return the message as bytes; a failure to pickle becomes the data.

    Pickled here and not by the queue, whose thread would print the failure and lose the batch.
    """
    try:
        return bytes(ForkingPickler.dumps((number, data)))
    except Exception:
        return bytes(ForkingPickler.dumps((number, ExceptionWrapper(where=where))))


def unpickled(message):
    """Return (number, data) of a message of a worker."""
    return pickle.loads(message)


def worker_loop(task, index_queue, data_queue, done_event):
    """Answer each (number, indices) of the index queue with (number, batch), until None.

    It also ends when its parent has gone.
    """
    global _worker_info
    where = f"in DataLoader worker process {task.worker_id}"
    parent = os.getppid()
    try:
        torch.set_num_threads(1)
        seed = _seed(task)
        _worker_info = WorkerInfo(task.worker_id, task.num_workers, seed, task.dataset)
        failure = fetcher = None
        try:
            if task.init_fn is not None:
                task.init_fn(task.worker_id)
            fetcher = task.fetcher()
        except Exception:
            failure = ExceptionWrapper(where=where)
        ended = False
        while os.getppid() == parent:
            try:
                request = index_queue.get(timeout=STATUS_CHECK_INTERVAL)
            except queue.Empty:
                continue
            if request is None:
                break
            if isinstance(request, Resume):
                data_queue.put(_pickled(None, request, where))
                ended = False
                fetcher = task.fetcher()
                continue
            if done_event.is_set() or ended:
                continue
            number, indices = request
            if failure is not None:
                data, failure = failure, None
            else:
                data, ended = _fetch(task, fetcher, indices, where)
            data_queue.put(_pickled(number, data, where))
    except KeyboardInterrupt:
        pass  # the main process gets it too, and reports it
    if done_event.is_set():
        # Nobody reads any more: do not wait until what is queued has been read.
        data_queue.cancel_join_thread()
        data_queue.close()


def _fetch(task, fetcher, indices, where):
    """Return (data, whether the data set has ended)."""
    try:
        return fetcher.fetch(indices), False
    except Exception as error:
        if isinstance(error, StopIteration) and task.dataset_kind == "iterable":
            return IterationEnd(task.worker_id), True
        return ExceptionWrapper(where=where), False
