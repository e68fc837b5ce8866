"""Batches of a data set, made in this process or by workers."""

import os
import warnings
from typing import Generic, TypeVar

from graphc.utils.data.collate import default_collate, default_convert
from graphc.utils.data.dataset import IterableDataset
from graphc.utils.data.sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler

__all__ = ["DataLoader"]

_T_co = TypeVar("_T_co", covariant=True)


class _Endless(Sampler):
    """Indices for an iterable data set, which needs none and ends by itself."""

    def __iter__(self):
        while True:
            yield None


class DataLoader(Generic[_T_co]):
    """An iterable over the batches of a data set.

    With the same seed the batches come in the same order whatever the number of workers.

    Args:
        dataset: a :class:`Dataset` or :class:`IterableDataset`.
        batch_size: examples of a batch; None: single examples, not batched.
        shuffle: whether each epoch has a random order of its own.
        sampler: an order of indices, instead of ``shuffle``.
        batch_sampler: lists of indices, instead of all options of batching.
        num_workers: number of worker processes; 0 makes batches where they are used.
        collate_fn: makes a batch of a list of examples; default: :func:`default_collate`.
        pin_memory: whether tensors are copied to pinned memory where there is a GPU.
        drop_last: whether an incomplete last batch is left out.
        timeout: seconds to wait for a batch of a worker; 0: without limit.
        worker_init_fn: called in each worker with its number, after seeding.
        multiprocessing_context: how workers are started: "fork", "spawn", "forkserver" or a
            context.
        generator: the source of the order and of the workers' seeds.
        prefetch_factor: batches that each worker makes in advance; default 2.
        persistent_workers: whether workers are kept between epochs.
        pin_memory_device: accepted; the current device is used.
        in_order: whether batches keep their order, rather than coming as they are ready.

    Raises:
        ValueError: options exclude each other or are out of range.
    """

    _multiprocessing_context = None
    _initialised = False

    def __init__(
        self,
        dataset,
        batch_size=1,
        shuffle=None,
        sampler=None,
        batch_sampler=None,
        num_workers=0,
        collate_fn=None,
        pin_memory=False,
        drop_last=False,
        timeout=0,
        worker_init_fn=None,
        multiprocessing_context=None,
        generator=None,
        *,
        prefetch_factor=None,
        persistent_workers=False,
        pin_memory_device="",
        in_order=True,
    ):
        _check_workers(num_workers, timeout, prefetch_factor, persistent_workers)
        iterable = isinstance(dataset, IterableDataset)
        _check_batching(iterable, batch_size, bool(shuffle), sampler, batch_sampler, drop_last)
        self.dataset = dataset
        self.num_workers = num_workers
        self.prefetch_factor = 2 if num_workers and prefetch_factor is None else prefetch_factor
        self.pin_memory = pin_memory
        self.pin_memory_device = pin_memory_device
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.in_order = in_order
        self._dataset_kind = "iterable" if iterable else "map"
        if batch_sampler is not None:
            batch_size = None
        if sampler is None:
            if iterable:
                sampler = _Endless()
            elif shuffle:
                sampler = RandomSampler(dataset, generator=generator)
            else:
                sampler = SequentialSampler(dataset)
        if batch_size is not None and batch_sampler is None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.generator = generator
        if collate_fn is None:
            collate_fn = default_collate if self._auto_collation else default_convert
        self.collate_fn = collate_fn
        self.persistent_workers = persistent_workers
        self._reported_length = None
        self._iterator = None
        self._initialised = True
        self.check_worker_number_rationality()

    @property
    def multiprocessing_context(self):
        """The context that starts workers, or None for the default."""
        return self._multiprocessing_context

    @multiprocessing_context.setter
    def multiprocessing_context(self, context):
        if context is not None:
            context = _checked_context(context, self.num_workers)
        self._multiprocessing_context = context

    def __setattr__(self, name, value):
        fixed = ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset")
        if self._initialised and name in (*fixed, "persistent_workers"):
            raise ValueError(
                f"{name} attribute should not be set after {type(self).__name__} is initialized"
            )
        super().__setattr__(name, value)

    def _get_iterator(self):
        # Imported here: multiprocessing is only needed to iterate.
        from graphc.utils.data.iterators import MultiProcessIterator, SingleProcessIterator

        if self.num_workers == 0:
            return SingleProcessIterator(self)
        self.check_worker_number_rationality()
        return MultiProcessIterator(self)

    def __iter__(self):
        if not (self.persistent_workers and self.num_workers > 0):
            return self._get_iterator()
        if self._iterator is None:
            self._iterator = self._get_iterator()
        else:
            self._iterator.reset(self)
        return self._iterator

    @property
    def _auto_collation(self):
        return self.batch_sampler is not None

    @property
    def _index_sampler(self):
        return self.batch_sampler if self._auto_collation else self.sampler

    def __len__(self):
        if self._dataset_kind == "map":
            return len(self._index_sampler)
        length = len(self.dataset)
        if self.batch_size is not None:
            batches, rest = divmod(length, self.batch_size)
            length = batches + (rest > 0 and not self.drop_last)
        self._reported_length = length
        return length

    def check_worker_number_rationality(self):
        """Warn if there are more workers than processors."""
        if hasattr(os, "sched_getaffinity"):
            available = len(os.sched_getaffinity(0))
        else:
            available = os.cpu_count()
        if self.num_workers and (available is None or self.num_workers > available):
            warnings.warn(
                f"This DataLoader will create {self.num_workers} worker processes in total. Our "
                f"suggested max number of worker in current system is {available}, which is "
                "smaller than what this DataLoader is going to create.",
                stacklevel=3,
            )


def _check_workers(num_workers, timeout, prefetch_factor, persistent_workers):
    if num_workers < 0:
        raise ValueError(
            "num_workers option should be non-negative; use num_workers=0 to disable "
            "multiprocessing."
        )
    if timeout < 0:
        raise ValueError("timeout option should be non-negative")
    if num_workers == 0 and prefetch_factor is not None:
        raise ValueError(
            "prefetch_factor option could only be specified in multiprocessing. "
            "let num_workers > 0 to enable multiprocessing, otherwise set prefetch_factor to None."
        )
    if prefetch_factor is not None and prefetch_factor < 1:
        raise ValueError("prefetch_factor option should be positive")
    if persistent_workers and num_workers == 0:
        raise ValueError("persistent_workers option needs num_workers > 0")


def _check_batching(iterable, batch_size, shuffle, sampler, batch_sampler, drop_last):
    if iterable:
        for name, value in (
            ("shuffle", shuffle or None),
            ("sampler", sampler),
            ("batch_sampler", batch_sampler),
        ):
            if value is not None:
                raise ValueError(
                    f"DataLoader with IterableDataset: expected unspecified {name} option, but "
                    f"got {name}={value}"
                )
    if sampler is not None and shuffle:
        raise ValueError("sampler option is mutually exclusive with shuffle")
    if batch_sampler is not None:
        if batch_size != 1 or shuffle or sampler is not None or drop_last:
            raise ValueError(
                "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, "
                "and drop_last"
            )
    elif batch_size is None and drop_last:
        raise ValueError(
            "batch_size=None option disables auto-batching and is mutually exclusive with drop_last"
        )


def _checked_context(context, num_workers):
    import multiprocessing.context

    if num_workers == 0:
        raise ValueError(
            "multiprocessing_context can only be used with multi-process loading "
            f"(num_workers > 0), but got num_workers={num_workers}"
        )
    if isinstance(context, str):
        valid = multiprocessing.get_all_start_methods()
        if context not in valid:
            raise ValueError(
                "multiprocessing_context option should specify a valid start method in "
                f"{valid!r}, but got multiprocessing_context={context!r}"
            )
        context = multiprocessing.get_context(context)
    if not isinstance(context, multiprocessing.context.BaseContext):
        raise TypeError(
            "multiprocessing_context option should be a valid context object or a string "
            f"specifying the start method, but got multiprocessing_context={context}"
        )
    return context
