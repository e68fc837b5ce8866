"""Getting the examples of a batch from a data set."""

__all__ = ["make_fetcher"]


class _MapFetcher:
    def __init__(self, dataset, auto_collation, collate_fn, drop_last):
        self.dataset = dataset
        self.auto_collation = auto_collation
        self.collate_fn = collate_fn

    def fetch(self, indices):
        """Return the batch of a list of indices; without batching, the example of one index."""
        if not self.auto_collation:
            return self.collate_fn(self.dataset[indices])
        get_all = getattr(self.dataset, "__getitems__", None)
        if get_all:
            return self.collate_fn(get_all(indices))
        return self.collate_fn([self.dataset[index] for index in indices])


class _IterableFetcher:
    def __init__(self, dataset, auto_collation, collate_fn, drop_last):
        self.iterator = iter(dataset)
        self.auto_collation = auto_collation
        self.collate_fn = collate_fn
        self.drop_last = drop_last
        self.ended = False

    def fetch(self, indices):
        """Return the next ``len(indices)`` examples as a batch; raise StopIteration at the end."""
        if self.ended:
            raise StopIteration
        if not self.auto_collation:
            return self.collate_fn(next(self.iterator))
        examples = []
        for _ in indices:
            try:
                examples.append(next(self.iterator))
            except StopIteration:
                self.ended = True
                break
        if not examples or (self.drop_last and len(examples) < len(indices)):
            raise StopIteration
        return self.collate_fn(examples)


def make_fetcher(kind, dataset, auto_collation, collate_fn, drop_last):
    """Return the fetcher of a data set of the kind "map" or "iterable"."""
    fetcher = _MapFetcher if kind == "map" else _IterableFetcher
    return fetcher(dataset, auto_collation, collate_fn, drop_last)
