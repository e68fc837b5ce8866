"""Sequences of different lengths: padded, or packed one step after the other."""

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

import graphc as torch
from graphc.functional.memory_part import computed_arrays
from graphc.tensor import from_array

__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


class _PackedSequence(NamedTuple):
    data: object
    batch_sizes: object
    sorted_indices: object
    unsorted_indices: object


class PackedSequence(_PackedSequence):
    """Sequences in falling order of length, step after step.

    Attributes:
        data: (sum of lengths, *): first all first elements, then all second ones, and so on.
        batch_sizes: number of sequences that have each step, int64 on the CPU.
        sorted_indices: the order in which sequences were sorted, or None.
        unsorted_indices: its inverse, or None.
    """

    def __new__(cls, data, batch_sizes=None, sorted_indices=None, unsorted_indices=None):
        if batch_sizes is None:
            data, batch_sizes = data
        if batch_sizes.device.type != "cpu":
            raise ValueError(
                "batch_sizes should always be on CPU. "
                "Instances of PackedSequence should never be created manually. "
                "They should be instantiated by functions like pack_sequence "
                "and pack_padded_sequences in nn.utils.rnn."
            )
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def _with_data(self, data):
        """Return the sequence with other data, indices moved to its device."""
        if data is self.data:
            return self
        indices = (i if i is None else i.to(data.device) for i in self[2:])
        return type(self)(data, self.batch_sizes, *indices)

    def to(self, *args, **kwargs):
        """Move or cast the data; arguments as of ``Tensor.to``."""
        return self._with_data(self.data.to(*args, **kwargs))

    def cuda(self, *args, **kwargs):
        """Move to a CUDA device."""
        return self._with_data(self.data.cuda(*args, **kwargs))

    def cpu(self, *args, **kwargs):
        """Move to the CPU."""
        return self._with_data(self.data.cpu(*args, **kwargs))

    def double(self):
        """Cast the data to float64."""
        return self.to(dtype=torch.float64)

    def float(self):
        """Cast the data to float32."""
        return self.to(dtype=torch.float32)

    def half(self):
        """Cast the data to float16."""
        return self.to(dtype=torch.float16)

    def long(self):
        """Cast the data to int64."""
        return self.to(dtype=torch.int64)

    def int(self):
        """Cast the data to int32."""
        return self.to(dtype=torch.int32)

    def short(self):
        """Cast the data to int16."""
        return self.to(dtype=torch.int16)

    def char(self):
        """Cast the data to int8."""
        return self.to(dtype=torch.int8)

    def byte(self):
        """Cast the data to uint8."""
        return self.to(dtype=torch.uint8)

    @property
    def is_cuda(self):
        """Whether the data are on a CUDA device."""
        return self.data.is_cuda

    def is_pinned(self):
        """Return whether the data are in pinned memory."""
        return self.data.is_pinned()

    def pin_memory(self):
        """Copy to pinned memory."""
        indices = (i if i is None else i.pin_memory() for i in self[2:])
        return type(self)(self.data.pin_memory(), self.batch_sizes, *indices)


def invert_permutation(permutation):
    """Return the inverse of a permutation of 0 ... n - 1, or None for None."""
    if permutation is None:
        return None
    places = torch.arange(0, permutation.numel(), device=permutation.device)
    return torch.empty_like(permutation).scatter_(0, permutation, places)


def _runs(batch_sizes):
    """Iterate over (first step, end step, size) of the stretches of equal batch size."""
    start = 0
    for step in range(1, len(batch_sizes) + 1):
        if step == len(batch_sizes) or batch_sizes[step] != batch_sizes[start]:
            yield start, step, batch_sizes[start]
            start = step


def pack_padded_sequence(input, lengths, batch_first=False, enforce_sorted=True):
    """Pack a padded batch of sequences.

    Args:
        input: (T, N, *), or (N, T, *) with ``batch_first``.
        lengths: the length of each sequence, all positive.
        batch_first: the layout of ``input``.
        enforce_sorted: whether lengths must already fall; else sequences are sorted.

    Raises:
        RuntimeError: lengths are not positive, not N, or not sorted.
    """
    lengths = torch.as_tensor(lengths, dtype=torch.int64, device="cpu")
    batch_dim = 0 if batch_first else 1
    if lengths.dim() != 1 or lengths.size(0) != input.size(batch_dim):
        raise RuntimeError(
            f"Expected `len(lengths)` to be equal to batch_size, but got {lengths.numel()} "
            f"(batch_size={input.size(batch_dim)})"
        )
    sorted_indices = None
    if not enforce_sorted:
        lengths, sorted_indices = torch.sort(lengths, descending=True)
        sorted_indices = sorted_indices.to(input.device)
        input = input.index_select(batch_dim, sorted_indices)
    if batch_first:
        input = input.transpose(0, 1)
    sizes = lengths.tolist()
    if sizes[-1] <= 0:
        raise RuntimeError(
            "Length of all samples has to be greater than 0, but found an element in "
            "'lengths' that is <= 0"
        )
    if any(longer < shorter for longer, shorter in itertools.pairwise(sizes)):
        raise RuntimeError(
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. "
            "You can pass `enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to "
            "sidestep this requirement if you do not need ONNX exportability."
        )
    batch_sizes = [sum(size > step for size in sizes) for step in range(sizes[0])]
    pieces = [
        input[start:end, :size].reshape((end - start) * size, *input.shape[2:])
        for start, end, size in _runs(batch_sizes)
    ]
    packed_sizes = torch.tensor(batch_sizes, dtype=torch.int64)
    return PackedSequence(torch.cat(pieces), packed_sizes, sorted_indices, None)


def pad_packed_sequence(sequence, batch_first=False, padding_value=0.0, total_length=None):
    """Return the padded batch (T, N, *) or (N, T, *) of a packed one, and the lengths (N,).

    Args:
        sequence: a :class:`PackedSequence`.
        batch_first: the layout of the result.
        padding_value: put after the end of each sequence.
        total_length: T; None takes the longest sequence.

    Raises:
        ValueError: ``total_length`` is less than the longest sequence.
    """
    batch_sizes = sequence.batch_sizes.tolist()
    longest = len(batch_sizes)
    if total_length is not None and total_length < longest:
        raise ValueError(
            "Expected total_length to be at least the length of the longest sequence in input, "
            f"but got total_length={total_length} and max sequence length being {longest}"
        )
    data = sequence.data
    batch, features = batch_sizes[0], data.shape[1:]

    def padding(steps, count):
        shape = (steps, count, *features)
        return torch.full(shape, padding_value, dtype=data.dtype, device=data.device)

    blocks = []
    offset = 0
    for start, end, size in _runs(batch_sizes):
        steps = end - start
        block = data[offset : offset + steps * size].reshape(steps, size, *features)
        offset += steps * size
        if size < batch:
            block = torch.cat([block, padding(steps, batch - size)], dim=1)
        blocks.append(block)
    if total_length is not None and total_length > longest:
        blocks.append(padding(total_length - longest, batch))
    padded = torch.cat(blocks)
    lengths = torch.tensor(
        [sum(size > place for size in batch_sizes) for place in range(batch)], dtype=torch.int64
    )
    if batch_first:
        padded = padded.transpose(0, 1)
    if sequence.unsorted_indices is not None:
        padded = padded.index_select(0 if batch_first else 1, sequence.unsorted_indices)
        lengths = lengths[sequence.unsorted_indices.cpu()]
    return padded, lengths


def pad_sequence(sequences, batch_first=False, padding_value=0.0, padding_side="right"):
    """Stack tensors (length, *) of different lengths, padded to the longest.

    Args:
        sequences: the tensors.
        batch_first: whether the result is (N, T, *) rather than (T, N, *).
        padding_value: what is put after (or before) the end of each sequence.
        padding_side: "right" or "left".
    """
    if not isinstance(sequences, Iterable):
        raise RuntimeError(
            "pad_sequence: Expected iterable for input sequences, but got arg of type: "
            f"{type(sequences)}"
        )
    if padding_side not in ("left", "right"):
        raise RuntimeError(
            f"Expected padding_side to be one of left or right, but got {padding_side}."
        )
    sequences = tuple(sequences)
    longest = max(sequence.size(0) for sequence in sequences)
    arrays = computed_arrays(sequences)
    if arrays and len({(array.dtype, array.shape[1:]) for array in arrays}) == 1:
        # Data that was loaded: there is nothing to compile for each set of lengths.
        batch = _padded(arrays, longest, padding_value, padding_side == "right", batch_first)
        return from_array(batch, str(sequences[0].device))
    padded = []
    for sequence in sequences:
        missing = longest - sequence.size(0)
        if missing:
            shape = (missing, *sequence.shape[1:])
            fill = torch.full(shape, padding_value, dtype=sequence.dtype, device=sequence.device)
            pair = [sequence, fill] if padding_side == "right" else [fill, sequence]
            sequence = torch.cat(pair)
        padded.append(sequence)
    return torch.stack(padded, dim=0 if batch_first else 1)


def _padded(arrays, longest, value, at_end, batch_first):
    lead = (len(arrays), longest) if batch_first else (longest, len(arrays))
    batch = np.full((*lead, *arrays[0].shape[1:]), value, arrays[0].dtype)
    rows = batch if batch_first else batch.swapaxes(0, 1)
    for row, array in zip(rows, arrays, strict=True):
        start = 0 if at_end else longest - len(array)
        row[start : start + len(array)] = array
    return batch


def unpad_sequence(padded_sequences, lengths, batch_first=False):
    """Return the list of tensors (length, *) of a padded batch."""
    batch = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    sizes = lengths.tolist()
    return [sequence[:size] for sequence, size in zip(batch.unbind(0), sizes, strict=True)]


def pack_sequence(sequences, enforce_sorted=True):
    """Pack a list of tensors (length, *); ``enforce_sorted`` as of pack_padded_sequence."""
    lengths = torch.as_tensor([sequence.size(0) for sequence in sequences])
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences):
    """Return the list of tensors (length, *) of a packed sequence."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
