"""Edits read from what people and chat models type: the grammar of `ledits.asked.recipe`, or plain sentences.

Rules, no model: a sentence that fits none is refused with the grammar, because a wrong guess costs a wrong picture.
All of a text is understood or nothing of it is. This file takes a text apart into clauses and sets aside what asks for
nothing: courtesies, "edit the image so that ...", "keep everything else unchanged". `clauses` reads what is left.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from ledits.asked.recipe import GRAMMAR as EDITS
from ledits.asked.recipe import Edit, parse
from ledits.language.clauses import DETERMINER, PICTURE, VERB, WHOLE, understood, words

LONGEST = 1000  # characters
GRAMMAR = f"{EDITS}; or say it in a sentence that begins with add, remove, replace, turn or make"

_TYPOGRAPHY = str.maketrans({
    "\N{LEFT SINGLE QUOTATION MARK}": "'", "\N{RIGHT SINGLE QUOTATION MARK}": "'", "\N{PRIME}": "'",
    "\N{LEFT DOUBLE QUOTATION MARK}": '"', "\N{RIGHT DOUBLE QUOTATION MARK}": '"', "\N{NO-BREAK SPACE}": " ",
    "\N{DOUBLE LOW-9 QUOTATION MARK}": '"',
    "\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}": '"', "\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}": '"',
    "\N{NON-BREAKING HYPHEN}": "-", "\N{NARROW NO-BREAK SPACE}": " ", "\N{ZERO WIDTH SPACE}": "",
})  # fmt: skip
_SENTENCE = re.compile(r"(?<=[.!?:])\s+|[;\n]+|\s+[\N{EM DASH}\N{EN DASH}]+\s+|\N{EM DASH}")
_ALSO = r"(?:(?:also|please|finally|just|only|simply|instead|rather)\s+)*"
_CLAUSE = re.compile(
    rf"(,?\s+(?:and\s+|but\s+)?then\s+"
    rf"|,\s*(?:and\s+|but\s+|&\s*)?{_ALSO}(?={VERB}\b|don't\b|do\ not\b)"
    rf"|\s+(?:and|but|&)\s+{_ALSO}(?={VERB}\b|don't\b|do\ not\b))",
    re.IGNORECASE,
)

_POLITE = re.compile(
    r"^(?:(?:please|pls|plz|kindly|hi|hello|hey|ok|okay|now|also|just|only|simply|then|and|next|first|firstly|second|"
    r"secondly|third|thirdly|finally|lastly|additionally)\b(?!\ ?-)[\s,!]*"
    r"|(?:can|could|would|will)\ you\ (?:mind\ )?(?=\w)"
    r"|(?:i\ think\ |it\ would\ be\ \w+\ if\ )?you\ (?:should|could|can)\ "
    r"|(?:i(?:'d|\ would)\ (?:like|love)|i\ want|i\ need|we\ want|we\ need)\ (?:you\ )?to\ (?!see\b)"
    r"|(?:go\ ahead\ and|feel\ free\ to|your\ task\ is\ to|help\ me(?:\ to)?)\ |let's\ (?!have))",
    re.IGNORECASE,
)
_COURTESY = re.compile(
    r",?\ (?:please|pls|plz|thanks|thank\ you|thx|too|as\ well|for\ me|in\ advance|so\ much|very\ much|instead|now)$",
    re.IGNORECASE,
)
_THANKS = re.compile(r"(?:(?:please|pls|thanks|thank you|thx|cheers|hi|hello|hey)(?: there| so much| in advance)?)?")

_KEEP = r"(?:keep|leave|maintain|preserve|retain)"
_KEEPING = r"(?:keeping|leaving|maintaining|preserving|retaining)"
_CHANGING = words(
    "changing altering modifying touching affecting editing moving disturbing adding removing deleting losing "
    "replacing covering hiding introducing swapping cropping resizing"
)
_ALONE = words("only just nothing")
_EDIT = r"(?:edit|modify|change|update|alter|adjust|retouch|transform|rework|redo|revise)"
_SO = r"(?:(?:in\ (?:such\ )?a\ way|so|such)\ that|so)"
_SEEN = rf"(?:{PICTURE}|scene|painting|drawing)"
_COPY = r"(?:version|edit|copy|variant|variation|rendition|picture|image|photo)"
_MAKE = r"(?:(?:generate|create|make|produce|give\ me|show\ me)\ )"
# What says only that a picture is to be edited; "states" stands where the result is described after it.
_FRAMES = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{_EDIT}\ {WHOLE},?\ (?P<states>{_SO})\ ",
        rf"{_EDIT}\ {WHOLE}\ (?:to|and)\ (?={VERB}\ \w)",
        rf"{_EDIT}\ {WHOLE}\ by\ (?=\w+ing\b)",
        rf"{_EDIT}\ {WHOLE}:?$",
        rf"{_MAKE}?(?:an?|the)\ (?:[\w-]+\ ){{0,2}}{_COPY}"
        rf"(?:\ of\ {WHOLE})?,?\ (?P<states>where|in\ which|{_SO})\ ",
        rf"{_MAKE}(?:an?|the)\ (?:[\w-]+\ ){{0,2}}{_COPY}\ of\ {WHOLE},?\ "
        r"(?=with(?:out)?\b)",
        rf"(?:using|with|given|in|on|from|for|based\ on)\ (?:the|this|my)\ (?:[\w-]+\ )?{_SEEN}(?:\ of\ [^,:]+)?,\ ",
        rf"{_MAKE}?(?:the\ )?same\ {_SEEN},?\ (?P<states>but|only|except|just)\ (?:that\ |this\ time\ )?(?!with)",
        rf"{_MAKE}?(?:the\ )?same\ {_SEEN},?\ (?:(?:but|only|just)\ )?(?=with)",
        rf"(?:while\ )?{_KEEPING}\ (?!{_ALONE})[^,]+,\ (?={VERB}\ )",
        rf"without\ {_CHANGING}\ [^,]+,\ (?={VERB}\ )",
        r"(?:make\ sure|ensure|make\ it\ so)\ (?P<states>(?:that\ )?)(?=\w)",
    )
]
# What says what was sent, and asks for nothing.
_SENT = re.compile(
    r"(?:i(?:'ve|\ have)?\ (?:uploaded|attached|shared|sent|took|have)|(?:here|this|that)(?:'s|\ is)|see|look\ at)\ "
    rf"(?:an?|the|my|this)\ (?:[\w-]+\ )?{_SEEN}\b[^,]*",
    re.IGNORECASE,
)

_NO_MORE = (
    r"(?:no\ (?:(?:other|more|further|additional)\ )?(?:changes?|edits?|modifications?|alterations?)|"
    r"nothing\ (?:else|more))"
)
# Of the rest it must be said that it stays: "and everything else white" is a wish of its own.
_REST = (
    r"(?:(?:everything|all)\ else|the\ rest)(?:\ (?:should|must|has\ to|have\ to|needs?\ to|will|can|is\ to))?\ "
    rf"(?=.*\b{words('stay stays remain remains same unchanged untouched unaltered intact identical alone')}\b"
    r"|.*\bas\ (?:it|they|before|is)\b)"
)
_STAYS = re.compile(
    rf"(?:also\ |still\ )*(?:{_KEEP}|{_KEEPING})\ (?P<a>.+)"
    rf"|without\ {_CHANGING}\ (?P<b>.+)"
    rf"|(?:with\ )?{_NO_MORE}(?P<c>.*)"
    r"|(?P<d>.+?)\ (?:(?:should|must|has\ to|have\ to|needs?\ to|will|can)\ )?(?:stays?|remains?)(?:\ .+)?"
    rf"|{_REST}(?P<e>.+)"
    r"|(?:with\ |in\ )?(?:the\ |exact(?:ly)?\ )*same\ [\w ]+(?:(?:,|,?\ and)\ (?:the\ )?same\ [\w ]+)*",
    re.IGNORECASE,
)
_DONT = re.compile(r"(?:do\ not|don't|never|avoid)\ (?P<a>.+)", re.IGNORECASE)
_TAIL = re.compile(
    rf"(?:,?\ (?:while|whilst|and|but)\ (?:also\ |still\ )*|,\ ){_KEEPING}\ (?P<a>.+)$"
    rf"|(?:,?\ (?:and|but)\ |,\ ){_KEEP}\ (?P<b>.+)$"
    rf"|,?\ without\ {_CHANGING}\ (?P<c>.+)$"
    rf"|(?:,|,?\ and|,?\ but)\ (?:with\ )?{_NO_MORE}(?P<d>.*)$"
    rf"|(?:,|,?\ and|,?\ but)\ {_REST}(?P<e>.+)$"
    r"|(?:,|,?\ and|,?\ but|,?\ with|,?\ in)\ (?:the\ )?(?:exact\ )?same\ (?P<f>[\w ,]+)$",
    re.IGNORECASE,
)
# A wish of its own within what stays, such as "keep the hat but in red": then it isn't only about what stays.
_WISH = re.compile(
    r"\b(?:but|except|only|just|instead|out|off|away|or|"
    rf"{VERB}|\w+(?:acing|oving|dding|urning)|{words('should must please')})\b",
    re.IGNORECASE,
)


# "cat"->"dog" is cat->dog.
_QUOTED = re.compile(r"""(?:^|(?<=->))\s*["']([^"'>]+)["']\s*(?=->|$)""")


class _Clause(NamedTuple):
    text: str
    stated: bool  # it describes the result: "the sofa is red"
    joined: bool  # "and" alone stands before it: a "don't" before that may be about both


def asked(edits: Iterable[Edit | str], source: str = "") -> tuple[Edit, ...]:
    """Edits as a caller gives them, each an `Edit`, a text of the grammar, or a sentence, which may ask for several."""
    found = list[Edit]()
    for edit in edits:
        found += read(edit, source) if isinstance(edit, str) else [edit]
    return tuple(found)


def is_sentence(text: str) -> bool:
    """Whether a text is meant as words of a sentence, and not as an edit of the grammar."""
    return not _is_grammar(_tidied(text))


def read(text: str, source: str = "") -> list[Edit]:
    """The edits that `text` asks for; `source` says what the picture shows, where that is known.

    ValueError, one sentence with the grammar, for what isn't understood.
    """
    if len(text) > LONGEST:
        raise ValueError(f"the instruction is too long ({len(text)} characters, at most {LONGEST}): {GRAMMAR}")
    plain = _tidied(text)
    if _is_grammar(plain):
        # A comma or a space parts two edits only where the next one begins with a sign, or has an arrow of its own.
        plain = _QUOTED.sub(r"\1", plain)
        parts = re.split(r"[;\n]|,\s*(?=[+-]|[^,;\n+]+->)|\s+(?=[+-][^\s>])", plain)
        return [parse(part) for part in parts if part.strip(" ,")]
    edits, negated = list[Edit](), False
    for clause in _clauses(plain):
        if negated and clause.joined:
            raise _not_understood(text)
        negated = _DONT.fullmatch(clause.text) is not None
        if clause.text and not negated and not _says_what_stays(clause.text):
            found = understood(_without_what_stays(clause.text), source, stated=clause.stated)
            if found is None and source and _describes(plain):
                return [Edit("become", new=plain.rstrip(" .!"))]
            if found is None:
                raise _not_understood(text)
            edits += found
    if not edits:
        raise _not_understood(text) if plain else ValueError(f"the instruction is empty: {GRAMMAR}")
    return edits


def _tidied(text: str) -> str:
    """A text with plain quotes, dashes and arrows, and without quotes around the whole."""
    plain = text.translate(_TYPOGRAPHY)
    plain = re.sub(r"\s*(?:[\N{RIGHTWARDS ARROW}\N{RIGHTWARDS DOUBLE ARROW}]|=>)\s*", "->", plain).strip()
    while len(plain) > 1 and plain[0] in "\"'" and plain[-1] == plain[0] and plain[0] not in plain[1:-1]:
        plain = plain[1:-1].strip()
    return plain


def _is_grammar(plain: str) -> bool:
    bullet = re.match(rf"[-+]\s+{VERB}\ \w", plain, re.IGNORECASE)
    return "->" in plain or (plain[:1] in ("+", "-") and not bullet)


def _describes(plain: str) -> bool:
    """Whether a text that isn't understood may be a caption of the picture that is wanted."""
    return bool(re.match(rf"(?:{DETERMINER}|two|three|four|several)\ \w", plain, re.IGNORECASE)) and not re.search(
        rf"\b(?:{words('should must please replace replaced remove removed instead keep unchanged not if or')}|"
        rf"without\ {_CHANGING})\b|\?",
        plain,
        re.IGNORECASE,
    )


def _clauses(plain: str) -> list[_Clause]:
    """The clauses of a text in order, bare; what says only that something was sent, or thanks, is left out."""
    clauses: list[_Clause] = []
    for sentence in _SENTENCE.split(plain):
        bare, stated = _framed(_bare(re.sub(r"^\s*(?:\d+[.)]|[-+*\N{BULLET}])(?:\s+|$)", "", sentence)))
        if _THANKS.fullmatch(bare.lower()) or _SENT.fullmatch(bare):
            continue
        parts = _CLAUSE.split(bare)
        joints = [None, *parts[1::2]]
        for text, joint in zip(parts[::2], joints, strict=True):
            joined = joint is not None and "," not in joint and "then" not in joint.lower()
            inner, states = _framed(_bare(text))
            clauses.append(_Clause(inner, stated or states, joined))
    return clauses


def _framed(text: str) -> tuple[str, bool]:
    """A text without the frames around it, and whether a frame says that the result is described."""
    stated = False
    while frame := next((match for pattern in _FRAMES if (match := pattern.match(text))), None):
        text, stated = _bare(text[frame.end() :]), stated or frame.groupdict().get("states") is not None
    return text, stated


def _bare(clause: str) -> str:
    """A clause without its courtesies and its full stop."""
    clause = re.sub(r"\s+", " ", clause).strip(" ,.!?:")
    while (shorter := _COURTESY.sub("", clause, count=1).rstrip(" ,")) != clause:
        clause = shorter
    while (shorter := _POLITE.sub("", clause, count=1)) != clause:
        clause = shorter
    return clause.strip(" ,.!?:")


def _says_what_stays(clause: str) -> bool:
    """Whether a clause says only that something is to be left as it is, which it is in any case."""
    found = _STAYS.fullmatch(clause)
    return found is not None and not any(_WISH.search(rest) for rest in found.groupdict().values() if rest)


def _without_what_stays(clause: str) -> str:
    """A clause without the words at its end that say what is to be left as it is."""
    found = _TAIL.search(clause)
    if found is None or any(_WISH.search(rest) for rest in found.groupdict().values() if rest):
        return clause
    return clause[: found.start()]


def _not_understood(text: str) -> ValueError:
    return ValueError(f"{text if len(text) <= 80 else text[:77] + '...'!r} is not understood: {GRAMMAR}")
