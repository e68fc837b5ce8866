"""Element types: how a dtype is stored, and in what it is summed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Element:
    """A dtype as kernels see it.

    name      the dtype's name ("f32")
    llvm      the type of one element in a register ("float"; halves are held as "i16")
    bytes     size in memory
    floating  whether arithmetic is that of floats
    """

    name: str
    llvm: str
    bytes: int
    floating: bool

    @property
    def bits(self) -> int:
        return self.bytes * 8

    @property
    def suffix(self) -> str:
        """The type's part in the name of an overloaded intrinsic."""
        return f"f{self.bits}" if self.floating else f"i{self.bits}"

    @property
    def accumulator(self) -> "Element":
        """The element type of sums: f32 for the halves and their pairs, else the type itself."""
        return ELEMENTS["f32"] if self.is_half or self is PAIR else self

    @property
    def is_half(self) -> bool:
        return self.name in ("f16", "bf16")


ELEMENTS = {
    element.name: element
    for element in (
        Element("f64", "double", 8, True),
        Element("f32", "float", 4, True),
        Element("f16", "i16", 2, False),
        Element("bf16", "i16", 2, False),
        Element("i64", "i64", 8, False),
        Element("i32", "i32", 4, False),
        Element("i16", "i16", 2, False),
        Element("i8", "i8", 1, False),
        Element("u8", "i8", 1, False),
    )
}
# Two bf16 that are neighbours along k, as processors that multiply these read them: the first in
# the low half.
PAIR = Element("pair of bf16", "i32", 4, False)


def element(dtype: str) -> Element:
    """The element type of that dtype name. Raises ValueError for one that kernels lack."""
    if dtype not in ELEMENTS:
        raise ValueError(f"no products of {dtype}; there are {', '.join(ELEMENTS)}")
    return ELEMENTS[dtype]
