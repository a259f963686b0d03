"""Phoneme classes shared by all synthesizers, and how their own symbols map to them.

The classes are those of ARPAbet without stress, plus SIL (silence), UE and OE (front rounded vowels, IPA y and
ø), DX (tap or trill) and X (velar or uvular fricative), which other languages need.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...runtime.errors import EmotagError

SILENCE = "SIL"

VOWELS = (
    *("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY"),
    *("IH", "IY", "OW", "OY", "UH", "UW", "UE", "OE"),
)
CONSONANTS = (
    *("B", "P", "M", "F", "V", "TH", "DH", "T", "D", "N", "S", "Z", "SH", "ZH", "CH", "JH"),
    *("L", "R", "DX", "K", "G", "NG", "X", "HH", "Y", "W"),
)
PHONEMES = (SILENCE, *VOWELS, *CONSONANTS)
PHONEME_INDEX = {name: index for index, name in enumerate(PHONEMES)}

BILABIALS = frozenset({"P", "B", "M"})
LABIODENTALS = frozenset({"F", "V"})
OPEN_VOWELS = frozenset({"AA", "AE", "AO", "AW", "AY", "EH"})
STOPS = frozenset({"P", "B", "T", "D", "K", "G", "CH", "JH"})

# Vowels whose articulation moves, as the two classes they move between.
DIPHTHONGS = {
    "AW": ("AA", "UH"),
    "AY": ("AA", "IH"),
    "EY": ("EH", "IY"),
    "OW": ("AO", "UW"),
    "OY": ("AO", "IH"),
}


class PhonemeError(EmotagError):
    """A synthesizer's symbol that no class covers."""


@dataclass(frozen=True)
class Segment:
    """A phoneme class and the seconds it lasts, start inclusive, end exclusive."""

    phoneme: str
    start: float
    end: float


_IPA = {
    # Diphthongs and affricates first, because the longest match wins.
    **{"aʊ": "AW", "aɪ": "AY", "eɪ": "EY", "oʊ": "OW", "əʊ": "OW", "ɔɪ": "OY", "ɔø": "OY", "ɔʏ": "OY"},
    **{"tʃ": "CH", "dʒ": "JH", "tɕ": "CH", "dʑ": "JH", "ts.": "CH", "tʂ": "CH", "s.": "SH", "z.": "ZH"},
    **{"iɜ": "IY", "uɜ": "UW", "ɑu": "AW", "ɑʊ": "AW", "ai": "AY", "ei": "EY", "ou": "OW"},
    **{"a": "AA", "ɑ": "AA", "ɐ": "AH", "æ": "AE", "ʌ": "AH", "ə": "AH", "ɔ": "AO", "ɒ": "AO", "o": "AO"},
    **{"e": "EH", "ɛ": "EH", "ɜ": "ER", "ɝ": "ER", "ɚ": "ER", "i": "IY", "ɪ": "IH", "ɨ": "IH", "ᵻ": "IH"},
    **{"u": "UW", "ʉ": "UW", "ʊ": "UH", "ɯ": "UH", "ɤ": "AH", "y": "UE", "ʏ": "UE", "ø": "OE", "œ": "OE", "ɵ": "OE"},
    **{"b": "B", "p": "P", "m": "M", "ɱ": "M", "β": "B", "f": "F", "ɸ": "F", "v": "V", "ʋ": "V"},
    **{"θ": "TH", "ð": "DH", "t": "T", "d": "D", "ʈ": "T", "ɖ": "D", "n": "N", "ɲ": "N", "ɳ": "N"},
    **{"s": "S", "z": "Z", "ʃ": "SH", "ʒ": "ZH", "ɕ": "SH", "ʑ": "ZH", "ʂ": "SH", "ʐ": "ZH", "ç": "HH"},
    **{"l": "L", "ɫ": "L", "ɭ": "L", "ʎ": "L", "ɬ": "L", "ɹ": "R", "ɻ": "R", "r": "DX", "ɾ": "DX", "ʀ": "X"},
    **{"k": "K", "c": "K", "g": "G", "ɡ": "G", "ɟ": "G", "ŋ": "NG", "x": "X", "χ": "X", "ɣ": "X", "ʁ": "X"},
    **{"h": "HH", "ɦ": "HH", "j": "Y", "ʝ": "Y", "ɥ": "UE", "w": "W", "ʍ": "W"},
}
_LONGEST = max(len(symbol) for symbol in _IPA)
_IGNORED = frozenset("ˈˌːˑ:.ʔ̩̪̯̥̃ʲʰ͡'ʼ-;?!0123456789")

_FLITE = {"ax": "AH", "pau": SILENCE, "ssil": SILENCE, "axr": "ER", "el": "L", "em": "M", "en": "N", "dx": "DX"}

# Festival's phone sets, by language. Length marks, softness and stress do not move the lips and are left out where
# they can be cut off; those of two classes are halved, those of none are left to the next phone.
_FESTIVAL: dict[str, dict[str, tuple[str, ...]]] = {
    language: {phone: tuple(classes.split("+")) for phone, classes in (pair.split("=") for pair in table.split())}
    for language, table in {
        "ru": (
            "pau=SIL ii=IY yy=IH uu=UW ee=EH oo=AO aa=AA a=AH e=EH i=IH y=IH u=UW ae=AH ay=AH ur=UH "
            "p=P pp=P b=B bb=B t=T tt=T d=D dd=D k=K kk=K g=G gg=G c=T+S ch=CH f=F ff=F v=V vv=V s=S ss=S z=Z zz=Z "
            "sh=SH sch=SH zh=ZH h=X hh=HH m=M mm=M n=N nn=N l=L ll=L r=DX rr=DX j=Y"
        ),
        "cs": (
            "#=SIL a=AA a:=AA e=EH e:=EH i=IH i:=IY o=AO o:=AO u=UH u:=UW b=B p=P m=M f=F v=V t=T d=D t~=K d~=G "
            "k=K g=G c=T+S c~=CH dz=D+Z dz~=JH s=S z=Z s~=SH z~=ZH r~=ZH r~*=SH ch=X h=HH j=Y l=L r=DX n=N n~=N n*=NG"
        ),
        "it": (
            "#=SIL i=IY e=EH E=EH a=AA o=AO O=AO u=UW i1=IY e1=EH E1=EH a1=AA o1=AO O1=AO u1=UW j=Y w=W p=P t=T k=K "
            # nf is a nasal before f and v, said with the teeth on the lip: open, unlike m.
            "b=B d=D g=G f=F s=S S=SH v=V z=Z Z=ZH ts=T+S tS=CH dz=D+Z dZ=JH m=M n=N J=N ng=NG nf=N l=L L=L r=DX"
        ),
        "fi": (
            "#=SIL ##=SIL a=AA e=EH i=IY o=AO u=UW y=UE @=AE 7=OE &=AH a:=AA e:=EH i:=IY o:=AO u:=UW y:=UE @:=AE 7:=OE "
            "p=P t=T k=K b=B d=D g=G f=F T=TH s=S S=SH h=HH v=V m=M n=N N=NG l=L L=L r=DX j=Y w=W p:=P t:=T k:=K b:=B "
            "d:=D g:=G f:=F T:=TH D:=DH s:=S S:=SH h:=HH v:=V m:=M n:=N N:=NG l:=L L:=L r:=DX j:=Y w:=W"
        ),
        "en": (
            "pau=SIL h#=SIL brth=SIL aa=AA ae=AE ah=AH ao=AO aw=AW ax=AH axr=ER ay=AY eh=EH er=ER ey=EY ih=IH iy=IY "
            "ow=OW oy=OY uh=UH uw=UW b=B ch=CH d=D dh=DH dx=DX el=L em=M en=N f=F g=G hh=HH hv=HH jh=JH k=K l=L m=M "
            "n=N nx=N ng=NG p=P r=R s=S sh=SH t=T th=TH v=V w=W y=Y z=Z zh=ZH"
        ),
    }.items()
}
# Czech marks a vowel's hard onset as a phone of its own.
_FESTIVAL["cs"]["_"] = ()


def classes_of_ipa(symbols: str) -> tuple[str, ...]:
    """The classes of one IPA string as espeak-ng reports it; () if it holds only modifiers.

    Raises:
        PhonemeError: a symbol has no class.
    """
    classes: list[str] = []
    position = 0
    while position < len(symbols):
        for length in range(_LONGEST, 0, -1):
            found = _IPA.get(symbols[position : position + length])
            if found is not None:
                classes.append(found)
                position += length
                break
        else:
            if symbols[position] not in _IGNORED:
                raise PhonemeError(
                    f"no phoneme class for {symbols[position]!r} in {symbols!r}; "
                    "add it to the table in training/corpus/phonemes.py or leave the voice out"
                )
            position += 1
    return tuple(classes)


def class_of_flite(symbol: str) -> str:
    """The class of one flite segment name.

    Raises:
        PhonemeError: the name has no class.
    """
    name = _FLITE.get(symbol, symbol.upper())
    if name not in PHONEME_INDEX:
        raise PhonemeError(f"no phoneme class for flite's segment {symbol!r}; add it to training/corpus/phonemes.py")
    return name


def classes_of_festival(language: str, phone: str) -> tuple[str, ...]:
    """The classes of a phone of festival's voices of a language (ru, cs, it, fi or en); () for a glottal stop.

    Raises:
        PhonemeError: the phone or the language is unknown.
    """
    table = _FESTIVAL.get(language)
    if table is None or phone not in table:
        raise PhonemeError(
            f"no phoneme class for festival's phone {phone!r} of language {language!r}; "
            "add it to the table in training/corpus/phonemes.py or leave the voice out"
        )
    return table[phone]


def frame_classes(segments: list[Segment], count: int, rate: float) -> list[int]:
    """Class indices at the centres of `count` frames of a track with `rate` frames a second."""
    labels = []
    position = 0
    for frame in range(count):
        time = (frame + 0.5) / rate
        while position < len(segments) - 1 and segments[position].end <= time:
            position += 1
        inside = position < len(segments) and segments[position].start <= time < segments[position].end
        labels.append(PHONEME_INDEX[segments[position].phoneme if inside else SILENCE])
    return labels
