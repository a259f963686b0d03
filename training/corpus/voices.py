"""The voices of the corpus, and those that training must never hear."""

from __future__ import annotations

from .festival import VOICES
from .recorded import PROMPTS, SPEAKERS
from .speech import Voice

_LANGUAGES = {
    "en": ("gmw/en-US", "gmw/en", "gmw/en-GB-scotland", "gmw/en-GB-x-rp"),
    "de": ("gmw/de",),
    "fr": ("roa/fr",),
    "es": ("roa/es", "roa/es-419"),
    "it": ("roa/it",),
    "cmn": ("sit/cmn-Latn-pinyin",),
}
# Variants that sound like people; robots, whispers and croaks are left out.
_VARIANTS = (
    *("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f5"),
    *("Alex", "Alicia", "Andrea", "Andy", "Annie", "antonio", "belinda", "benjamin", "caleb", "david", "Denis"),
    *("Diogo", "ed", "Gene", "Henrique", "Hugo", "Jacky", "john", "kaukovalta", "Lee", "linda", "marcelo"),
    *("Marco", "max", "Michael", "miguel", "mike", "pablo", "paul", "quincy", "rob", "robert", "sandro"),
    *("shelby", "steph", "travis", "victor", "anika", "norbert", "klatt", "klatt2", "klatt3", "klatt4"),
)

FLITE = tuple(Voice("flite", name) for name in ("slt", "rms", "awb"))
ESPEAK = {
    language: tuple(Voice("espeak", f"{base}+{variant}", language) for base in bases for variant in _VARIANTS)
    for language, bases in _LANGUAGES.items()
}
FESTIVAL: tuple[Voice, ...] = tuple(Voice("festival", name, voice.phones) for name, voice in VOICES.items())
"""Recorded speakers of festival: men and women of five languages."""
RECORDED: tuple[Voice, ...] = tuple(Voice("recorded", name, language) for name, language in PROMPTS.items())
"""People who were recorded as they spoke; `draw_phrase` chooses what they say."""
TALKIES: tuple[Voice, ...] = tuple(
    Voice("recorded", name, language) for name, language in SPEAKERS.items() if name not in PROMPTS
)
"""Games, each with the recordings of many actors; a phrase is one actor's."""

HELD_OUT = (
    Voice("flite", "kal16"),
    Voice("espeak", "gmw/en-US+f4"),
    Voice("espeak", "gmw/en+iven"),
)
"""Heard only when the result is measured: a flite speaker (kal is the same man at 8 kHz and is not used either) and
two variants of espeak-ng."""
