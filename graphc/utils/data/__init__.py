"""Loading data: data sets, samplers, batches, worker processes."""

from graphc.utils.data.collate import default_collate, default_convert
from graphc.utils.data.dataloader import DataLoader
from graphc.utils.data.dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from graphc.utils.data.distributed import DistributedSampler
from graphc.utils.data.sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

__all__ = [
    "BatchSampler",
    "ChainDataset",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "DistributedSampler",
    "IterableDataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "StackDataset",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "default_collate",
    "default_convert",
    "get_worker_info",
    "random_split",
]


def get_worker_info():
    """Return what a worker process knows of itself, or None in the main process.

    Its attributes: ``id``, ``num_workers``, ``seed`` and ``dataset``.
    """
    # Imported here: the module needs multiprocessing.
    from graphc.utils.data import worker

    return worker.get_worker_info()
