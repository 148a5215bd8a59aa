"""Edits read from what people type: the grammar of `ledits.asked.recipe`, or plain words such as "make the cat a dog".

Rules, no model: a sentence that fits none is refused with the grammar, because a wrong guess costs a wrong picture.
All of a sentence is understood or nothing of it is.
"""

import re
from collections.abc import Callable, Sequence

from ledits.asked.recipe import Edit, parse

LONGEST = 1000  # characters
GRAMMAR = (
    "write +WORDS to add, -WORDS to remove, 'cat->dog' to swap, several with commas between, such as "
    '\'cat->dog, +crown:8\'; or a sentence such as "make the cat a dog", "add sunglasses and remove the hat" or '
    '"turn it into a pencil sketch"'
)


def _words(text: str) -> str:
    """A regular expression for any one of the words; longer ones first."""
    return "(?:" + "|".join(sorted(text.split(), key=len, reverse=True)).replace("_", r"\ ") + ")"


_SOME = _words("a an some another any more")
_DETERMINER = _words("a an some another any more the his her its their my your our this that these those")
_PRONOUN = _words("it him her them he she they this that these those")
_PICTURE = _words("picture photo photograph image scene painting drawing whole_picture whole_image whole_photo")
_WHOLE = rf"(?:it|this|that|(?:the|this|my|that)\ {_PICTURE})"
_THE = r"(?:the|his|her|its|their|my|this|that)"
_BEFORE = _words(
    "on in at with of to by under over above below beside behind before near from around against inside through "
    "between without into onto like for wearing holding next_to"
)
_NOBODY = _words(
    "it him her them he she they this that these those something anything nothing everything all someone somebody "
    "anyone everyone one ones me us you here there around back"
)
# What an instruction of these rules can't express: the sentence around such a word means something else.
_UNSAID = _words("not don't dont never no nor or but except unless if otherwise without_changing everything other_than")
_COLOUR = _words(
    "red green blue yellow orange purple violet pink brown black white grey gray golden gold silver turquoise beige "
    "cyan magenta maroon navy teal crimson scarlet blonde blond ginger"
)
_LOOK = (
    rf"(?:(?:very|dark|light|bright|pale|deep|neon)\ )?(?:{_COLOUR}(?:\ and\ {_COLOUR})?|"
    + _words(
        "wooden metal metallic stone marble glass plastic leather striped spotted plaid transparent shiny furry "
        "fluffy rusty old older young younger happy sad angry smiling bald muscular tall frozen snowy burning broken "
        "wet dirty asleep sleeping"
    )
    + ")"
)
_STYLE = (
    _words(
        "sketch drawing painting watercolor watercolour cartoon caricature anime manga comic poster mosaic engraving "
        "etching woodcut sculpture statue fresco illustration render rendering photo photograph postcard collage "
        "pixel_art oil_paint pop_art line_art clip_art stained_glass"
    )
    + r"\b"
)
_TREATED = r"(?:black\ and\ white|sepia|monochrome|grayscale|greyscale|pixel\ art|pixelated)"
_WEATHER = _words(
    "night day dawn dusk sunset sunrise winter summer spring autumn snow rain fog foggy snowy rainy sunny"
)
_VERB = _words(
    "add insert include put give remove delete erase take get replace swap exchange substitute turn transform change "
    "convert make let paint colour color dye dress"
)
_POLITE = re.compile(
    r"^(?:(?:please|kindly|hi|hello|hey|now|also|just|then|and)\b[\s,!]*"
    r"|(?:can|could|would|will)\ you\ (?=\w)"
    r"|i(?:'d|\ would)\ like\ (?:you\ )?to\ |i\ want\ (?:you\ )?to\ |let's\ (?!have))",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    rf"[.;!\n]\s+|[;\n]|,?\s+(?:and\s+)?then\s+|,\s*(?:and\s+)?(?={_VERB}\b)|\s+and\s+(?={_VERB}\b)", re.I
)


def read(text: str, source: str = "") -> list[Edit]:
    """The edits that `text` asks for; `source` says what the picture shows, where that is known.

    ValueError, one sentence with the grammar, for what isn't understood.
    """
    if len(text) > LONGEST:
        raise ValueError(f"the instruction is too long ({len(text)} characters, at most {LONGEST}): {GRAMMAR}")
    plain = re.sub(r"\s*\N{RIGHTWARDS ARROW}\s*", "->", text).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").strip()
    if "->" in plain or plain[:1] in ("+", "-"):
        # A comma or a space parts two edits only where the next one begins with a sign, or has an arrow of its own.
        parts = re.split(r"[;\n]|,\s*(?=[+-]|[^,;\n+]+->)|\s+(?=[+-][^\s>])", plain)
        return [parse(part) for part in parts if part.strip(" ,")]
    edits: list[Edit] = []
    for clause in _CLAUSE.split(plain):
        if clause := _bare(clause):
            understood = _understood(clause, source)
            if understood is None:
                if re.match(rf"(?:{_DETERMINER}|two|three|four|several)\ \w", plain, re.I) and source:
                    return [Edit("become", new=plain.rstrip(" .!"))]
                raise ValueError(f"{_short(text)} is not understood: {GRAMMAR}")
            edits += understood
    if not edits:
        raise ValueError(f"the instruction is empty: {GRAMMAR}")
    return edits


def given(edit: Edit | str, source: str = "") -> list[Edit]:
    """An edit as Python takes it: a value, one edit in the grammar, or a sentence, which may ask for several."""
    if not isinstance(edit, str) or "->" in edit or edit.strip()[:1] in ("", "+", "-"):
        return [parse(edit) if isinstance(edit, str) else edit]
    return read(edit, source)


def _understood(clause: str, source: str) -> list[Edit] | None:
    """The edits of one clause by the first rule that fits it, None where none does."""
    if re.search(rf"\b{_UNSAID}\b", re.sub(r"black and white", "", clause), re.I):
        return None
    for pattern, rule in _RULES:
        if (match := pattern.fullmatch(clause)) and (edits := rule(match.groupdict(), source)):
            return edits
    return None


def _added(found: dict[str, str], source: str) -> list[Edit] | None:
    return _each(found["new"], lambda thing: Edit("add", new=thing))


def _put(found: dict[str, str], source: str) -> list[Edit] | None:
    # "Put the cat on the moon" moves what is there, which no edit can.
    return _added(found, source) if not re.match(r"(?:the|his|her|its|their|this|that)\b", found["new"], re.I) else None


def _removed(found: dict[str, str], source: str) -> list[Edit] | None:
    return _each(found["old"], lambda thing: Edit("remove", old=thing))


def _each(listed: str, edit: Callable[[str], Edit]) -> list[Edit] | None:
    """One edit for each thing of "a cat, a dog and a bird"; a dog that is black and white is one."""
    # Only what stands between commas, or is led by its own article, is surely a thing by itself.
    parts = re.split(rf",\s*(?:and\s+)?|(?<!\b(?:black|white))\s+and\s+|\s+and\s+(?!{_COLOUR}\b)", listed)
    things = [_thing(part) for part in parts]
    return None if None in things else [edit(thing) for thing in things if thing]


def _swapped(found: dict[str, str], source: str) -> list[Edit] | None:
    """OLD becomes NEW, and after "and" perhaps further pairs: "the cat with a dog and the beach with snow"."""
    joint, new, more = found.get("joint", ""), found["new"], list[Edit]()
    if joint and (further := re.search(rf"(?:,|\s+and)\s+(?P<old>[^,]+?)\s+{joint}\s+(?P<new>.+)$", new, re.I)):
        rest = _swapped({**further.groupdict(), "joint": joint}, source)
        if rest is None:
            return None
        new, more = new[: further.start()], rest
    if re.fullmatch(_LOOK, new, re.I):
        first = _looks({"old": found["old"], "look": new}, source)
    elif re.fullmatch(_WHOLE, found["old"], re.I):
        first = _whole({"new": new}, source)
    else:
        # "... a dog and the beach snow" would hide a second wish in the first one's words.
        old, thing = _thing(found["old"]), None if re.search(r"\band\ the\b", new, re.I) else _thing(new)
        if old == "background" and (place := re.search(r"\b(?:on|in|at|against)\ (?:(?:a|an|the)\ )?([^,]+)$", source)):
            old = place[1]
        # "The dress becomes a red one": a red dress.
        thing = re.sub(r"\bone$", old, thing) if old and thing else None
        first = [Edit("swap", old=old, new=thing)] if old and thing else None
    return None if first is None else first + more


def _looks(found: dict[str, str], source: str) -> list[Edit] | None:
    """A thing keeps its name and gets another look: "car" becomes "red car", "red car" becomes "blue car"."""
    whole, look = re.fullmatch(_WHOLE, found["old"], re.I), found["look"]
    old = _subject(source) if whole else _thing(found["old"])
    if whole and re.fullmatch(_TREATED, look, re.I):
        return [Edit("add", new=look)]
    if not old:
        return None
    coloured = re.fullmatch(_COLOUR, look.split()[-1], re.I)
    kept = re.sub(r"^.+'s\ ", "", old)  # "cat's eyes" becomes "blue eyes"
    kept = re.sub(rf"^{_COLOUR}\ (?=\w)", "", kept, flags=re.I) if coloured else kept
    return [Edit("swap", old=old, new=f"{look} {kept}")]


def _whole(found: dict[str, str], source: str) -> list[Edit] | None:
    """The whole picture: a style or a kind of light is added, and what else it should be replaces what it shows."""
    thing = _thing(found["new"])
    if thing and (re.search(rf"\b{_STYLE}", thing, re.I) or re.fullmatch(rf"{_TREATED}|{_WEATHER}", thing, re.I)):
        return [Edit("add", new=thing)]
    if thing is None or not re.match(rf"{_SOME}\ ", found["new"], re.I):
        return None
    if not (subject := _subject(source)):
        raise ValueError(
            f"what should become {found['new']!r} is not clear: say what the picture shows (source, such as 'a cat on "
            f"a beach'), or name it, such as 'cat->{thing}'"
        )
    return [Edit("swap", old=subject, new=thing)]


def _styled(found: dict[str, str], source: str) -> list[Edit] | None:
    return [Edit("add", new=found["new"])]


def _thing(text: str) -> str | None:
    """A noun phrase without its article; None for a pronoun, for two clauses run together, or for no words."""
    bare = text.strip(" ,.'\"")
    bare = re.sub(rf"^(?:(?:all|both)\ (?:of\ )?)?(?:{_DETERMINER}\ )?(?=\S)", "", bare, flags=re.I)
    inner = re.search(rf"(?:^|\s)(?P<before>\S+)\ {_DETERMINER}\ ", bare, re.I)
    if inner and not re.fullmatch(rf"{_BEFORE}|to|and|\w+ing", inner["before"], re.I):
        return None
    known = re.match(r"\w", bare) and not re.fullmatch(rf"{_NOBODY}|{_DETERMINER}|{_BEFORE}", bare, re.I)
    return bare if known and not re.search(rf"\b{_BEFORE}$", bare, re.I) and not re.search(r"[?!<>]", bare) else None


def _subject(source: str) -> str | None:
    """What a description is about, "cat" of "a cat on a beach"; None where it is about several things."""
    head = re.split(rf",|\ (?:{_BEFORE}|and|in\ front\ of|\w+ing)\b", source.strip(), maxsplit=1)
    rest = source.strip()[len(head[0]) :].lstrip()
    return None if re.match(r"and\b", rest) else _thing(head[0])


def _bare(clause: str) -> str:
    """A clause without its courtesies and its full stop."""
    clause = re.sub(r"\s+", " ", clause).strip(" ,.!?\"'")
    clause = re.sub(r",?\ (?:please|thanks|thank\ you|too|as\ well)$", "", clause, flags=re.I)
    while (shorter := _POLITE.sub("", clause, count=1)) != clause:
        clause = shorter
    return clause.strip(" ,")


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


_Rule = Callable[[dict[str, str], str], list[Edit] | None]
_OWNED = rf"(?:{_THE}\ [^,]+|{_PRONOUN})"


def _compiled(rules: Sequence[tuple[str, _Rule]]) -> list[tuple[re.Pattern[str], _Rule]]:
    return [(re.compile(pattern, re.IGNORECASE), rule) for pattern, rule in rules]


# In this order: what is more particular stands first.
_RULES = _compiled([
    (r"(?:take|get) (?P<old>.+?) (?:off|out of|away from|from) .+", _removed),
    (r"take (?P<old>.+) (?:away|off|out)", _removed),
    (rf"(?:remove|delete|erase|eliminate|take (?:away|off|out)|get rid of) (?P<old>.+?)(?: from {_OWNED})?", _removed),
    (rf"(?:make|let|have) {_OWNED} wear (?P<new>.+)", _added),
    (r"(?:the|he|she|it)\b.* should wear (?P<new>.+)", _added),
    (rf"give (?:{_PRONOUN}|{_THE} .+?(?= (?:a|an|some|two|three) )) (?P<new>.+)", _added),
    (r"there should be (?P<new>.+)", _put),
    (rf"(?:add|insert|include) (?P<new>.+?)(?:(?<!next) (?:to|onto) {_OWNED})?", _added),
    (rf"put (?P<new>.+?)(?: (?:on|onto|in|into) {_OWNED})", _put),
    (rf"(?:(?:paint|draw|show|render|make|do|redo) {_WHOLE} )?(?:in|with) (?:the )?(?P<new>style of .+)", _styled),
    (r"(?:replace|swap|exchange|change|trade) (?P<old>.+?) (?P<joint>with|by|for) (?P<new>.+)", _swapped),
    (r"substitute (?P<new>.+?) for (?P<old>.+)", _swapped),
    (r"(?:(?:i'd like|i would like|i want|let's have|use|show|put) )?(?P<new>.+?) instead of (?P<old>.+)", _swapped),
    (r"instead of (?P<old>.+?), ?(?:show |put |use |have )?(?P<new>.+)", _swapped),
    (rf"(?:change|turn) {_WHOLE} from (?P<old>.+?) to (?P<new>.+)", _swapped),
    (rf"change the colou?r of (?P<old>.+) to (?P<look>{_LOOK})", _looks),
    (rf"change (?P<old>.+?)'s? colou?r to (?P<look>{_LOOK})", _looks),
    (rf"make (?P<old>{_WHOLE}) (?P<look>{_TREATED})", _looks),
    (rf"(?:make|turn) {_WHOLE} (?P<new>{_WEATHER}|{_TREATED}|(?!into|to|like)(?:\w+ )?{_STYLE})", _whole),
    (r"(?:turn|convert|change|transform) (?:in)?to (?P<new>.+)", _whole),
    (rf"(?:make|paint|colou?r|dye|turn) (?P<old>.+?) (?:look )?(?P<look>{_LOOK})", _looks),
    (rf"(?P<old>{_OWNED}) should (?:be|become) (?P<new>{_SOME} .+|{_LOOK})", _swapped),
    (rf"i(?:'d like| would like| want) (?P<old>{_OWNED}) to (?:be|become) (?P<new>{_SOME} .+|{_LOOK})", _swapped),
    (r"(?:turn|transform|change|convert|make) (?P<old>.+?) (?P<joint>into|to) (?P<new>.+)", _swapped),
    (r"make (?P<old>.+?) look like (?P<new>.+)", _swapped),
    (rf"make (?P<old>{_WHOLE}|{_THE} .+?) (?P<new>{_SOME} .+)", _swapped),
])  # fmt: skip
