"""How a correlation is cut up: tiles, bands of rows, units of work."""

from dataclasses import dataclass

from graphc.backends.llvm.contract.conv_problem import Correlation
from graphc.backends.llvm.contract.gemm_schedule import (
    ENOUGH_UNITS,
    rows_apart,
    tile_choices,
    tile_cost,
)
from graphc.backends.llvm.target import Target

# Bytes of the bordered copy of one band, within the second cache.
BAND_BYTES = 256 << 10
# Bytes of an image and the gradient of its result that are one band for the gradient of the weight.
MOST_IMAGE_BYTES = 3 * BAND_BYTES
# Units that one image is worth.
MOST_BANDS = 16
# Rows of a band of a product: each band reads all weights again.
PRODUCT_ROWS = 96


@dataclass(frozen=True, slots=True)
class ConvSchedule:
    """
    rows, columns  positions of the target in a tile
    vectors        vectors of target channels in a tile
    bands          bands of rows that a target is cut into
    by_channels    whether a unit is some target channels (of all bands), else a band
    """

    rows: int
    columns: int
    vectors: int
    bands: int
    by_channels: bool

    def order_of_sums(self, c: Correlation) -> object:
        """Schedules of one correlation for which this is equal give equal bits.

        A sum is one chain over taps and channels. Tiles of one row leave out the taps that read
        only border, which shows where a weight is infinite or nan.
        """
        return self.rows == 1 and c.skips_border_rows and c.inside < 1

    def band_rows(self, height: int) -> int:
        """Rows of the largest of the bands that cut `height` rows between tiles."""
        tiles, rest = divmod(height, self.rows)
        return max(1, -(-tiles // self.bands) * self.rows + rest)


def schedule_conv(
    c: Correlation, target: Target, lanes: int, item_bytes: int, across: int | None = None
) -> ConvSchedule:
    """The schedule for a correlation on vectors of `lanes` elements.

    across: the vectors of a tile, where weights are packed for a number of them.
    """
    heights = [axis.count for axis in c.axes[1] if axis.count]
    widths = [axis.count for axis in c.axes[2] if axis.count]
    height, width = max(heights, default=1), max(widths, default=1)
    bands = bands_of(c, height, item_bytes)
    apart = height
    if c.is_product:
        bands = max(1, min(MOST_BANDS, height // PRODUCT_ROWS))
        apart = rows_apart(max(1, c.groups * c.source_channels) * item_bytes)
    least_rows = height // bands if min(heights, default=1) == height else 1
    inside = c.inside if c.skips_border_rows else 1.0
    best: tuple[float, int, int, int] | None = None
    for most, vectors in tile_choices(target):
        if across is not None and vectors != across:
            continue
        panels = -(-c.target_channels // lanes)
        full, rest = divmod(panels, vectors)
        for columns in range(1, min(most, min(widths, default=1)) + 1):
            for rows in range(1, min(most // columns, least_rows, apart) + 1):
                tiles = -(-width // columns) * -(-height // rows)
                size = rows * columns
                cost = full * tile_cost(size, vectors)
                if rest:
                    cost += tile_cost(size, rest) * 1.01
                # Columns lie closer than rows, which may share sets of the first cache.
                cost *= tiles * (1 + 0.002 * rows)
                if rows == 1 and c.skips_border_rows:
                    cost *= inside
                if c.is_product:
                    # Of equal tiles the wider one reads the source less often.
                    cost *= 1 + 0.03 / vectors
                if best is None or cost < best[0]:
                    best = (cost, rows, columns, vectors)
    if best is None:
        raise ValueError(f"no tiles are {across} vectors wide")
    _, rows, columns, vectors = best
    panels = -(-c.target_channels // (vectors * lanes))
    by_channels = bands == 1 or (c.is_product and bands < min(panels, ENOUGH_UNITS))
    return ConvSchedule(rows, columns, vectors, bands, by_channels)


def bands_of(c: Correlation, height: int, item_bytes: int) -> int:
    """Into how many bands the rows of a target are cut, for the second cache and for threads."""
    row_bytes = c.copy[0] * c.copy[2] * c.source_channels * item_bytes
    per_row = row_bytes * c.source_step[1]
    reach = c.copy[1] - (height - 1) * c.source_step[1]
    if c.copy[1] * row_bytes <= 2 * BAND_BYTES and height * c.target[2] <= 256:
        return 1
    rows = max(1, (BAND_BYTES - reach * row_bytes) // per_row + 1)
    rows = min(rows, max(4, -(-height // 8)))
    # The rows around a band are copied again for each band.
    rows = max(rows, min(height, reach // c.source_step[1]))
    return max(1, min(even(-(-height // rows)), MOST_BANDS, height))


def even(parts: int) -> int:
    """So many parts of a kernel's work or one more: the last of an odd number would be computed by
    one thread alone."""
    return parts + (parts > 1 and parts % 2)


@dataclass(frozen=True, slots=True)
class WeightGradSchedule:
    """
    rows       input channels in a tile
    taps       taps of the kernel in a tile, down and across: one, a row of them or a plane
    vectors    vectors of output channels in a tile
    block      input channels that lie together in the copy of the input
    bands      bands of rows that an image is cut into
    images     images that a tile sums over in one visit, where an image is one band
    by_output  whether a unit is a panel of output channels, else a block of input channels
    """

    rows: int
    vectors: int
    block: int
    bands: int
    images: int
    by_output: bool
    taps: tuple[int, int] = (1, 1)

    def order_of_sums(self, c: Correlation) -> object:
        """Schedules of one correlation for which this is equal give equal bits.

        A sum is one chain over images, bands and positions: bands of a volume cut each of its
        planes.
        """
        return self.bands if c.target[0] > 1 else None


def schedule_weight_grad(
    c: Correlation, target: Target, lanes: int, item_bytes: int
) -> WeightGradSchedule:
    """The schedule of the gradient of the weights of a (forward) correlation."""
    side = min(lanes, 32 // item_bytes)
    block = -(-min(c.source_channels, 16) // side) * side
    panels = -(-c.target_channels // lanes)
    best: tuple[float, int, int, tuple[int, int]] | None = None
    for most, vectors in tile_choices(target):
        # The last panel is as wide as the others.
        wide = -(-panels // vectors)
        for rows in range(1, min(most, block, c.source_channels) + 1):
            if block % rows and rows != c.source_channels:
                continue
            for taps in _tap_choices(c, rows, most):
                joined = taps[0] * taps[1]
                cost = wide * tile_cost(rows * joined, vectors) / joined
                cost *= -(-c.source_channels // rows)
                if best is None or cost < best[0]:
                    best = (cost, rows, vectors, taps)
    assert best is not None
    _, rows, vectors, taps = best
    depth, height, width = c.target
    x_row = c.copy[0] * c.copy[2] * c.source_channels * c.source_step[1] * item_bytes
    y_row = depth * width * c.target_channels * item_bytes
    band_rows = max(1, 2 * BAND_BYTES // max(1, x_row + y_row))
    bands = max(1, -(-height // band_rows))
    # Another band costs another visit of all sums.
    if height * (x_row + y_row) <= MOST_IMAGE_BYTES:
        bands = 1
    images = 1
    if bands == 1:
        image_bytes = max(1, height * (x_row + y_row))
        positions = max(1, depth * height * width)
        images = max(1, min(512 // positions, 2 * BAND_BYTES // image_bytes))
    out_panels = -(-c.target_channels // (vectors * lanes))
    by_output = out_panels >= 4 or out_panels >= -(-c.source_channels // block)
    return WeightGradSchedule(rows, vectors, block, bands, images, by_output, taps)


def _tap_choices(c: Correlation, rows: int, most: int) -> list[tuple[int, int]]:
    """The taps that a tile of `rows` channels may hold.

    Where these are all there are, few multiply-adds of one tap alone would wait for each other.
    """
    if rows < c.source_channels:
        return [(1, 1)]
    _, height, width = c.kernel
    choices = dict.fromkeys([(1, 1), (1, width), (height, width)])
    return [taps for taps in choices if taps[0] * taps[1] * rows in range(1, max(most, rows) + 1)]
