"""What one clause asks for: "make the sofa green", "the lamp should be removed". Rules of English, in an order."""

import re
from collections.abc import Callable, Sequence

from ledits.asked.recipe import GRAMMAR, Edit


def words(text: str) -> str:
    """A regular expression for any one of the words, where "_" stands for a space; longer ones first."""
    return "(?:" + "|".join(sorted(text.split(), key=len, reverse=True)).replace("_", r"\ ") + ")"


PICTURE = words("picture photo photograph image pic snapshot screenshot")
DETERMINER = words(
    "a an some another any more some_more a_few a_couple_of the his her its their my your our this that these those"
)
_SOME = words("a an some another any more")
_PRONOUN = words("it him her them he she they this that these those everyone everybody")
WHOLE = (
    rf"(?:it|this|that|(?:the|this|my|that)\ (?:(?:provided|attached|uploaded|original|given|whole|entire|input)\ )*"
    rf"(?:{PICTURE}|scene|painting|drawing)|everything\ in\ the\ {PICTURE})"
)
_THE = r"(?:the|his|her|its|their|my|your|our|this|that|these|those)"
# What gets another look: an article by itself is nothing.
_LOOKED_AT = rf"(?:{DETERMINER}\ (?!{DETERMINER}\ )\S.*?|(?!{DETERMINER}\ )\S.*?)(?<!\ a)(?<!\ an)(?<!\ the)"
_OWNED = rf"(?:(?:{_THE}|both|all|each|every)\ [^,]+|{_PRONOUN})"
_BEFORE = words(
    "on in at with of to by under over above below beside behind before near from around against inside through "
    "between without into onto like for wearing holding next_to in_front_of out off as"
)
_NOT_A_THING = words(
    "it him her them he she they this that these those all someone somebody everyone everybody anyone one ones me us "
    "you here there back else what how why where when who same rest other others nothing"
)
# What an edit can't express: the clause around such a word means something else.
_UNSAID = words("not don't dont never nor or except unless if otherwise everything anything other_than maybe perhaps")
_CUT_SHORT = words(
    "something anything nothing everything because since so then when why how what instead is are was were it him them "
    "me us i he she they"
)
# Places and counts in the picture, which words alone don't find.
_PLACED = words("left right top bottom front back side middle centre center up down camera corner foreground")
_ORDINAL = words("second third fourth fifth last leftmost rightmost left-most right-most other")
_SHARE = words("one most half part many each few two three")  # "most of the balloons"
# What an editor is told to do as well, and no thing: "remove the cat and fill in the background".
_WORK = words(
    "fill inpaint extend restore reconstruct blend continue complete adjust crop rotate zoom move flip smooth sharpen "
    "brighten darken blur match fix clean copy undo"
)
_HOLDS_MORE = rf"\b(?:saying|says|reads|(?:{PICTURE}|painting|drawing|statue|mix|mixture|combination)\ of)\b"
_LARGER = words("smaller larger bigger taller shorter longer wider thinner darker lighter brighter closer higher lower")
# What the grammar of `ledits.asked.recipe` and of lists of edits reads as more than words.
_SIGN = re.compile(r"[:@|\[\]]|->|(?<!\S)[+-](?=[^\s>])")
_COUNT = r"(?:\d+|two|three|four|five|six|seven|eight|nine|ten)"
# Of a picture, and not a thing in it.
_ABSTRACT = words(
    "angle view viewpoint viewing_angle perspective camera zoom size resolution aspect_ratio ratio format name "
    "file_name filename quality contrast brightness exposure saturation sharpness pose posture expression mood "
    "atmosphere colour color time style lighting composition focus seed steps step_count settings orientation"
)
_SHADE = words(
    "very dark light bright pale deep neon navy royal sky forest olive emerald hot pastel lime mint ash jet off burnt "
    "solid matte metallic warm cool rich vivid"
)
_COLOUR = words(
    "red green blue yellow orange purple violet pink brown black white grey gray golden gold silver turquoise beige "
    "cyan magenta maroon navy teal crimson scarlet blonde blond ginger lavender indigo ivory cream bronze copper"
)
_ADJECTIVE = (
    "(?:"
    + words(
        "wooden metal metallic stone marble glass plastic leather striped spotted plaid transparent shiny glossy matte "
        "furry fluffy hairy curly wavy straight long short wrinkly rusty old older young younger happy sad angry "
        "scared surprised smiling laughing bald muscular thin skinny chubby tall tiny huge giant gigantic frozen snowy "
        "icy burning broken cracked wet dry dirty muddy dusty clean messy empty full open closed asleep sleeping "
        "cloudy foggy misty hazy smoky sunny rainy stormy dark bright blurry blurred out_of_focus colorful rainbow "
        "mossy leafy bushy grassy sandy rocky modern vintage antique retro futuristic rustic elegant fancy formal "
        "casual ancient medieval gothic scary spooky cute magical glowing colourful dramatic realistic majestic "
        "romantic woolly knitted velvet silk denim checkered floral crystal ceramic brick concrete golden"
    )
    + r"|[a-z]{3,}(?:ful|ous|less|istic|[^e]ed))"
)
_COLOURED = rf"(?:(?:{_SHADE}\ )?{_COLOUR}(?:\ and\ {_COLOUR})?)"
_ONE_LOOK = rf"(?:{_COLOURED}|(?:very\ )?{_ADJECTIVE})"
_LOOK = rf"(?:{_ONE_LOOK}(?:(?:\ and\ |,\ ){_ONE_LOOK})?)"
_STYLE = (
    words(
        "sketch drawing painting watercolor watercolour cartoon caricature anime manga comic poster mosaic engraving "
        "etching woodcut sculpture statue fresco illustration render rendering photo photograph postcard collage "
        "pixel_art oil_paint pop_art line_art clip_art stained_glass style"
    )
    + r"\b"
)
_TREATED = r"(?:black\ and\ white|black-and-white|sepia|monochrome|grayscale|greyscale|pixel\ art|pixelated)"
_WEATHER = words(
    "night nighttime night-time night_time day daytime dawn dusk sunset sunrise golden_hour winter summer spring "
    "autumn fall snow rain fog foggy snowy rainy sunny stormy cloudy"
)
_REMOVE = words(
    "remove delete erase eliminate ditch hide take_away take_off take_out get_rid_of edit_out photoshop_out"
)
_ADD = words("add insert include introduce")
_SWAP = words("replace swap exchange change trade switch substitute")
_TURN = words("turn transform change convert make morph switch")
_PAINT = words("paint repaint dye tint colour color recolour recolor")
_SHOW = words("show render redraw repaint reimagine depict paint draw do redo restyle")
_JOINTS = 5
# The words that a clause may begin with.
VERB = words(
    "add insert include introduce place draw put give remove delete erase eliminate take get replace swap exchange "
    "switch substitute turn transform change convert make let paint repaint colour color recolour recolor dye dress "
    "keep leave maintain preserve retain render morph lose apply hide set have"
)
_GERUND = {
    re.sub(r"(?<=[^aeiou])e$", "", verb) + "ing": verb
    for verb in (
        "add", "insert", "include", "introduce", "draw", "give", "remove", "delete", "erase", "replace", "exchange",
        "switch", "substitute", "turn", "transform", "change", "convert", "make", "paint", "repaint", "take",
    )
} | {"putting": "put", "swapping": "swap", "getting": "get"}  # fmt: skip


def understood(clause: str, source: str, *, stated: bool = False) -> list[Edit] | None:
    """The edits of one clause by the first rule that fits it; None where none does.

    `stated`: it describes the result, as "the sofa is red" after "edit the image so that". ValueError for words that
    would not be the same edit once it is written down, as recipes, tables and lists of jobs do.
    """
    if sign := _SIGN.search(clause):
        raise ValueError(
            f"{clause!r} has {sign[0]!r} in its words, which an edit takes for a value or for the next edit: say it "
            f"without ':', '@', '|', brackets and arrows, and without + or - before a word; or {GRAMMAR}"
        )
    first, _, rest = clause.partition(" ")
    clause = f"{_GERUND[first.lower()]} {rest}" if first.lower() in _GERUND else clause
    clause = re.sub(rf"^({VERB}) (?:only|just) ", r"\1 ", clause, flags=re.I)
    # "The subject of this image, a sofa, ..." is the sofa.
    clause = re.sub(rf"\bthe (?:main )?[a-z]+ (?:of|in) {WHOLE}, (?:an?|the) ([^,]+),", r"the \1", clause, flags=re.I)
    clause, wished = _stated(clause)
    return _read(clause, source, stated or wished) or _apart(clause, source, stated or wished)


def _read(clause: str, source: str, stated: bool) -> list[Edit] | None:
    if re.search(rf"\b{_UNSAID}\b", re.sub(rf"(?:not|n't) wearing|{WHOLE}", "", clause, flags=re.I), re.I):
        return None
    for pattern, rule in (*_STATED, *_RULES) if stated else _RULES:
        if (match := pattern.fullmatch(clause)) and (edits := rule(match.groupdict(), source)):
            return edits
    return None


def _apart(clause: str, source: str, stated: bool) -> list[Edit] | None:
    """Two clauses in one, where each is understood: "the sofa is red and the wall is blue".

    A second one without a verb has the first one's: "add a hat to the man and a bag to the woman".
    """
    verb = re.match(rf"{VERB}\ ", clause, re.I)
    joints = list(re.finditer(r",? and |, ", clause))
    # Each may part two clauses or not: of many there would be no end of trying.
    for joint in joints if len(joints) <= _JOINTS else ():
        first, second = clause[: joint.start()], clause[joint.end() :]
        if re.search(rf"\bbetween [^,]*$|{_HOLDS_MORE}", first, re.I) or re.match(rf"{_WORK}\b", second, re.I):
            continue
        if verb and not re.match(rf"{VERB}\b", second, re.I):
            second = verb[0] + second
        if (before := _read(first, source, stated)) and (after := understood(second, source, stated=stated)):
            return before + after
    return None


def _stated(clause: str) -> tuple[str, bool]:
    """A wish for how something should be as a statement that it is so: "should be" is "is"."""
    clause = re.sub(r"^there (?:should|must) ?(?:not|n't) be (?:an? |any )?", "there is no ", clause, flags=re.I)
    said = re.sub(
        rf"^(?:i(?:'d| would)? (?:like|love)|i (?:want|need)|let|have) ({_THE} [^,]+?|{_PRONOUN}) (?:to )?"
        r"(?=(?:be|become|have|wear)\b)",
        r"\1 should ", clause, flags=re.I,
    )  # fmt: skip
    forms = {"be": "is", "have": "has"}
    changed = re.sub(
        r"\b(?:should|must|needs? to|has to|have to|shall|will) (?:now |also |instead |rather )*"
        r"(be|have|wear|become|show|look|turn|contain)\b",
        lambda match: forms.get(match[1].lower(), f"{match[1].lower()}s"),
        said, flags=re.I,
    )  # fmt: skip
    return changed, changed != clause


def _added(found: dict[str, str], source: str) -> list[Edit] | None:
    return _each(found["new"], lambda thing: Edit("add", new=thing)) if _one_place(found) else None


def _put(found: dict[str, str], source: str) -> list[Edit] | None:
    # "Put the cup on the moon" moves what is there, which no edit can.
    return _added(found, source) if not re.match(rf"{_THE}\b", found["new"], re.I) else None


def _removed(found: dict[str, str], source: str) -> list[Edit] | None:
    edits = _each(found["old"], lambda thing: Edit("remove", old=thing)) if _one_place(found) else None
    # "Remove the colour" is a wish for a black and white picture.
    return None if edits and any(re.fullmatch("colou?rs?", edit.old, re.I) for edit in edits) else edits


def _has(found: dict[str, str], source: str) -> list[Edit] | None:
    """ "A beard and no glasses": one comes, the other goes."""
    edits = list[Edit]()
    for part in re.split(r",? and (?=no )|, (?=no )", found["new"]):
        gone = re.match(r"no\ (?:more\ )?", part, re.I)
        one = _removed({"old": part[gone.end() :]}, source) if gone else _added({"new": part}, source)
        if one is None:
            return None
        edits += one
    return edits


def _one_place(found: dict[str, str]) -> bool:
    """Whether what stands after "to" or "from" names where, and neither a further wish nor a side of the picture."""
    further = rf"\band (?:an?|some|{_THE} .+ (?:to|from|on|onto|in|off)) "
    side = rf"\b{_PLACED}$|^{_THE} (?:{_ORDINAL}|left|right)\b"
    return not re.search(f"{further}|{side}", found.get("place") or "", re.I)


def _each(listed: str, edit: Callable[[str], Edit]) -> list[Edit] | None:
    """One edit for each thing of "a cup, a plate and a spoon"; a plate that is black and white is one."""
    # "Between the tree and the house" is one place, and what stands in quotes is one text.
    listed = re.sub(
        rf"\"[^\"]*\"|\bbetween .+? and (?:{DETERMINER} )?\S+",
        lambda held: held[0].replace(" and ", "\0").replace(",", "\1"), listed, flags=re.I,
    )  # fmt: skip
    # Only what stands between commas, or is led by its own article, is surely a thing by itself. Words before a comma
    # that end in no noun, as in "a small, knitted scarf", are about the thing after them.
    parts = re.split(
        rf",\s*(?:and\s+)?(?={DETERMINER}\b)|(?<!\b(?:black|white))\s+and\s+|\s+and\s+(?!{_COLOUR}\b)", listed
    )
    if not re.match(rf"{_SOME}\ [^,]+,\ [^,]+$", listed, re.I):
        parts = [one for part in parts for one in re.split(r",\s*(?:and\s+)?", part)]
    parts = [part.replace("\0", " and ").replace("\1", ",") for part in parts]
    # After "a picture of a cat and a dog" nobody knows how many things are meant.
    if any(re.search(_HOLDS_MORE, part, re.I) for part in parts[:-1]):
        return None
    if any(re.match(rf"{_WORK}\b", part, re.I) for part in parts[1:]):
        return None
    things = [_thing(part) for part in parts]
    return None if None in things else [edit(thing) for thing in things if thing]


def _swapped(found: dict[str, str], source: str) -> list[Edit] | None:
    """OLD becomes NEW, and perhaps further pairs: "the cup with a mug and the table with a desk"."""
    joint, new, more = found.get("joint") or "", found["new"], list[Edit]()
    if joint and (further := re.search(rf"(?:,|\s+and)\s+(?P<old>[^,]+?)\s+{joint}\s+(?P<new>.+)$", new, re.I)):
        rest = _swapped({**further.groupdict(), "joint": joint}, source)
        if rest is None:
            return None
        new, more = new[: further.start()], rest
    look = re.fullmatch(rf"(?P<look>{_LOOK})|an?\ (?P<one>{_LOOK})\ one|an?\ (?P<shade>{_SHADE}\ {_COLOUR})", new, re.I)
    # "Replace the cup with glass" is another thing, "change the cup to glass" is another look.
    if look and (
        look["one"] or look["shade"] or joint not in ("with", "by", "for") or re.fullmatch(_COLOURED, new, re.I)
    ):
        first = _looks({"old": found["old"], "look": look["look"] or look["one"] or look["shade"]}, source)
    elif re.fullmatch(WHOLE, found["old"], re.I):
        first = _whole({"new": new}, source)
    else:
        # "... a mug and the table a desk" would hide a second wish in the first one's words.
        old = _thing(found["old"])
        thing = None if re.search(r"\band\ the\b", new, re.I) else _thing(re.sub(r"\bone$", old or "", new))
        if old is None or re.search(rf"\band\ {_THE}\b", old, re.I) or _is_abstract(old):
            return None
        if old == "background" and (place := re.search(r"\b(?:on|in|at|against)\ (?:(?:a|an|the)\ )?([^,]+)$", source)):
            old = place[1]
        first = [Edit("swap", old=old, new=thing)] if thing else None
    return None if first is None else first + more


def _instead(found: dict[str, str], source: str) -> list[Edit] | None:
    # "The hat on the dog instead of the cat" moves the hat.
    moved = re.match(rf"{_THE}\ .*\b{_BEFORE}\b", found["new"], re.I)
    return None if moved or re.fullmatch(_LOOK, found["old"], re.I) else _swapped(found, source)


def _exchanged(found: dict[str, str], source: str) -> list[Edit] | None:
    # "Swap the cup with the plate" may mean that each goes where the other is.
    return None if re.match(rf"{_THE}\b", found["new"], re.I) else _swapped(found, source)


def _from_to(found: dict[str, str], source: str) -> list[Edit] | None:
    """ "The coat from red to blue" is a red coat, then a blue one; "the drink from coffee to tea" coffee, then tea."""
    looks = [re.fullmatch(_LOOK, found[name], re.I) is not None for name in ("before", "after")]
    if all(looks) and (thing := _thing(found["old"])) and not re.fullmatch(WHOLE, found["old"], re.I):
        return [Edit("swap", old=f"{found['before']} {thing}", new=f"{found['after']} {thing}")]
    return None if any(looks) else _swapped({"old": found["before"], "new": found["after"]}, source)


def _pair(found: dict[str, str], source: str) -> list[Edit] | None:
    """ "Mug to teapot": short names, the second one not of a thing that is there or of a place."""
    edits = list[Edit]()
    for pair in re.split(r",? and |, ", f"{found['old']} to {found['new']}"):
        old, _, new = pair.partition(" to ")
        name = r"(?:(?:the|an?|my)\ )?[\w'-]+(?:\ [\w'-]+){0,2}"
        other = "|".join((_BEFORE, _NOT_A_THING, _PLACED, _UNSAID, VERB, words("next close due thanks welcome way go")))
        plain = re.fullmatch(name, old, re.I) and re.fullmatch(name, new, re.I) and old.lower() != new.lower()
        if not plain or re.search(rf"\b(?:{other}|is|are)\b", pair.replace(" to ", " | "), re.I):
            return None
        if re.match(r"the\ |my\ ", new, re.I) or re.match(r"an?\ ", old, re.I) and not re.match(r"an?\ ", new, re.I):
            return None
        one = _swapped({"old": old, "new": new}, source)
        if one is None:
            return None
        edits += one
    return edits


def _looks(found: dict[str, str], source: str) -> list[Edit] | None:
    """A thing keeps its name and gets another look: "car" becomes "red car", "red car" becomes "blue car"."""
    whole, look = re.fullmatch(WHOLE, found["old"], re.I), found["look"]
    if whole and re.fullmatch(_TREATED, look, re.I):
        return [Edit("add", new=look)]
    if whole and re.fullmatch(_WEATHER, look, re.I):
        return [Edit("add", new=look)]
    olds = [_subject(source)] if whole else [_thing(part) for part in re.split(rf"\ and\ (?={_THE}\ )", found["old"])]
    coloured = re.fullmatch(_COLOUR, look.split()[-1], re.I)
    edits = list[Edit]()
    for old in olds:
        # "Make the wall white and the floor black": the first one has its look already.
        if not old or _is_abstract(old) or re.search(rf"\ {_ONE_LOOK}$", old, re.I):
            return None
        kept = re.sub(r"^.+'s\ ", "", old)  # "chair's legs" becomes "blue legs"
        kept = re.sub(rf"^(?:{_SHADE}\ )?{_COLOUR}\ (?=\w)", "", kept, flags=re.I) if coloured else kept
        edits.append(Edit("swap", old=old, new=f"{look} {kept}"))
    return edits


def _whole(found: dict[str, str], source: str) -> list[Edit] | None:
    """The whole picture: a style or a kind of light is added, and what else it should be replaces what it shows."""
    thing = _thing(found["new"])
    if thing and (
        re.search(rf"\b{_STYLE}", thing, re.I)
        or re.fullmatch(rf"{_TREATED}(?:\ (?:{PICTURE}|version))?|{_WEATHER}", thing, re.I)
    ):
        return [Edit("add", new=thing)]
    if thing is None or not re.match(rf"{_SOME}\ ", found["new"], re.I):
        return None
    if not (subject := _subject(source)):
        raise ValueError(
            f"what should become {found['new']!r} is not clear: say what the picture shows (source, such as 'a mug on "
            f"a table'), or name it, such as 'make the mug {found['new']}', or {GRAMMAR}"
        )
    return [Edit("swap", old=subject, new=thing)]


def _styled(found: dict[str, str], source: str) -> list[Edit] | None:
    return [Edit("add", new=found["new"])] if _thing(found["new"]) else None


def _lit(found: dict[str, str], source: str) -> list[Edit] | None:
    return [Edit("add", new=thing)] if (thing := _thing(found["new"])) and re.fullmatch(_WEATHER, thing, re.I) else None


def _thing(text: str) -> str | None:
    """A noun phrase without its article; None for a pronoun, for two clauses run together, or for no words."""
    bare = _unquoted(text.strip(" ,."))
    bare = re.sub(rf"\ (?:in|from|of|within|to)\ (?:the|this|my)\ (?:[a-z]+ed\ )?{PICTURE}$", "", bare, flags=re.I)
    bare = re.sub(rf"^(?:(?:all|both)\ (?:of\ )?)?(?:{DETERMINER}\ )?(?=\S)", "", bare, flags=re.I)
    bare = _unquoted(bare)
    inner = re.search(rf"(?:^|\s)(?P<before>\S+)\ (?!that\b){DETERMINER}\ ", bare, re.I)
    if inner and not re.fullmatch(rf"{_BEFORE}|to|and|that|\w+ing", inner["before"], re.I):
        return None
    if not re.match(r"\w", bare) or re.search(r"[?!<>\\/]|\.\w", bare) or re.search(rf"\b{_CUT_SHORT}\b", bare, re.I):
        return None
    if re.match(rf"(?:{_BEFORE}|{_ORDINAL}|no|say|match|face|look|{VERB}\ {DETERMINER})\b", bare, re.I):
        return None
    if re.search(rf"(?:^|\ )(?:{_BEFORE}|{_COUNT}|and|left|right|wear|hold)$|[()]", bare, re.I):
        return None
    # Two wishes run together, a rule for the edit, an option, a quotation cut in two: nothing of that is a thing.
    if re.search(
        rf"\b(?:{_ADD}|remove|delete|erase|replace)\b|\bwithout\ \w+ing\ |\b(?:all\ else|the\ rest)\b|(?:^|\ )--",
        bare,
        re.I,
    ):
        return None
    if re.match(rf"{_SHARE}\ of\b|(?:bit|lot|tad|touch)\b|(?:a\ )?(?:little|lot|bit)\ {_LARGER}$", bare, re.I):
        return None
    if re.search(r"\bones?$", bare, re.I) or bare.count('"') % 2:
        return None
    return None if re.fullmatch(rf"{_NOT_A_THING}|{DETERMINER}|{_PLACED}", bare, re.I) else bare


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 2 and text[0] in "\"'" and text[-1] == text[0] else text


def _is_abstract(thing: str) -> bool:
    """Whether it is nothing in the picture but a property of it, which no edit replaces."""
    return re.search(rf"\b{_ABSTRACT}$|^{_ABSTRACT}\ of\b", thing, re.I) is not None


def _subject(source: str) -> str | None:
    """What a description is about, "mug" of "a mug on a table"; None where it is about several things."""
    head = re.split(rf",|\ (?:{_BEFORE}|and|\w+ing)\b", source.strip(), maxsplit=1)
    rest = source.strip()[len(head[0]) :].lstrip()
    return None if re.match(r"and\b", rest) else _thing(head[0])


_Rule = Callable[[dict[str, str], str], list[Edit] | None]


def _compiled(rules: Sequence[tuple[str, _Rule]]) -> list[tuple[re.Pattern[str], _Rule]]:
    return [(re.compile(pattern, re.IGNORECASE), rule) for pattern, rule in rules]


_IS = r"(?:is|are|was|were|has\ been|have\ been|gets?|becomes?)"
# What describes the result.
_STATED = _compiled([
    (r"there (?:is|are) no (?:more |longer any )?(?P<old>.+)", _removed),
    (r"there (?:is|are) (?P<new>.+)", _put),
    (rf"(?P<old>.+?) {_IS} (?:removed|deleted|erased|gone|missing|taken (?:away|out|off))(?: from {WHOLE})?", _removed),
    (rf"(?P<new>.+?) {_IS} added(?: (?:to|on|onto|in|into) (?P<place>{_OWNED}))?", _put),
    (rf"(?P<old>.+?) {_IS} (?:replaced|swapped|substituted|exchanged|switched) (?P<joint>with|by|for) (?P<new>.+)",
     _swapped),
    (rf"(?P<old>.+?) {_IS} (?:turned|changed|transformed|converted) (?P<joint>into|to) (?P<new>.+)", _swapped),
    (rf"(?:{WHOLE}) (?:shows?|has|contains?|depicts?|is of) (?P<new>.+?) instead of (?P<old>.+)", _swapped),
    (rf"{_OWNED} (?:(?:is|are) (?:without|not wearing|no longer wearing)|isn't wearing|no longer (?:wears?|has)) "
     r"(?P<old>.+)", _removed),
    (rf"{_OWNED} (?:(?:is|are) (?:now )?(?:wearing|holding)|wears?|has|have|wearing) (?P<new>.+)", _has),
    (rf"it(?: is|'s) (?P<new>{_WEATHER})", _whole),
    (rf"(?P<old>{_OWNED}) (?:is|are|becomes?|turns?) (?:now )?(?:painted |coloured |colored |dyed )?(?P<look>{_LOOK})",
     _looks),
    (rf"(?P<old>{_OWNED}) looks? (?P<look>{_LOOK})", _looks),
    (rf"(?P<old>{_OWNED}) (?:is|are) (?P<after>{_LOOK}) (?:instead of|rather than) (?P<before>{_LOOK})", _from_to),
    (rf"(?P<old>{_OWNED}) (?:is|are|becomes?|looks? like|turns? into) (?:now )?(?P<new>{_SOME} .+)", _swapped),
])  # fmt: skip
# What asks for it. In this order: what is more particular stands first.
_RULES = _compiled([
    (r"(?:take|get) (?P<old>.+?) (?:off|out of|away from|from) (?P<place>.+)", _removed),
    (r"take (?P<old>.+) (?:away|off|out)", _removed),
    (rf"(?!hide .+ {_BEFORE}\b){_REMOVE} (?P<old>.+?)(?: from (?P<place>{_OWNED}))?", _removed),
    (rf"lose (?P<old>{_THE} .+)", _removed),
    (rf"(?:i want|i need|i'd like|get|have) (?P<old>{_THE} .+?) (?:removed|gone|deleted|erased|taken out)", _removed),
    (rf"no (?:more )?(?P<old>(?!(?:way|thanks|problem|idea|clue|need|worries|doubt|{_NOT_A_THING}|longer)\b)[^,]+)",
     _removed),
    (r"without (?P<old>[^,]+)", _removed),
    (rf"(?:make|let|have) (?P<place>{_OWNED}) (?:wear|hold) (?P<new>.+)", _added),
    (rf"dress (?P<place>{_OWNED}) in (?P<new>{_SOME} .+)", _added),
    (rf"show (?P<place>{_OWNED}) (?:wearing|holding|with) (?P<new>.+)", _added),
    (rf"give {_PRONOUN} (?P<new>.+)", _added),
    (rf"give (?P<place>{_THE} .+?)(?= (?:an?|some|two|three) ) (?P<new>.+)", _added),
    (rf"give (?P<place>{_THE} [\w-]+) (?P<new>(?!{_BEFORE}\b|{DETERMINER}\b)[\w-]+(?: [\w-]+)?)", _added),
    (rf"(?:i(?:'d| would) (?:like|love)|i want) to see (?P<new>{_SOME} .+)", _put),
    (rf"(?:apply|use|add) (?:an? |the )?(?P<new>{_TREATED})(?: (?:effect|filter|look|tone))?", _styled),
    (r"apply (?:an? )?(?P<new>.+?)(?: (?:effect|filter|look))?", _styled),
    (rf"{_ADD} (?P<new>.+ to (?:the |its |his |her )(?:left|right|side) of .+)", _added),
    (rf"{_ADD} (?:in )?(?P<new>.+?)(?:(?<!next) (?:to|onto) (?P<place>{_OWNED}))?", _added),
    (r"(?:place|draw(?! attention\b)|put in) (?P<new>.+)", _put),
    (rf"put (?P<new>.+?)(?: (?:on|onto|in|into) (?P<place>{_OWNED}))", _put),
    (rf"(?:(?:{_SHOW}|{_TURN}) {WHOLE} )?(?:in|into|with|to) (?:the )?(?P<new>style of .+)", _styled),
    (rf"(?:(?:{_SHOW}|make) {WHOLE} )?in (?:an? )?(?P<new>[\w -]+ style)", _styled),
    (rf"{_SHOW} {WHOLE} as (?P<new>.+)", _whole),
    (r"(?:change|set|switch|turn) (?:the )?(?:season|weather|time(?: of (?:day|year))?) (?:in)?to (?P<new>.+)", _lit),
    (rf"(?:set|make) {WHOLE} (?:be |take place )?(?:at|in|during) (?P<new>(?:the )?{_WEATHER})", _lit),
    (r"(?:change|set|switch) (?:the )?style to (?P<new>.+)", _styled),
    (r"with (?P<new>(?!no\b)[^,]+)", _has),
    (rf"change the colou?r of (?P<old>.+?) from (?P<before>{_LOOK}) to (?P<after>{_LOOK})", _from_to),
    (rf"change (?P<old>.+?)(?:'s?)? colou?r from (?P<before>{_LOOK}) to (?P<after>{_LOOK})", _from_to),
    (rf"(?:change|turn) {WHOLE} from (?P<old>.+?) to (?P<new>.+)", _swapped),
    (r"(?:change|turn|switch) (?P<old>.+?) from (?P<before>.+?) (?:in)?to (?P<after>.+)", _from_to),
    (rf"change the colou?r of (?P<old>.+) to (?P<look>{_LOOK})", _looks),
    (rf"change (?P<old>.+?)(?:'s?)? colou?r to (?P<look>{_LOOK})", _looks),
    (r"(?:swap|exchange|switch|trade)(?: out)? (?P<old>.+?)(?: out)? (?P<joint>with|for) (?P<new>.+)", _exchanged),
    (r"(?:replace|change) (?P<old>.+?) (?P<joint>with|by|for) (?P<new>.+)", _swapped),
    (r"substitute (?P<new>.+?) for (?P<old>.+)", _swapped),
    (rf"make (?P<old>{_LOOKED_AT}) (?P<after>{_LOOK}) (?:instead of|rather than) (?P<before>{_LOOK})", _from_to),
    (rf"(?:i'd like|i want) (?P<old>{_THE} .+?) (?P<after>{_LOOK}) (?:instead of|rather than) (?P<before>{_LOOK})",
     _from_to),
    (r"(?:(?:i'd like|i would like|i want)(?: to see)? |(?:let's have|use|show|put) )?(?P<new>.+?) "
     r"(?:instead|in place) of (?P<old>.+)", _instead),
    (r"(?:instead|in place) of (?P<old>.+?), ?(?:show |put |use |have )?(?P<new>.+)", _swapped),
    (rf"make (?P<old>{WHOLE}) (?:look )?(?P<look>{_TREATED})", _looks),
    (rf"(?:make|turn) {WHOLE} (?P<new>{_WEATHER}|{_TREATED}|(?!into|to|like)(?:\w+ )?{_STYLE})", _whole),
    (r"(?:turn|convert|change|transform) (?:in)?to (?P<new>.+)", _whole),
    (rf"{_PAINT} (?P<old>{_LOOKED_AT}) (?:in |to )?(?:an? )?(?P<look>{_LOOK})", _looks),
    (rf"make (?P<old>{_THE} .+?) (?:look )?(?:a (?:bit|little|lot) |much |slightly |somewhat |even )?more "
     r"(?P<look>(?!like\b|of\b)[a-z]+)", _looks),
    (rf"(?:make|have) (?P<old>{_THE} .+?) (?:be )?(?:made )?(?:out )?of (?P<look>[a-z]+)", _looks),
    (rf"(?:make|turn) (?P<old>{_LOOKED_AT}) (?:look )?(?P<look>{_LOOK})", _looks),
    (rf"{_TURN} (?P<old>.+?) (?P<joint>into|to)(?: be)? (?P<new>.+)", _swapped),
    (r"make (?P<old>.+?) look like (?P<new>.+)", _swapped),
    (rf"make (?P<old>{WHOLE}|{_THE} .+?) (?P<new>{_SOME} .+)", _swapped),
    (rf"(?P<old>{_OWNED}) (?:becomes?|turns into) (?P<new>{_SOME} .+)", _swapped),
    (r"(?P<old>[^,]+) to (?P<new>.+)", _pair),
])  # fmt: skip
