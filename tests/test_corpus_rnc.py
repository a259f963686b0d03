"""What ProPack packed is unpacked, and what is damaged is refused with the reason."""

from __future__ import annotations

import random

import pytest

from emotag.training.corpus.rnc import PackedError, unpack
from tests.rnc_packer import Round, pack

MOST = 1 << 20


def test_literals_and_copies() -> None:
    rounds: list[Round] = [(b"abc", 3, 2), (b"", 5, 5), (b"x", 1, 9), (b"yz", 0, 0)]
    content = b"abc" + b"ab" + b"abcab" + b"x" + b"x" * 9 + b"yz"
    assert unpack(pack(content, [rounds]), MOST) == content
    assert unpack(pack(content + b"abc", [rounds, [(b"", 22, 3), (b"", 0, 0)]]), MOST) == content + b"abc"
    assert unpack(pack(b""), 0) == b"" and unpack(pack(b"one") + b"what follows", 3) == b"one"


def test_random_rounds() -> None:
    rng = random.Random(3)
    for _ in range(20):
        made, blocks = b"", []
        for _ in range(rng.randint(1, 3)):
            rounds: list[Round] = []
            for left in reversed(range(rng.randint(1, 30))):
                literal = rng.randbytes(rng.choice((0, 1, 2, 3, 7, 200)) or not made)
                made += literal
                distance, length = rng.randint(1, len(made)), rng.choice((2, 3, 4, 60)) if left else 0
                for _ in range(length):
                    made += made[-distance : len(made) - distance + 1]
                rounds.append((literal, distance, length))
            blocks.append(rounds)
        assert unpack(pack(made, blocks), MOST) == made


def test_damage_is_refused() -> None:
    whole = pack(b"hello, hello", [[(b"hello, ", 7, 5), (b"", 0, 0)]])
    for content, told in (
        (whole[:17], "shorter than a header"),
        (b"RNC\x02" + whole[4:], "method 1"),
        (whole[:-1], "announced"),
        (whole[:7] + b"\x0d" + whole[8:], "13 bytes are announced, it holds 12"),
        (whole[:7] + b"\x05" + whole[8:], "literal bytes do not fit"),
        (whole[:7] + b"\x09" + whole[8:], "a copy does not fit"),
        (whole[:12] + bytes([whole[12] ^ 255]) + whole[13:], "checksum"),
        (whole[:17] + b"\x02" + whole[18:], "ends too early"),
        (pack(b"ababab", [[(b"ab", 3, 4), (b"", 0, 0)]]), "a copy does not fit"),
        (header((3 << 2 | 1 << 7 | 1 << 11 | 1 << 15).to_bytes(60, "little")), "Huffman code is none"),
        (header((1 << 23).to_bytes(60, "little")), "no word of its Huffman code"),
    ):
        with pytest.raises(PackedError, match=told):
            unpack(content, MOST)


def test_no_more_is_made_than_the_caller_expects() -> None:
    """A megabyte of zeros in forty bytes."""
    rounds: list[Round] = [(b"\0", 1, 16000), *[(b"", 1, 16000)] * 61, (b"", 0, 0)]
    bomb = pack(bytes(1 + 62 * 16000), [rounds])
    assert len(bomb) < 700 and len(unpack(bomb, MOST)) == 992001
    with pytest.raises(PackedError, match="992001 bytes are announced, 992000 are the most"):
        unpack(bomb, 992000)


def test_no_damage_crashes() -> None:
    whole = bytearray(pack(b"hello, hello, hello", [[(b"hello, ", 7, 12), (b"", 0, 0)]]))
    rng = random.Random(5)
    for _ in range(2000):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(4, len(whole))] = rng.randrange(256)
        try:
            assert len(unpack(bytes(damaged), MOST)) == int.from_bytes(damaged[4:8], "big")
        except PackedError:
            continue


def header(content: bytes) -> bytes:
    whole = pack(b"abc")
    return whole[:8] + len(content).to_bytes(4, "big") + whole[12:18] + content
