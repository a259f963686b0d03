"""Unpacking what Rob Northen's ProPack packed with its method 1, as games of the nineties did.

Eighteen bytes of header, big-endian: "RNC", the method, both sizes, CRC-16 of both contents, a margin, the number of
blocks. A block begins with three Huffman codes (for the lengths of literal runs, distances, and lengths of copies) and
the number of its rounds; a round is a run of literal bytes and, but for the last, a copy of what was unpacked before.
Bits are taken, lowest first, from words of 16 bits, which lie among the literal bytes where they are first needed.
"""

from __future__ import annotations

import struct

_HEADER = struct.Struct(">4sIIHHBB")
_MAGIC = b"RNC\x01"

_Code = tuple[int, list[tuple[int, int]]]
"""How many bits to look at, and what they begin with: symbol and its length; length 0: no symbol."""


class PackedError(ValueError):
    """What is packed is damaged; says how."""


def unpack(content: bytes, most: int) -> bytes:
    """The bytes that were packed.

    most: bytes that are made of it; a few dozen packed ones can announce, and make, four gigabytes.

    Raises:
        PackedError: this is not ProPack's, is damaged, or would be larger than `most`.
    """
    if len(content) < _HEADER.size:
        raise PackedError("it is shorter than a header")
    magic, size, packed, checksum, _, _, blocks = _HEADER.unpack_from(content)
    if magic != _MAGIC:
        raise PackedError("it does not begin with RNC and method 1")
    if size > most:
        raise PackedError(f"{size} bytes are announced, {most} are the most that are believed")
    if packed > len(content) - _HEADER.size:
        raise PackedError(f"{packed} bytes are announced, {len(content) - _HEADER.size} are there")
    made = _Unpacker(content[_HEADER.size : _HEADER.size + packed], size).blocks(blocks)
    if _crc(made) != checksum:
        raise PackedError("its checksum is wrong")
    return made


class _Unpacker:
    def __init__(self, content: bytes, size: int) -> None:
        self._content = content
        self._size = size
        self._made = bytearray()
        self._at = 0
        self._bits, self._count = 0, 0
        self._take(2)  # whether it is locked, and by a key: not here

    def blocks(self, count: int) -> bytes:
        for _ in range(count):
            self._block()
        if len(self._made) != self._size:
            raise PackedError(f"{self._size} bytes are announced, it holds {len(self._made)}")
        return bytes(self._made)

    def _block(self) -> None:
        runs, distances, lengths = self._code(), self._code(), self._code()
        rounds = self._take(16)
        made = self._made
        for left in range(rounds - 1, -1, -1):
            run = self._value(runs)
            literal = self._content[self._at : self._at + run]
            if len(literal) < run or len(made) + run > self._size:
                raise PackedError(f"its literal bytes do not fit at {self._at}")
            made += literal
            self._at += run
            if not left:
                break
            distance, length = self._value(distances) + 1, self._value(lengths) + 2
            start = len(made) - distance
            if start < 0 or len(made) + length > self._size:
                raise PackedError(f"a copy does not fit at {self._at}")
            copied = made[start : start + length]  # what is nearer than it is long repeats itself
            made += (copied * (length // distance + 1))[:length] if distance < length else copied

    def _take(self, count: int) -> int:
        while self._count < count:
            word = self._content[self._at : self._at + 2]
            if not word:
                raise PackedError("it ends too early")
            self._bits |= int.from_bytes(word, "little") << self._count
            self._count += 16
            self._at += 2
        taken = self._bits & ((1 << count) - 1)
        self._bits >>= count
        self._count -= count
        return taken

    def _code(self) -> _Code:
        """A canonical code from the lengths of its symbols' words, as a table of all that may come next."""
        lengths = [self._take(4) for _ in range(self._take(5))]
        width = max(lengths, default=0)
        table = [(0, 0)] * (1 << width)
        word = 0
        for length in range(1, width + 1):
            for symbol, own in enumerate(lengths):
                if own == length:
                    if word >> length:
                        raise PackedError("its Huffman code is none")
                    first = int(f"{word:0{length}b}"[::-1], 2)
                    table[first :: 1 << length] = [(symbol, length)] * (1 << (width - length))
                    word += 1
            word <<= 1
        return width, table

    def _value(self, code: _Code) -> int:
        """A number: its symbol is how many bits it has, and all of these but the highest follow."""
        width, table = code
        if self._count < width:  # looked at, not taken: the word may not be needed
            word = int.from_bytes(self._content[self._at : self._at + 2], "little")
            symbol, length = table[(self._bits | word << self._count) & ((1 << width) - 1)]
        else:
            symbol, length = table[self._bits & ((1 << width) - 1)]
        if not length:
            raise PackedError(f"there is no word of its Huffman code at {self._at}")
        self._take(length)
        return symbol if symbol < 2 else self._take(symbol - 1) | 1 << (symbol - 1)


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
        table.append(value)
    return table


_CRC = _table()


def _crc(content: bytes) -> int:
    crc = 0
    for value in content:
        crc = _CRC[(crc ^ value) & 255] ^ crc >> 8
    return crc
