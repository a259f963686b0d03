"""Small capital letters for labels in pictures, without a font library."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Seven rows of five pixels a letter, the leftmost the highest bit.
_GLYPHS = {
    "A": "0e11111f111111", "B": "1e11111e11111e", "C": "0e11101010110e", "D": "1e11111111111e", "E": "1f10101e10101f",
    "F": "1f10101e101010", "G": "0e11101711110f", "H": "1111111f111111", "I": "0e04040404040e", "J": "0702020202120c",
    "K": "11121418141211", "L": "1010101010101f", "M": "111b1515111111", "N": "11191513111111", "O": "0e11111111110e",
    "P": "1e11111e101010", "Q": "0e11111115120d", "R": "1e11111e141211", "S": "0f10100e01011e", "T": "1f040404040404",
    "U": "1111111111110e", "V": "11111111110a04", "W": "1111111515150a", "X": "11110a040a1111", "Y": "11110a04040404",
    "Z": "1f01020408101f", "0": "0e11131519110e", "1": "040c040404040e", "2": "0e11010204081f", "3": "1f02040201110e",
    "4": "02060a121f0202", "5": "1f101e0101110e", "6": "0608101e11110e", "7": "1f010204080808", "8": "0e11110e11110e",
    "9": "0e11110f01020c", "-": "0000001f000000", "+": "0004041f040400", " ": "00000000000000", ".": "00000000000c0c",
    "°": "0c12120c000000",
}  # fmt: skip


def letter(picture: NDArray[np.uint8], text: str, left: int, top: int, scale: int = 2) -> None:
    """Writes `text` into a picture uint8 [H, W, 3], dark on light; what does not fit is cut off."""
    for number, character in enumerate(text.upper()):
        rows = bytes.fromhex(_GLYPHS.get(character, _GLYPHS["-"]))
        bits = np.array([[row >> (4 - column) & 1 for column in range(5)] for row in rows], bool)
        glyph = bits.repeat(scale, axis=0).repeat(scale, axis=1)
        place = picture[top : top + glyph.shape[0], left + 6 * scale * number :][:, : glyph.shape[1]]
        place[glyph[: place.shape[0], : place.shape[1]]] = 40
