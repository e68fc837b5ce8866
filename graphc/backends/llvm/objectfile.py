"""The undefined symbols of an object file, ELF (Linux, and Windows under LLVM) or Mach-O."""

import struct

_ELF_MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian
_MACHO_MAGIC = b"\xcf\xfa\xed\xfe"

_SHT_SYMTAB = 2
_LC_SYMTAB = 2
_N_EXT_UNDEFINED = 1  # external, type undefined
_N_TYPE_MASK = 0x0F | 0xE0


def undefined_symbols(image: bytes) -> frozenset[str]:
    """Names that `image` uses and does not define. Raises ValueError for another format."""
    if image.startswith(_ELF_MAGIC):
        return frozenset(_elf(image))
    if image.startswith(_MACHO_MAGIC):
        return frozenset(_macho(image))
    raise ValueError(f"not a 64-bit ELF or Mach-O object: it starts with {image[:6]!r}")


def _string(image: bytes, at: int) -> str:
    return image[at : image.index(b"\0", at)].decode()


def _elf(image: bytes) -> list[str]:
    section_table, section_bytes, section_count = (
        struct.unpack_from("<Q", image, 40)[0],
        *struct.unpack_from("<HH", image, 58),
    )

    def section(index: int) -> tuple[int, ...]:
        return struct.unpack_from("<IIQQQQIIQQ", image, section_table + index * section_bytes)

    names = []
    for index in range(section_count):
        _, kind, _, _, offset, nbytes, strings, _, _, entry_bytes = section(index)
        if kind != _SHT_SYMTAB:
            continue
        string_table = section(strings)[4]
        for at in range(offset + entry_bytes, offset + nbytes, entry_bytes):
            name, _info, _other, home = struct.unpack_from("<IBBH", image, at)
            if home == 0 and name:
                names.append(_string(image, string_table + name))
    return names


def _macho(image: bytes) -> list[str]:
    commands = struct.unpack_from("<I", image, 16)[0]
    names = []
    at = 32
    for _ in range(commands):
        command, nbytes = struct.unpack_from("<II", image, at)
        if command == _LC_SYMTAB:
            symbols, count, strings, _ = struct.unpack_from("<IIII", image, at + 8)
            for symbol in range(symbols, symbols + 16 * count, 16):
                name, kind = struct.unpack_from("<IB", image, symbol)
                if kind & _N_TYPE_MASK == _N_EXT_UNDEFINED:
                    names.append(_string(image, strings + name).removeprefix("_"))
        at += nbytes
    return names
