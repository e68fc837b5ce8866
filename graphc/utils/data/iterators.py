"""Iterators of a DataLoader: in this process, or over worker processes."""

import importlib
import itertools
import multiprocessing
import multiprocessing.connection
import os
import time
import warnings
import weakref
from collections.abc import Mapping, Sequence

import graphc as torch
from graphc.utils.data.fetch import make_fetcher
from graphc.utils.data.worker import (
    STATUS_CHECK_INTERVAL,
    ExceptionWrapper,
    IterationEnd,
    Resume,
    WorkerTask,
    unpickled,
    worker_loop,
)


def _pinned(data):
    """Return ``data`` with its tensors in pinned memory, in any nesting."""
    if isinstance(data, torch.Tensor) or hasattr(data, "pin_memory"):
        return data.pin_memory()
    if isinstance(data, (str, bytes)):
        return data
    if isinstance(data, Mapping):
        return type(data)({key: _pinned(value) for key, value in data.items()})
    if isinstance(data, tuple) and hasattr(data, "_fields"):  # a named tuple
        return type(data)(*(_pinned(item) for item in data))
    if isinstance(data, Sequence):
        return type(data)(_pinned(item) for item in data)
    return data


class BaseIterator:
    """What both iterators share: sampler, seed, pinning and the warning of wrong lengths."""

    def __init__(self, loader):
        self._loader = loader
        self._dataset_kind = loader._dataset_kind
        self._reported_length = loader._reported_length
        self._index_sampler = loader._index_sampler
        self._collate_fn = loader.collate_fn
        self._pin_memory = loader.pin_memory and torch.cuda.is_available()
        if loader.pin_memory and not self._pin_memory:
            warnings.warn(
                "'pin_memory' argument is set as true but no accelerator is found, then device "
                "pinned memory won't be used.",
                stacklevel=4,
            )
        self._sampler_iter = iter(self._index_sampler)
        # Drawn before the sampler draws, and without workers too: so the order of the examples
        # does not depend on the number of workers.
        seed = torch.empty((), dtype=torch.int64).random_(generator=loader.generator)
        self._base_seed = seed.item()
        self._num_yielded = 0

    def __iter__(self):
        return self

    def __len__(self):
        return len(self._index_sampler)

    def __getstate__(self):
        raise NotImplementedError(f"{type(self).__name__} cannot be pickled")

    def _next_data(self):
        raise NotImplementedError

    def __next__(self):
        data = self._next_data()
        if self._pin_memory:
            data = _pinned(data)
        self._num_yielded += 1
        reported = self._reported_length
        if self._dataset_kind == "iterable" and reported is not None:
            if self._num_yielded > reported:
                warnings.warn(
                    f"Length of IterableDataset {self._loader.dataset} was reported to be "
                    f"{reported} (when accessing len(dataloader)), but {self._num_yielded} "
                    "samples have been fetched. With workers, each must take its own part: see "
                    "get_worker_info.",
                    stacklevel=2,
                )
        return data


class SingleProcessIterator(BaseIterator):
    """Makes the batches where they are used."""

    def __init__(self, loader):
        super().__init__(loader)
        self._fetcher = make_fetcher(
            self._dataset_kind,
            loader.dataset,
            loader._auto_collation,
            loader.collate_fn,
            loader.drop_last,
        )

    def _next_data(self):
        return self._fetcher.fetch(next(self._sampler_iter))


class _Workers:
    """The processes, their queues, and how they are ended."""

    def __init__(self, loader, base_seed):
        context = loader.multiprocessing_context or multiprocessing.get_context()
        importlib.import_module("graphc.backends.llvm.compile")  # once here, not in every worker
        self.data_queue = context.Queue()
        self.done_event = context.Event()
        self.index_queues = []
        self.processes = []
        self.owner = os.getpid()
        for worker_id in range(loader.num_workers):
            index_queue = context.Queue()
            # The main process may end while indices are queued that nobody wants.
            index_queue.cancel_join_thread()
            task = WorkerTask(
                loader._dataset_kind,
                loader.dataset,
                loader._auto_collation,
                loader.collate_fn,
                loader.drop_last,
                base_seed,
                loader.worker_init_fn,
                worker_id,
                loader.num_workers,
            )
            process = context.Process(
                target=worker_loop,
                args=(task, index_queue, self.data_queue, self.done_event),
                daemon=True,
            )
            process.start()
            self.index_queues.append(index_queue)
            self.processes.append(process)

    def receive(self, timeout, watched):
        """Return (number, data), or None if nothing came within ``timeout`` seconds.

        Raises:
            RuntimeError: one of the processes ``watched`` has died.
        """
        reader = self.data_queue._reader
        sentinels = [process.sentinel for process in watched]
        ready = multiprocessing.connection.wait([reader, *sentinels], timeout)
        if reader in ready or reader.poll():
            return unpickled(self.data_queue.get())
        if ready:
            dead = [process for process in watched if process.sentinel in ready]
            listed = ", ".join(str(process.pid) for process in dead)
            raise RuntimeError(f"DataLoader worker (pid(s) {listed}) exited unexpectedly")
        return None

    def shut_down(self):
        """End all processes; those that do not end soon are terminated."""
        if os.getpid() != self.owner:
            return  # a forked child that inherited this object
        self.done_event.set()
        for index_queue in self.index_queues:
            index_queue.put(None)
        for process in self.processes:
            process.join(timeout=STATUS_CHECK_INTERVAL)
        for index_queue in self.index_queues:
            index_queue.cancel_join_thread()
            index_queue.close()
        for process in self.processes:
            if process.is_alive():
                process.terminate()
                process.join(timeout=STATUS_CHECK_INTERVAL)
        self.data_queue.cancel_join_thread()
        self.data_queue.close()


class MultiProcessIterator(BaseIterator):
    """Hands indices to workers in turn and returns their batches in order."""

    def __init__(self, loader):
        super().__init__(loader)
        self._timeout = loader.timeout
        self._in_order = loader.in_order
        self._persistent = loader.persistent_workers
        self._max_tasks = loader.prefetch_factor * loader.num_workers
        self._workers = _Workers(loader, self._base_seed)
        self._shut_down = weakref.finalize(self, self._workers.shut_down)
        # When the interpreter exits, multiprocessing ends its daemons; queues no longer work.
        self._shut_down.atexit = False
        self._start_epoch()

    def _start_epoch(self):
        count = len(self._workers.processes)
        self._num_yielded = 0
        self._next_sent = 0
        self._next_returned = 0
        self._arrived = {}  # number -> data that came before its turn
        self._worker_of = {}  # number -> worker that has been asked for it
        self._active = [True] * count
        self._pending = [0] * count
        self._turn = itertools.cycle(range(count))
        for _ in range(self._max_tasks):
            self._send_next()

    def reset(self, loader):
        """Begin a new epoch with the same workers."""
        self._reported_length = loader._reported_length
        self._sampler_iter = iter(self._index_sampler)
        self._active = [True] * len(self._active)
        for index_queue in self._workers.index_queues:
            index_queue.put(Resume())
        answers = 0
        while answers < len(self._active):  # what is left of an epoch that was broken off goes
            _, data = self._receive()
            answers += isinstance(data, Resume)
        self._start_epoch()

    def _send_next(self):
        """Ask the next active worker for the next batch, if there is one."""
        worker = self._choose_worker()
        if worker is None:
            return
        try:
            indices = next(self._sampler_iter)
        except StopIteration:
            return
        self._workers.index_queues[worker].put((self._next_sent, indices))
        self._worker_of[self._next_sent] = worker
        self._pending[worker] += 1
        self._next_sent += 1

    def _choose_worker(self):
        for _ in self._active:
            worker = next(self._turn)
            if not self._active[worker]:
                continue
            # Out of order, a slow worker gets no more than its share.
            if self._in_order or self._pending[worker] < self._max_tasks // sum(self._active):
                return worker
        return None

    def _receive(self):
        processes = self._workers.processes
        watched = [process for process, on in zip(processes, self._active) if on]
        start = time.monotonic()
        while True:
            wait = self._timeout or STATUS_CHECK_INTERVAL
            answer = self._workers.receive(wait, watched)
            if answer is not None:
                return answer
            if self._timeout and time.monotonic() - start >= self._timeout:
                raise RuntimeError(f"DataLoader timed out after {self._timeout} seconds")

    def _next_data(self):
        while True:
            self._skip_ended()
            if self._next_returned == self._next_sent:
                if not self._persistent:
                    self._shut_down()
                raise StopIteration
            if self._next_returned in self._arrived:
                return self._hand_out(self._next_returned, self._arrived.pop(self._next_returned))
            number, data = self._receive()
            if isinstance(data, IterationEnd):
                self._end_worker(data.worker_id)
            elif number == self._next_returned or not self._in_order:
                return self._hand_out(number, data)
            else:
                self._arrived[number] = data

    def _skip_ended(self):
        """Pass over batches that were handed out already, or that an ended worker owes."""
        while self._next_returned < self._next_sent:
            number = self._next_returned
            worker = self._worker_of.get(number)
            if number in self._arrived or (worker is not None and self._active[worker]):
                return
            self._worker_of.pop(number, None)
            self._next_returned += 1

    def _end_worker(self, worker):
        self._active[worker] = False
        if not self._persistent:
            self._workers.index_queues[worker].put(None)
        self._send_next()

    def _hand_out(self, number, data):
        self._pending[self._worker_of.pop(number)] -= 1
        if number == self._next_returned:
            self._next_returned += 1
        self._send_next()
        if isinstance(data, ExceptionWrapper):
            data.reraise()
        return data
