"""Packs as ProPack does, by rounds that the caller chooses, for tests of what unpacks it."""

from __future__ import annotations

import struct
from collections.abc import Sequence

Round = tuple[bytes, int, int]
"""Literal bytes, then a copy: from how far behind, and of how many bytes (0: none; so in a block's last round only)."""


def pack(content: bytes, blocks: Sequence[Sequence[Round]] | None = None) -> bytes:
    """`content`, which the rounds must make; without any it is a literal run."""
    chosen = [[(content, 0, 0)]] if blocks is None else blocks
    writer = _Writer()
    writer.put(0, 2)
    for rounds in chosen:
        for _ in range(3):  # three codes: sixteen words of four bits each
            writer.put(16, 5)
            for _ in range(16):
                writer.put(4, 4)
        writer.put(len(rounds), 16)
        for literal, distance, length in rounds:
            writer.number(len(literal))
            writer.made += literal
            if length:
                writer.number(distance - 1)
                writer.number(length - 2)
    made = bytes(writer.made)
    header = struct.pack(">4sIIHHBB", b"RNC\x01", len(content), len(made), crc(content), crc(made), 0, len(chosen))
    return header + made


def crc(content: bytes) -> int:
    value = 0
    for byte in content:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 * (value & 1))
    return value


class _Writer:
    def __init__(self) -> None:
        self.made = bytearray()
        self._word, self._used = 0, 16

    def put(self, value: int, count: int) -> None:
        """Lowest bit first; a word lies where its first bit is needed."""
        for bit in range(count):
            if self._used == 16:
                self._word, self._used = len(self.made), 0
                self.made += b"\0\0"
            if value >> bit & 1:
                self.made[self._word + self._used // 8] |= 1 << self._used % 8
            self._used += 1

    def number(self, value: int) -> None:
        """The number of its bits as a word of the code, first bit first, and its lower bits."""
        symbol = value.bit_length()
        self.put(int(f"{symbol:04b}"[::-1], 2), 4)
        if symbol > 1:
            self.put(value & ((1 << (symbol - 1)) - 1), symbol - 1)
