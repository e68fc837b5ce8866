"""torch's random numbers on the CPU, bit for bit, as numpy arrays.

`MersenneTwister` is the generator, `RandomStream` the fills that torch makes of it. Results depend
on the seed, the order of calls and the sizes only; a stream continues from a state of torch's
`get_rng_state` and torch's from one of ours.
"""

from __future__ import annotations

import math
import secrets
import struct

import ml_dtypes
import numpy as np

from .box_muller import blocks32, blocks64, fma32, fma64, map_float64, pairs64

DEFAULT_SEED = 67280421310721
STATE_BYTES = 5056
WORDS = 624

_MASK64 = 2**64 - 1
# The state: seed, left, seeded, next | 624 words as u64 | x, cached normal, rho | is cached, 4 of
# padding | a float cache that is never filled on the CPU.
_HEAD, _TAIL = struct.Struct("<QiiQ"), struct.Struct("<dddi4x8x")
_NARROW = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
# random_(): the number of values by dtype; floats take the integers that they represent exactly.
_FULL_RANGE = {
    "float32": 2**24 + 1,
    "float64": 2**53 + 1,
    "float16": 2**11 + 1,
    "bfloat16": 2**8 + 1,
    "int64": 2**63,
    "int32": 2**31,
    "int16": 2**15,
    "int8": 2**7,
    "uint8": 2**8,
    "bool": 2,
}
_IN_CACHE = 1 << 13  # elements that are drawn and transformed at a time
_SHORT_RANGE = 2**28  # ranges below take one word, others two
_RANDPERM_LIMIT = (2**32 - 1) // 20
# From this many elements on a fill runs as compiled code, with the same bits; below, it would not
# be worth compiling.
COMPILED_FROM = 1 << 16

DTypeLike = np.dtype | type | str


class MersenneTwister:
    """MT19937 seeded as torch seeds it. Words come in bulk from numpy's generator."""

    def __init__(self, seed: int = DEFAULT_SEED) -> None:
        self._bits = np.random.MT19937()
        self._legacy = np.random.RandomState(self._bits)
        self._generator = np.random.Generator(self._bits)
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Start the stream of `seed`, of which the lower 32 bits count."""
        self._legacy.seed(seed & 0xFFFFFFFF)

    def words(self, count: int) -> np.ndarray:
        """The next `count` words, uint32."""
        return self._generator.integers(0, 2**32, count, dtype=np.uint32)

    def position(self) -> int:
        """How many of the current 624 words are used up."""
        return self._bits.state["state"]["pos"]

    def state(self) -> tuple[np.ndarray, int]:
        """(the 624 words, the position)."""
        state = self._bits.state["state"]
        return state["key"], state["pos"]

    def set_state(self, words: np.ndarray, position: int) -> None:
        if words.shape != (WORDS,) or not 0 <= position <= WORDS:
            raise ValueError(f"a state is {WORDS} words and a position of at most {WORDS}")
        self._bits.state = {
            "bit_generator": "MT19937",
            "state": {"key": np.asarray(words, np.uint32), "pos": position},
        }

    @property
    def address(self) -> int:
        """Where the state lies in memory: 624 words, then the position as a 32-bit integer.

        Generated code may advance it in place; nothing else may draw meanwhile.
        """
        return self._bits.ctypes.state_address


class RandomStream:
    """What torch.Generator("cpu") and the functions that take one do, as fills of flat arrays.

    `dtype` is a numpy dtype of the result: float32, float64, float16 or ml_dtypes.bfloat16 unless a
    function says otherwise. Not safe for use from several threads at once.
    """

    def __init__(self, seed: int = DEFAULT_SEED) -> None:
        self.twister = MersenneTwister()
        self.manual_seed(seed)

    # -- seed and state

    def manual_seed(self, seed: int) -> RandomStream:
        """Restart with a seed in -2**63 .. 2**64 - 1; negative ones count modulo 2**64."""
        if not -(2**63) <= seed <= _MASK64:
            raise RuntimeError(f"a seed is in -2**63 .. 2**64 - 1, got {seed}")
        self._seed = seed & _MASK64
        self.twister.seed(self._seed)
        self._is_fresh = True
        self._cached_normal: float | None = None
        return self

    def initial_seed(self) -> int:
        return self._seed

    def seed(self) -> int:
        """Restart with a seed from the operating system, and return it."""
        seed = secrets.randbits(53)
        self.manual_seed(seed)
        return seed

    def get_state(self) -> np.ndarray:
        """The state as torch lays it out: 5056 bytes, uint8."""
        words, position = self.twister.state()
        left = 1 if position == WORDS else WORDS + 1 - position
        # Before the first draw torch's position is 0, although no word is left.
        head = _HEAD.pack(self._seed, left, 1, 0 if self._is_untouched(position) else position)
        cached = self._cached_normal
        tail = _TAIL.pack(0.0, cached or 0.0, 0.0, cached is not None)
        state = head + words.astype("<u8").tobytes() + tail
        return np.frombuffer(bytearray(state), np.uint8)

    def set_state(self, state: np.ndarray | bytes) -> None:
        """Continue from a state of `get_state` or torch; RuntimeError if it is not one."""
        data = np.asarray(state, np.uint8).tobytes() if isinstance(state, np.ndarray) else state
        if len(data) != STATE_BYTES:
            raise RuntimeError(f"a state of the generator has {STATE_BYTES} bytes, got {len(data)}")
        seed, left, seeded, following = _HEAD.unpack_from(data)
        words = np.frombuffer(data, "<u8", WORDS, _HEAD.size)
        _, cached, _, is_cached = _TAIL.unpack_from(data, _HEAD.size + 8 * WORDS)
        position = WORDS if left == 1 else following
        if not (seeded and 1 <= left <= WORDS and left in (1, WORDS + 1 - position)):
            raise RuntimeError("the bytes are not a state of the Mersenne twister")
        if (words >> np.uint64(32)).any():
            raise RuntimeError("the bytes are not a state of the Mersenne twister")
        self.twister.set_state(words.astype(np.uint32), position)
        self._seed = seed
        self._is_fresh = left == 1 and following == 0
        self._cached_normal = cached if is_cached else None

    def _is_untouched(self, position: int) -> bool:
        return self._is_fresh and position == WORDS

    def _compiled(self, fill: str, count: int, dtype: DTypeLike, *scalars: float) -> np.ndarray:
        """A new array, filled by one of the functions of backends.llvm.rng."""
        from ..backends.llvm import rng

        values = np.empty(count, dtype)
        rng.function(fill)(self.twister.address, values.ctypes.data, count, *scalars)
        self._is_fresh = False
        return values

    # -- words and uniforms

    def random_u32(self, count: int) -> np.ndarray:
        return self._words(count, count >= COMPILED_FROM)

    def _words(self, count: int, compiled: bool) -> np.ndarray:
        if compiled:
            return self._compiled("graphc_mt_fill_u32", count, np.uint32)
        if count:
            self._is_fresh = False
        return self.twister.words(count)

    def random_u64(self, count: int) -> np.ndarray:
        """Two words each, the first as the upper half."""
        words = self.random_u32(2 * count).astype(np.uint64)
        return (words[0::2] << np.uint64(32)) | words[1::2]

    def uniform(
        self, count: int, dtype: DTypeLike = np.float32, low: float = 0.0, high: float = 1.0
    ) -> np.ndarray:
        """Uniform in [low, high): `fma(u, high - low, low)`, u of 24 bits (float64: 53). What is
        rounded up to the excluded end becomes `low`."""
        dtype = _float_type(dtype)
        values = self._uniform64(count) if dtype == np.float64 else self._uniform32(count)
        if (low, high) != (0.0, 1.0):
            lowest, highest = values.dtype.type(low), values.dtype.type(high)
            fma = fma64 if dtype == np.float64 else fma32
            values = fma(values, highest - lowest, lowest)
        values = values.astype(dtype, copy=False)
        if dtype in _NARROW or (low, high) != (0.0, 1.0):
            values[values == dtype.type(high)] = low
        return values

    def _uniform32(self, count: int) -> np.ndarray:
        if count >= COMPILED_FROM:
            return self._compiled("graphc_mt_uniform_f32", count, np.float32, 0.0, 1.0)
        words = self.random_u32(count)
        words &= np.uint32(0xFFFFFF)
        return np.multiply(words.view(np.int32), np.float32(2.0**-24), dtype=np.float32)

    def _uniform64(self, count: int) -> np.ndarray:
        if count >= COMPILED_FROM:
            return self._compiled("graphc_mt_uniform_f64", count, np.float64, 0.0, 1.0)
        return (self.random_u64(count) & np.uint64(2**53 - 1)).astype(np.float64) * 2.0**-53

    # -- normals

    def normal(
        self,
        count: int,
        dtype: DTypeLike = np.float32,
        mean: float = 0.0,
        std: float = 1.0,
        *,
        contiguous: bool = True,
    ) -> np.ndarray:
        """Normal variates. torch fills tensors of 16 and more elements by blocks, shorter ones and
        those that are not contiguous one by one, which gives other values.

        A complex normal is the normal of twice as many reals with std * sqrt(0.5).
        """
        dtype = _float_type(dtype)
        if count < 16 or not contiguous:
            return fma64(self._single_normals(count), std, mean).astype(dtype)
        if dtype not in _NARROW and count >= COMPILED_FROM:
            fill = "graphc_mt_normal_f64" if dtype == np.float64 else "graphc_mt_normal_f32"
            return self._compiled(fill, count, dtype, mean, std)
        if dtype == np.float64:
            draw, transform = self._uniform64, blocks64
        else:
            draw, transform = self._uniform32, blocks32
        whole = count // 16 * 16
        # The narrow types draw for whole blocks only, the others for every element.
        uniforms = draw(whole if dtype in _NARROW else count)
        values = np.empty(count, uniforms.dtype)
        values[:whole] = transform(uniforms[:whole], mean, std)
        if whole < count:
            values[-16:] = transform(draw(16), mean, std)
        return values.astype(dtype, copy=False)

    def _single_normals(self, count: int) -> np.ndarray:
        """Standard normals in float64 in pairs, of which the second may wait for the next call."""
        waiting = [] if self._cached_normal is None else [self._cached_normal]
        missing = count - len(waiting)
        if count == 0:
            return np.empty(0)
        pairs = (missing + 1) // 2
        values = np.concatenate([np.array(waiting), pairs64(self._uniform64(2 * pairs))])
        self._cached_normal = float(values[-1]) if missing % 2 else None
        return values[:count]

    def log_normal(
        self, count: int, dtype: DTypeLike = np.float32, mean: float = 1.0, std: float = 2.0
    ) -> np.ndarray:
        values = fma64(self._single_normals(count), std, mean)
        return map_float64(math.exp, values).astype(_float_type(dtype))

    # -- integers

    def randint(self, low: int, high: int, count: int) -> np.ndarray:
        """Integers in [low, high), int64; high - low may be up to 2**64."""
        span = high - low
        if not 0 < span <= 2**64:
            raise ValueError(f"randint needs low < high, got {low} and {high}")
        if span < _SHORT_RANGE:
            values, compiled = np.empty(count, np.int64), count >= COMPILED_FROM
            for start in range(0, count, _IN_CACHE):
                part = values[start : start + _IN_CACHE]
                words = self._words(len(part), compiled)
                np.add(_modulo(words, span), low, out=part, dtype=np.int64)
            return values
        if span == 2**64:
            offsets = self.random_u64(count)
            low = 0  # torch returns the bits as they are
        else:
            offsets = _modulo(self.random_u64(count), span)
        return (offsets + np.uint64(low & _MASK64)).view(np.int64)

    def random_(self, count: int, dtype: DTypeLike) -> np.ndarray:
        """Tensor.random_() without bounds: all non-negative integers that `dtype` represents."""
        dtype = np.dtype(dtype)
        span = _FULL_RANGE.get(dtype.name)
        if span is None:
            raise TypeError(f"random_ has no range for {dtype}")
        if span > 2**32:
            values = _modulo(self.random_u64(count), span)
            return values.astype(np.int64).astype(dtype)
        return (self.random_u32(count).astype(np.uint64) % np.uint64(span)).astype(dtype)

    def randperm(self, count: int) -> np.ndarray:
        """A permutation of 0 .. count - 1, int64."""
        if count > _RANDPERM_LIMIT:
            raise ValueError(f"randperm takes at most {_RANDPERM_LIMIT}, got {count}")
        draws = self.random_u32(max(count - 1, 0)).astype(np.int64)
        places = np.arange(len(draws))
        partners = (places + draws % (count - places)).tolist()
        order = list(range(count))
        for place, partner in enumerate(partners):
            order[place], order[partner] = order[partner], order[place]
        return np.array(order, np.int64)

    # -- other distributions

    def bernoulli(self, count: int, probability: float) -> np.ndarray:
        """True with the given probability, bool: Tensor.bernoulli_(p)."""
        if count >= COMPILED_FROM:
            return self._compiled("graphc_mt_bernoulli_u8", count, np.bool_, probability)
        return self._uniform64(count) < probability

    def bernoulli_each(self, probabilities: np.ndarray) -> np.ndarray:
        """True with each element's probability, bool: torch.bernoulli(tensor)."""
        if probabilities.dtype == np.float64:
            uniforms = self._uniform64(probabilities.size)
        else:
            uniforms = self._uniform32(probabilities.size)
            probabilities = probabilities.astype(np.float32)
        return uniforms.reshape(probabilities.shape) < probabilities

    def dropout_mask(self, count: int, probability: float) -> np.ndarray:
        """True where dropout keeps an element, bool."""
        return self.bernoulli(count, 1.0 - probability)

    def exponential(
        self, count: int, dtype: DTypeLike = np.float32, rate: float = 1.0
    ) -> np.ndarray:
        logarithms = map_float64(math.log1p, -self._uniform64(count))
        return (-1.0 / rate * logarithms).astype(_float_type(dtype))

    def geometric(self, count: int, probability: float, dtype: DTypeLike = np.int64) -> np.ndarray:
        """The number of trials to the first success; any dtype."""
        logarithms = map_float64(math.log, self._uniform64(count))
        return np.ceil(logarithms / math.log1p(-probability)).astype(dtype)

    def cauchy(
        self, count: int, dtype: DTypeLike = np.float32, median: float = 0.0, sigma: float = 1.0
    ) -> np.ndarray:
        tangents = map_float64(math.tan, math.pi * (self._uniform64(count) - 0.5))
        return fma64(tangents, sigma, median).astype(_float_type(dtype))

    def multinomial(
        self, weights: np.ndarray, samples: int, replacement: bool = False
    ) -> np.ndarray:
        """Indices drawn by weight: int64 of shape (..., samples) for weights (..., categories) in
        float32 or float64. ValueError where a row's weights cannot be drawn from."""
        rows = np.atleast_2d(weights)
        _check_weights(rows, samples, replacement)
        shape = (*weights.shape[:-1], samples)
        if not replacement or samples == 1:
            # The largest of p / exponential: each draw is one of the remaining categories.
            times = self.exponential(rows.size, rows.dtype).reshape(rows.shape)
            with np.errstate(divide="ignore", invalid="ignore"):
                order = np.argsort(-(rows / times), axis=1, kind="stable")
            return order[:, :samples].reshape(shape)
        sums = np.cumsum(rows, axis=1, dtype=rows.dtype)
        sums /= sums[:, -1:]
        uniforms = self._uniform64(len(rows) * samples).reshape(len(rows), samples)
        found = [np.searchsorted(row, u) for row, u in zip(sums, uniforms)]
        return np.array(found, np.int64).reshape(shape)


def _float_type(dtype: DTypeLike) -> np.dtype:
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64, *_NARROW):
        raise TypeError(f"random values of dtype {dtype} are not defined")
    return dtype


def _check_weights(rows: np.ndarray, samples: int, replacement: bool) -> None:
    if rows.dtype not in (np.float32, np.float64):
        raise TypeError(f"multinomial takes float32 or float64 weights, got {rows.dtype}")
    if not np.isfinite(rows).all() or (rows < 0).any():
        raise ValueError("probability tensor contains either `inf`, `nan` or element < 0")
    if (rows.sum(axis=1) <= 0).any():
        raise ValueError("invalid multinomial distribution (sum of probabilities <= 0)")
    if samples <= 0:
        raise ValueError("cannot sample n_sample <= 0 samples")
    if not replacement and samples > rows.shape[1]:
        raise ValueError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")


def _modulo(values: np.ndarray, span: int) -> np.ndarray:
    """values % span, for unsigned integers: numpy has vector code for quotients only."""
    divisor = values.dtype.type(span)
    quotients = values // divisor
    quotients *= divisor
    return np.subtract(values, quotients, out=quotients)
