"""Data sets and their combinations."""

import numpy as np
import pytest

import graphc
from graphc.utils.data import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)


class Squares(Dataset[int]):
    def __init__(self, count):
        self.count = count

    def __getitem__(self, index):
        return index**2

    def __len__(self):
        return self.count


class Batched(Squares):
    def __getitems__(self, indices):
        return [10 * index for index in indices]


class Counting(IterableDataset):
    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return iter(range(self.count))

    def __len__(self):
        return self.count


def test_tensor_dataset_takes_rows():
    features = graphc.tensor(np.arange(6.0).reshape(3, 2))
    dataset = TensorDataset(features, graphc.tensor([7, 8, 9]))
    assert len(dataset) == 3
    row, label = dataset[1]
    assert row.tolist() == [2.0, 3.0] and label.item() == 8
    with pytest.raises(AssertionError, match="Size mismatch"):
        TensorDataset(features, graphc.tensor([1, 2]))


def test_concatenation_finds_the_right_part():
    both = Squares(3) + Squares(2)
    assert isinstance(both, ConcatDataset) and both.cumulative_sizes == [3, 5]
    assert [both[i] for i in range(5)] == [0, 1, 4, 0, 1]
    assert both[-1] == 1 and both[-5] == 0
    with pytest.raises(ValueError, match="absolute value of index"):
        both[-6]
    with pytest.raises(AssertionError, match="IterableDataset"):
        ConcatDataset([Counting(2)])


def test_chaining_iterable_datasets():
    chained = Counting(2) + Counting(3)
    assert isinstance(chained, ChainDataset)
    assert list(chained) == [0, 1, 0, 1, 2] and len(chained) == 5


def test_stacks_are_tuples_or_dictionaries():
    stacked = StackDataset(Squares(3), Batched(3))
    assert stacked[2] == (4, 4) and len(stacked) == 3
    assert stacked.__getitems__([0, 2]) == [(0, 0), (4, 20)]
    named = StackDataset(a=Squares(3), b=Batched(3))
    assert named[1] == {"a": 1, "b": 1}
    assert named.__getitems__([1, 2]) == [{"a": 1, "b": 10}, {"a": 4, "b": 20}]
    with pytest.raises(ValueError, match="Size mismatch"):
        StackDataset(Squares(3), Squares(2))
    with pytest.raises(ValueError, match="both types"):
        StackDataset(Squares(3), a=Squares(3))


def test_subset_maps_indices():
    subset = Subset(Squares(5), [4, 2])
    assert len(subset) == 2 and subset[0] == 16
    assert subset.__getitems__([1, 0]) == [4, 16]
    assert Subset(Batched(5), [4, 2]).__getitems__([1]) == [20]

    class Doubled(Subset):
        def __getitem__(self, idx):
            return 2 * super().__getitem__(idx)

    with pytest.raises(NotImplementedError, match="__getitems__"):
        Doubled(Squares(5), [1])


def test_random_split_by_lengths_and_shares():
    parts = random_split(range(10), [7, 3], generator=graphc.Generator().manual_seed(1))
    assert [len(part) for part in parts] == [7, 3]
    assert sorted(parts[0].indices + parts[1].indices) == list(range(10))
    shares = random_split(range(10), [0.33, 0.33, 0.34])
    assert [len(part) for part in shares] == [4, 3, 3]
    with pytest.raises(ValueError, match="Sum of input lengths"):
        random_split(range(10), [7, 2])
    with pytest.warns(UserWarning, match="Length of split at index 1 is 0"):
        random_split(range(1), [0.5, 0.5])


def test_a_dataset_must_define_its_items():
    with pytest.raises(NotImplementedError):
        Dataset()[0]
