"""What is said in a recording, and what a speech recogniser makes of it: Moonshine's English model "tiny".

The weights come with the package moonshine-voice (MIT, Moonshine AI), of which nothing else is used: neither its code
nor its libraries are loaded.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from .errors import MissingProgramError, SpeechError
from .speech import SAMPLE_RATE

LISTENER = "moonshine-voice 0.0.4 tiny-en"
"""Whose weights are used. What was heard by others is another's."""

HOP = 384
"""Samples from one row of the features to the next: 24 ms, of three convolutions with the strides 64, 3 and 2."""

CENTRE = 447
"""Row i is centred at sample `CENTRE + HOP·i`: its convolutions (127, 7 and 3 long, nothing padded) span the samples
from `HOP·i` to `HOP·i + 894`. Attention then lets every row know of all others."""

SPAN = 895
"""Samples that the first row needs."""

_DIGESTS = {
    "encoder_model.ort": "e091ae52fc2a912197af8f7b7ae2e8365b656ff58463313e0660cce59d9e81d3",
    "decoder_model_merged.ort": "b40193912d8f4af041f2f3e9f7ff23d45b63a1c15a9c7d35fcbebeab3c4273b2",
    "tokenizer.bin": "6884b35fd6377d4c4d32336a0bc152f36b64d1e45b6503683cdc238250a8472d",
}
CURE = "run: pip install 'emotag[listen]'"
_BEGIN, _END = 1, 2  # tokens
_TOKENS = 6.5  # most tokens in a second of speech: the model's makers' bound against endless repetition
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


class Listener:
    """A loaded recogniser of English, on one thread; not for several threads at once.

    folder: holds `encoder_model.ort`, `decoder_model_merged.ort` and `tokenizer.bin`; None: those that
    moonshine-voice 0.0.4 installs, and no others.

    Raises:
        MissingProgramError: moonshine-voice is not installed.
        SpeechError: the weights are others, or cannot be read.
    """

    def __init__(self, folder: Path | None = None) -> None:
        folder = installed_folder() if folder is None else folder
        self._encoder = _session(folder / "encoder_model.ort")
        self._decoder = _session(folder / "decoder_model_merged.ort")
        self._tokens = _tokens(folder / "tokenizer.bin")
        self._outputs = [output.name for output in self._decoder.get_outputs()]
        # Keys and values of attention before the first token: none.
        self._past = {
            entry.name: np.zeros((1, entry.shape[1], 0, entry.shape[3]), np.float32)
            for entry in self._decoder.get_inputs()
            if entry.name.startswith("past_key_values.")
        }

    def features(self, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What the encoder makes of sound.

        samples: `[N]`, 16 kHz, -1…1.

        Returns:
            `[T, 288]`; row i is centred at sample `CENTRE + HOP·i`, T = floor((N - SPAN) / HOP) + 1, or 0 if N < SPAN.

        Raises:
            SpeechError: samples have another shape.
        """
        if samples.ndim != 1:
            raise SpeechError(f"the listener hears one channel of samples [N], not {list(samples.shape)}")
        if len(samples) < SPAN:
            width = self._encoder.get_outputs()[0].shape[2]
            return np.zeros((0, width), np.float32)
        heard: npt.NDArray[np.float32] = self._encoder.run(
            None,
            {
                "input_values": samples[None].astype(np.float32, copy=False),
                "attention_mask": np.ones((1, len(samples)), np.int64),
            },
        )[0][0]
        return heard

    def text(self, samples: npt.NDArray[np.float32]) -> str:
        """What is said in sound (`[N]`, 16 kHz, -1…1), as written English with capitals and points; the likeliest token
        is taken at each step.

        Raises:
            SpeechError: samples have another shape, or the tokenizer lacks a token.
        """
        heard = self.features(samples)
        if not len(heard):
            return ""
        past = dict(self._past)
        spoken: list[int] = []
        token = _BEGIN
        for _ in range(int(len(samples) / SAMPLE_RATE * _TOKENS) + 2):
            token = self._next(token, heard, past, first=not spoken)
            spoken.append(token)
            if token == _END:
                break
        written = b"".join(self._tokens[token] for token in spoken if token != _END)
        return written.decode(errors="replace").replace(_SPACE, " ").strip()

    def _next(
        self, token: int, heard: npt.NDArray[np.float32], past: dict[str, npt.NDArray[np.float32]], first: bool
    ) -> int:
        """The likeliest next token; `past` becomes that of the step after it."""
        made: dict[str, npt.NDArray[np.float32]] = dict(
            zip(
                self._outputs,
                self._decoder.run(
                    None,
                    {
                        "input_ids": np.array([[token]], np.int64),
                        "encoder_hidden_states": heard[None],
                        "encoder_attention_mask": np.ones((1, len(heard)), np.int64),
                        "use_cache_branch": np.array([not first]),
                        **past,
                    },
                ),
                strict=True,
            )
        )
        for name, value in made.items():
            # What is attended to of the sound is the same at every step, and given by the first alone.
            if name.startswith("present.") and (first or ".decoder." in name):
                past[name.replace("present.", "past_key_values.", 1)] = value
        following = int(made["logits"][0, -1].argmax())
        if following >= len(self._tokens):
            raise SpeechError(f"the listener's tokenizer has no token {following}; {CURE}")
        return following


def installed_folder() -> Path:
    """The folder of the weights that moonshine-voice installs.

    Raises:
        MissingProgramError: it is not installed.
        SpeechError: its weights are others than those known.
    """
    found = importlib.util.find_spec("moonshine_voice")
    if found is None or found.origin is None:
        raise MissingProgramError(f"moonshine-voice, which writes down what is said, is not installed; {CURE}")
    folder = Path(found.origin).parent / "assets" / "tiny-en"
    for name, digest in _DIGESTS.items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise SpeechError(f"{path} is not that of {LISTENER}; {CURE}")
    return folder


def _session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common class
        raise SpeechError(f"cannot load the listener's {path}: {error}") from error


def _tokens(path: Path) -> list[bytes]:
    """Token texts: each a length (a byte; from 128 on two, seven low bits first) and so many bytes."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SpeechError(f"cannot read the listener's {path}: {error.strerror}; {CURE}") from error
    tokens: list[bytes] = []
    at = 0
    while at < len(content):
        length, at = content[at], at + 1
        if length >= 128 and at < len(content):
            length, at = (length & 127) | content[at] << 7, at + 1
        if at + length > len(content):
            raise SpeechError(f"{path} ends inside token {len(tokens)}; {CURE}")
        tokens.append(content[at : at + length])
        at += length
    return tokens
