"""One utterance through libespeak-ng, in a process of its own; run as a script, standard library only.

The library keeps state between utterances (noise phase, flutter) and cannot be initialised twice, so the same
text sounds the same only in a fresh process. Request: one JSON object on standard input with `voice`, `text`,
`seed` and `parameters` ({espeak_PARAMETER number: value}). Reply: one JSON line with `rate` and `events`
([symbols, sample] pairs), then the samples, signed 16 bit little-endian.
"""

from __future__ import annotations

import ctypes
import json
import sys

_AUDIO_OUTPUT_SYNCHRONOUS = 2
_PHONEME_EVENTS_IPA_DONT_EXIT = 0x0001 | 0x0002 | 0x8000
_CHARS_UTF8 = 1
_EVENT_LIST_TERMINATED = 0
_EVENT_PHONEME = 7


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    """`espeak_EVENT` of espeak-ng/speak_lib.h."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


def synthesize(request: dict[str, object]) -> tuple[int, list[tuple[str, int]], bytes]:
    """Sample rate, phoneme events and samples of one request; exits with 3 or 4 as `main` explains."""
    try:
        library = ctypes.CDLL("libespeak-ng.so.1")
    except OSError:
        sys.exit(3)
    rate = int(library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, None, _PHONEME_EVENTS_IPA_DONT_EXIT))
    if rate <= 0:
        sys.exit(3)
    chunks: list[bytes] = []
    events: list[tuple[str, int]] = []

    def collect(samples: int | None, count: int, list_head: ctypes._Pointer[_Event]) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        index = 0
        while list_head[index].type != _EVENT_LIST_TERMINATED:
            event = list_head[index]
            if event.type == _EVENT_PHONEME:
                events.append((bytes(event.id.string).decode("utf-8", "ignore"), int(event.sample)))
            index += 1
        return 0

    signature = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))
    callback = signature(collect)
    library.espeak_SetSynthCallback(callback)
    # The library draws its noise from the C library's generator.
    ctypes.CDLL(None).srand(int(str(request["seed"])))
    if library.espeak_SetVoiceByName(str(request["voice"]).encode()) != 0:
        sys.exit(4)
    parameters = request["parameters"]
    assert isinstance(parameters, dict)
    for parameter, value in parameters.items():
        library.espeak_SetParameter(int(parameter), int(value), 0)
    text = str(request["text"]).encode()
    library.espeak_Synth(text, len(text) + 1, 0, 0, 0, _CHARS_UTF8, None, None)
    return rate, events, b"".join(chunks)


def main() -> None:
    """Serve one request. Exit status 3: the library is missing; 4: it has no such voice."""
    rate, events, samples = synthesize(json.loads(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(json.dumps({"rate": rate, "events": events}).encode() + b"\n" + samples)


if __name__ == "__main__":
    main()
