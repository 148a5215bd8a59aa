"""The caption after an edit, written by rules where they are certain; any other edit is refused with a proposal.

    target(parse("cat->dog"), "a cat on a beach")  ->  "a dog on a beach"

The rules know articles, numbers, prepositions and joining words, and no noun: words.py. What they can't be sure of is
never guessed, for the network would be told nonsense: "-woman" of "a woman in a red dress" leaves no picture to name.
"""

import re
from collections.abc import Sequence, Set

from ledits.asked.recipe import Edit, parse
from ledits.language import things, words
from ledits.language.words import Word

_MARKS = words.MARKS
_PLACES = words.PREPOSITIONS - {"with", "of", "to", "for", "without"}
# Acts that put one thing somewhere: "putting a hat on a dog".
_MOVING = frozenset({
    "putting", "placing", "laying", "setting", "hanging", "dropping", "pouring", "throwing", "tossing", "loading",
    "spreading", "sticking", "mounting", "pinning",
})  # fmt: skip
# What says something of two things at once, which is wrong of one.
_PLURAL = frozenset({"are", "were", "have", "both", "all", "together", "other", "between"})
_AGREES = frozenset({"is", "are", "was", "were", "has", "have"})
# What says where something is, and not what it does or has.
_PLACING = frozenset({"on", "at", "under", "in", "over", "above", "inside", "outside", "against", "atop"})
_SINGULAR = {"are": "is", "were": "was", "have": "has"}
# What things are said to be where a background is, which they are on.
_NOT_BEHIND = frozenset({"in", "at", "under", "by", "during", "through", "over", "across", "down"})
# What says of a thing that it is a man, or a woman.
_OF_ITS_KIND = frozenset({"his", "her", "he", "she", "him", "himself", "herself"})
_MANY = {one: many for many, one in _SINGULAR.items()}
# Acts that are done to things without an article: "eating rice", "wearing boots".
_TAKING = frozenset({
    "wearing", "holding", "carrying", "eating", "drinking", "riding", "reading", "playing", "using", "having", "making",
    "selling", "serving",
})  # fmt: skip
_FIRST = things.Span(0, 1)
# What often belongs to an act and not to a place: "throwing a ball to a dog".
_OF_AN_ACT = frozenset(
    {"to", "at", "into", "onto", "from", "through", "over", "toward", "towards", "across", "with", "for"}
)


class Unsure(ValueError):
    """No rule is certain of a removal; `left` is what might be meant."""

    def __init__(self, why: str, left: str = "") -> None:
        super().__init__(why)
        self.left = left


class Nothing(Unsure):
    """Nothing that a caption could name is left."""


def targets(source: str, *edits: Edit | str, emptied: str | None = None) -> list[str]:
    """The caption after each edit of `source` alone, as a network is told; see `target`.

    Raises ValueError where there is no caption, and for the first edit whose caption is not certain.
    """
    if not source:
        raise ValueError("there is no caption to change: give the picture's caption as its source")
    return [target(parse(edit) if isinstance(edit, str) else edit, source, emptied) for edit in edits]


def target(edit: Edit, source: str, emptied: str | None = None) -> str:
    """The caption `source` after one edit.

    `emptied` is how a model says that nothing stands in a place, such as "an empty {}"; without it the place alone is
    named. Raises ValueError, one sentence with a proposal, where the edit's words are not in the source exactly once,
    or where it is not certain what is left.
    """
    if edit.kind == "become":
        return edit.new
    if edit.kind == "add":
        return _added(edit, source)
    given = words.split(source)
    phrase, begin = _place(edit, given, source)
    if edit.kind == "swap":
        return words.join(_swapped(edit, given, begin, phrase))
    try:
        return removed(source, words.join(phrase), emptied)
    except Unsure as error:
        hint = f", such as '->{error.left}'" if error.left else ""
        raise ValueError(
            f"edit '{edit}': {error} in the source {source!r}; write '->' and what the picture shows then{hint}"
        ) from None


def removed(source: str, phrase: str, emptied: str | None = None) -> str:
    """`source` without the thing that `phrase` names, as a caption; Unsure where no rule is certain of it."""
    left, given, sought = words.split(_with_less(source, phrase, emptied)), words.split(source), words.split(phrase)
    if _stands_with_others(given[words.find(given, sought)[0] + len(sought) :]):
        left = _in_no_row(left)
    return words.join(_with_nothing(left, emptied) if emptied else left)


def _stands_with_others(after: Sequence[Word]) -> bool:
    """Whether a thing is of a list of which is said how all of it stands: "and a frog side by side"."""
    for i, word in enumerate(after):
        if words.begins_with_arrangement(after[i:]):
            return True
        if word.key in words.PREPOSITIONS or words.is_participle(word.key):
            return False
    return False


def _in_no_row(left: Sequence[Word]) -> list[Word]:
    """What is left of a list, without what was said of how several things stand where one is left."""
    for i in range(1, len(left)):
        if arranged := words.begins_with_arrangement(left[i:]):
            name = things.name_around(left, things.Span(i - 1, i))
            before = left[: name.start]
            joined = bool(before) and (before[-1].key in words.JOINS or words.ends_in_relation(before) > 0)
            if name.start < name.end and not joined and not _is_plural(left[name.start : name.end]):
                return [*left[:i], *left[i + arranged :]]
    return list(left)


def _with_nothing(left: Sequence[Word], emptied: str) -> Sequence[Word]:
    """A caption that names a background and no more, as a model says that nothing is before it."""
    opened = max((i for i in range(len(left)) if words.presents(left[:i])), default=0)
    name = left[opened:]
    whole = things.name_around(name, _FIRST).end == len(name) and name[-1].key in words.BACKDROPS
    begun = words.split(emptied.partition("{}")[0])
    if not whole or words.keys(name[: len(begun)]) == words.keys(begun):
        return left
    said = words.split(emptied.format(words.join(name[words.is_determiner(name[0].key) :])))
    return [*left[:opened], said[0]._replace(space=name[0].space), *said[1:]]


def _with_less(source: str, phrase: str, emptied: str | None) -> str:
    """What is left, with all that was said around it."""
    given, sought = words.split(source), words.split(phrase)
    found = words.find(given, sought)
    if len(found) != 1:
        raise Unsure(f"{phrase!r} is there {len(found)} times")
    framed = _frame(given[: found[0]])
    opened = max(i for i in range(framed, found[0] + 1) if words.presents(given[framed:i]))
    try:
        left = _left(given[opened:], found[0] - opened, sought, emptied)
    except Nothing:
        if framed:
            return _place_alone([word for word in given[:framed] if word.key != ","], phrase, emptied)
        if emptied is None:
            raise
        return emptied.format(words.BACKDROP)
    rest = words.split(left)
    if not opened or _key(rest, things.name_around(rest, things.Span(0, 1)).end) in {"is", "are"}:
        return left  # "the background is blue" presents itself
    if rest[0].key in words.PREPOSITIONS and opened > framed:
        raise Unsure(f"what follows {phrase!r} may be about it")  # "a view of the tower at night"
    head = list(given[:opened])
    agreed = _SINGULAR if _is_one(rest) else _MANY if _is_plural(rest[: things.name_around(rest, _FIRST).end]) else {}
    head[-1] = head[-1]._replace(text=agreed.get(head[-1].key, head[-1].text))
    return words.join([*head, *_spaced(rest)])


def _left(given: Sequence[Word], at: int, sought: Sequence[Word], emptied: str | None) -> str:
    """What is left of a caption, without what presents it, whose words from `at` name what goes."""
    phrase = words.join(sought)
    begin, end = _noun_phrase(given, at, at + len(sought))
    _check_noun_phrase(given[begin:end], phrase)
    given, agreeing = _agreeing(given, things.Span(begin, end))
    before, after = given[:begin], given[end:]
    while _key(before, -1) in words.ALONE:
        before = before[:-1]
    if not before:
        after = _of_others(after)
    elif words.ends_in_position(before[:-1]):  # "A cat on the left and a dog on the right": each has its own place.
        after = after[words.begins_with_position(after) :]
    elif _key(before, -1) == "with" or words.is_participle(_key(before, -1)) or _is_relative(before):
        worn = _worn(after)
        after = after[worn:]
        name = things.name_around(after, things.Span(1, 2)) if len(after) > 1 else things.Span(0, 0)
        if worn and _key(after, 0) == "and" and not _worn(after[name.end :]):  # "with a hat on its head and a dog"
            return _without(before, 2 if _is_relative(before) else 1, after, phrase)
    left, right = _key(before, -1), _key(after, 0)
    if right == "of":
        raise Unsure(f"{phrase!r} is part of a larger name")
    if _is_doubtful(given, begin, end):
        raise Unsure(f"{left!r} may be what {phrase!r} is like, or what is done to it")
    if denied := {left, given[begin].key} & {"without", "no", "not"}:
        raise Unsure(f"{min(denied)!r} says that {phrase!r} is not there")
    if any(_stands_for_a_thing(after, i) for i in (1, 2)):
        raise Unsure(f"{phrase!r} stands between a thing and what is said of it")
    if left == "with" and words.is_participle(right):
        # "A man with a beard holding a phone": the man holds it. "A beach with people swimming": they swim.
        if not any(words.is_determiner(word.key) for word in after[1:3]):
            raise Unsure(f"what follows {phrase!r} may be about it")
        return _tidy([*before[:-1], *after])
    # "A cat with a bow is on a bed": the cat is.
    owned = left in words.PREPOSITIONS - {"of"} or words.is_participle(left) or _is_relative(before)
    about_another = owned and (right in {"is", "are"} or words.begins_with_arrangement(after) > 0)
    known = right in words.JOINS or right in words.PREPOSITIONS or right in _MARKS or words.begins_with_relation(after)
    if right and not known and not about_another and not agreeing:
        raise Unsure(f"what follows {phrase!r} may be about it")
    others = {word.key for i, word in enumerate(given) if not begin <= i < end and i not in agreeing}
    own = _key(after, things.name_around(after, things.Span(1, 2)).end) if len(after) > 1 else ""
    if left == "with" and right == "and" and own == "with":  # "a cat with a hat and a dog with a bow"
        return _without(before, 1, after, phrase)
    clause = words.is_participle(own) or own in words.AUXILIARIES or own == "with"
    if words.is_participle(left) and right == "and" and clause and not words.is_participle(_key(after, 1)):
        raise Unsure(f"a list may go on after {phrase!r}")  # "wearing a hat and a woman holding a dog"
    if _goes_on(given[begin:end], after) and (not before or left in words.JOINS or _objects(before)):
        return _listed(before, after[1:], given[begin:end], others, with_and=right != ",")
    of_the_picture = _is_of_the_picture(after)
    if right in words.JOINS and not words.is_participle(_key(after, 1)) and not of_the_picture:
        raise Unsure(f"a list may go on after {phrase!r}")
    if left in words.JOINS:
        two = end - begin > 1 and not words.is_determiner(given[begin].key) and not words.is_plural(before[-2:-1])
        # "A green heart and blue heart" are two of a kind.
        two = two and not words.ends_in_position(before[:-1]) and _key(before, -2) != given[end - 1].key
        if two and left != ",":  # "red and yellow flowers": both may be said of the flowers
            raise Unsure(f"{_key(before, -2)!r} may be said of {phrase!r} too")
        return _listed(before[:-1], after, given[begin:end], others, with_and=left != ",", last=True)
    if words.is_participle(left) and _key(before, -2):
        return _without(before, 1, after, phrase)  # "a man holding an umbrella": nothing is held any more
    if (relation := words.ends_in_relation(before)) and len(before) > relation:
        clothes = bool(words.COLOURS & set(words.keys(after[1:3]))) or words.is_plural(after[1:2])
        worn = right == "with" or (right == "in" and clothes)
        if worn and not of_the_picture:  # "next to a woman in a red dress"
            raise Unsure(f"what follows {phrase!r} may be about it")
        return _without(before, relation, after, phrase)
    if _is_relative(before):
        return _without(before, 2, after, phrase)  # "a cat that wears a hat"
    if left == "with" and (company := words.begins_with_company(after)):
        return _tidy([*before, *after[company:]])  # "a beach with a cat as well as a dog"
    if left == "with" and right == "in" and words.is_plural(after[1:2]):
        raise Unsure(f"what follows {phrase!r} may be what it wears")
    if left in words.PREPOSITIONS:
        if left in {"of", "between"} or len(before) < 2:
            raise Unsure(f"{phrase!r} is part of a larger name")
        return _without(before, 1, after, phrase)
    if before:
        raise Unsure(f"what stands before {phrase!r} may need it")
    placed = words.begins_with_position(given[end:]) > 0
    text = _place_alone(after, phrase, emptied, placed=placed)
    return text[0].upper() + text[1:] if given[begin].text[0].isupper() else text


def contradict(edit: Edit, other: Edit, source: str) -> ValueError:
    """The sentence about two edits that change the same words of the source."""
    return ValueError(
        f"edits '{edit}' and '{other}' change the same words of the source {source!r}: keep one of them, give each a "
        "region of its own, or write '->' and what the picture becomes"
    )


def _place(edit: Edit, given: Sequence[Word], source: str) -> tuple[list[Word], int]:
    """The words that an edit names as the source has them, and where they begin."""
    sought = words.split(edit.old)
    found = words.find(given, sought)
    if not found and sought and words.is_determiner(sought[0].key) and len(sought) > 1:
        sought = sought[1:]
        found = words.find(given, sought)
    if len(found) == 1:
        return list(given[found[0] : found[0] + len(sought)]), found[0]
    inside = [word.text for word in given if re.match(re.escape(edit.old.casefold()) + "['’]", word.key)]
    if found:
        why = f"{edit.old!r} is in the source {source!r} {len(found)} times; name the one you mean in more words"
    elif inside:
        why = f"{edit.old!r} is in the source {source!r} as {inside[0]!r} alone; name it so"
    else:
        why = f"{edit.old!r} is not in the source {source!r}; name it as the source does"
    raise ValueError(f"edit '{edit}': {why}, or write '->' and what the picture becomes")


def _added(edit: Edit, source: str) -> str:
    """What is new stands after a comma, or beside the thing that it is said to be beside."""
    given, new = words.split(source), words.split(edit.new)
    bare = new[1:] if len(new) > 1 and words.is_determiner(new[0].key) else new
    if words.find(given, bare):
        raise ValueError(
            f"edit '{edit}': {edit.new!r} is in the source {source!r} already; say where another one is to be, such as "
            f"'+{edit.new} next to ...', or write '->' and what the picture becomes"
        )
    denied = [i for i, word in enumerate(given) if word.key in {"no", "without"}]
    if any(words.join(given[i + 1 : i + 3]).casefold().find(bare[-1].key) >= 0 for i in denied):
        raise ValueError(
            f"edit '{edit}': the source {source!r} says that there is none; write '->' and what the picture becomes"
        )
    alone = words.without_alone(given)
    for thing in (words.related(new), _object(new)):
        found = words.find(alone, thing)
        if len(found) > 1 or (found and len(words.find(alone, thing[-1:])) > 1):
            raise ValueError(
                f"edit '{edit}': {words.join(thing)!r} is in the source {source!r} more than once; write '->' and what "
                "the picture becomes"
            )
        if not found:
            continue
        # "+dog next to cat" of "a black cat": the whole name, if it is of the picture and of nothing else in it.
        name = things.name_around(alone, things.Span(found[0], found[0] + len(thing)))
        before = alone[: name.start]
        if words.presents(before) or before[-1].key in words.JOINS | {"with"}:
            ahead = new[: len(new) - len(thing)]
            if alone[name.start].key in words.ARTICLES and not words.is_determiner(new[0].key):
                ahead = [*([Word(words.article(words.spoken(new)))] * (not words.is_plural(words.head(new)))), *ahead]
            first = ahead[0]._replace(space=alone[name.start].space)
            return words.join([*before, first, *_spaced(ahead[1:]), *_spaced(alone[name.start :])])
    if new[0].key in _TAKING and len(new) > 1 and (end := _subject(alone)):
        rest = alone[end:] if _key(alone, end) in _MARKS else _spaced(alone[end:])
        return words.join([*alone[:end], *_spaced(new), *rest])  # "a cat wearing a hat on a beach"
    said = words.join(alone)
    mark = alone[-1].text if alone and alone[-1].key in _MARKS else ""
    return f"{said[: len(said) - len(mark)]}, {edit.new}{mark}"


def _subject(given: Sequence[Word]) -> int:
    """Where the name ends of the one thing that a caption names, and perhaps a place; 0 where it says more."""
    for i in range(len(given)):
        name = things.name_around(given, things.Span(i, i + 1))
        if name.start == i < name.end and words.presents(given[:i]) and (found := things.listed(given, name)):
            more = (words.JOINS | {"with"}) & set(words.keys(given[name.end :]))
            placed = _key(given, name.end) in {"", *_PLACES, *_MARKS}
            return name.end if placed and not more and len(found) == 1 else 0
    return 0


def _object(new: Sequence[Word]) -> Sequence[Word]:
    """What something new is said to be on, in or under: "a bed" of "a cat on a bed"."""
    at = [i for i, word in enumerate(new) if word.key in words.PREPOSITIONS]
    return new[at[0] + 1 :] if len(at) == 1 and at[0] > 0 else []


def _swapped(edit: Edit, given: Sequence[Word], begin: int, phrase: Sequence[Word]) -> list[Word]:
    new, before, after = words.split(edit.new), list(given[:begin]), given[begin + len(phrase) :]
    old = words.keys(phrase)
    # "heart->blue heart" says the heart's new colour, and the source may have said another one.
    modifier = _key(before, -1)
    described = len(new) > len(old) and words.keys(new[-len(old) :]) == old
    if described and modifier and not _ends_before_a_noun(modifier):
        if not (modifier in words.COLOURS and words.keys(new[: -len(old)])[-1] in words.COLOURS) or _joined(before):
            meant = words.join([*before, *_cased(new, given[begin:], before), *after])
            raise ValueError(
                f"edit '{edit}': the source {given and words.join(given)!r} says {modifier!r} of it, which may have to "
                f"go; name those words too, or write '->' and what the picture becomes, such as '->{meant}'"
            )
        before = before[:-1]
    if words.keys(new)[-1] in words.BACKDROPS and len(new) > 1:
        before, new = _against(before, new)
    for looks in (words.COLOURS, words.LOOKS):  # "ball->blue cube" of "a red ball"
        if len(phrase) == 1 and _key(before, -1) in looks and looks & set(words.keys(new[:-1])):
            raise _unfitting(edit)
    new, determiner = _cased(new, phrase, before), _key(before, -1)
    many, before_many = words.is_plural(words.head(new)), words.is_plural(words.head(phrase))
    following = {word.key for word in after}
    numbers = all(words.is_determiner(word.key) for word in phrase) and not (words.count(phrase) and words.count(new))
    if numbers or following & _OF_ITS_KIND or determiner in words.GENDERED:
        raise _unfitting(edit)
    if many != before_many:
        counted = {word.key for word in (*before[-2:], *phrase[:-1])} & (words.OF_MANY if before_many else words.OF_ONE)
        # Verbs agree with what does something, and not with what it has: "a cat with a bow is on a bed".
        first = _noun_phrase(given, begin, begin + len(phrase))[0]
        had = _key(given[:first], -1)
        owned = had in words.PREPOSITIONS - {"of"} or words.is_participle(had) or _is_relative(given[:first])
        is_object = owned and not following & words.RELATIVES
        verbs = _AGREES & (following | {word.key for word in before})
        if (not is_object and (verbs or not _stands_alone(after))) or (counted and not words.is_determiner(new[0].key)):
            raise _unfitting(edit)
    if before_many and not many and not words.is_determiner(new[0].key):
        owned = words.is_participle(determiner) or determiner in words.PREPOSITIONS - {"of"} or _is_relative(before)
        if owned:  # "wearing glasses" is "wearing a hat" then
            new = [Word(words.article(words.spoken(new)), new[0].space), new[0]._replace(space=" "), *new[1:]]
        elif determiner:
            raise _unfitting(edit)
    if words.is_determiner(new[0].key) and words.is_determiner(determiner):
        new = [new[0]._replace(space=before[-1].space), *new[1:]]
        before = before[:-1]
    elif determiner in words.ARTICLES and not words.is_determiner(new[0].key):
        own = before.pop()
        if many and not before_many:
            new = [new[0]._replace(space=own.space), *new[1:]]
        else:
            fitting = words.article(words.spoken(new))
            loud = words.join(phrase).isupper() and own.text.isupper()
            before.append(own._replace(text=fitting.upper() if loud else _as(own.text, fitting)))
    return [*before, *new, *after]


def _against(before: Sequence[Word], new: Sequence[Word]) -> tuple[list[Word], list[Word]]:
    """A background's name and the words before it: things are on one, and not "in", "at" or "under" it."""
    at = len(before) - words.is_determiner(_key(before, -1))
    if _key(before, at - 1) not in _NOT_BEHIND:
        return list(before), list(new)
    said = before[at - 1]._replace(text="on")
    bare = at == len(before) and not words.is_determiner(new[0].key)
    article = [Word(words.article(words.spoken(new)))] if bare else []
    return [*before[: at - 1], said, *before[at:]], [*article, *new]


def _unfitting(edit: Edit) -> ValueError:
    """The sentence about new words that those around them may not fit."""
    return ValueError(
        f"edit '{edit}': other words of the source may have to change with these; write '->' and what the picture "
        "becomes"
    )


def _stands_alone(after: Sequence[Word]) -> bool:
    """Whether no verb follows that one thing and several have in two forms."""
    right = _key(after, 0)
    return (
        right in ("", *words.JOINS, *_MARKS) or right in words.PREPOSITIONS or words.is_participle(right)
        or words.begins_with_relation(after) > 0 or words.is_past_participle(right)
    )  # fmt: skip


def _as(own: str, fitting: str) -> str:
    """An article with the capitals of the one that it replaces, which is as short."""
    if own.casefold() == fitting or own.islower():
        return own if own.casefold() == fitting else fitting
    return fitting.upper() if len(own) > 1 and own.isupper() else fitting.capitalize()


def _cased(new: Sequence[Word], phrase: Sequence[Word], before: Sequence[Word]) -> list[Word]:
    """New words with the space and the capitals of the ones that they replace."""
    small = all(word.text.islower() or not word.text.isalpha() for word in new)
    if small and all(word.text.isupper() for word in phrase) and len(words.join(phrase)) > 1:
        result = [word._replace(text=word.text.upper()) for word in new]
    elif small and all(word.text[:1].isupper() for word in phrase):
        result = [word._replace(text=word.text[:1].upper() + word.text[1:]) for word in new]
    elif small and not before and phrase[0].text[:1].isupper():
        result = [new[0]._replace(text=new[0].text[:1].upper() + new[0].text[1:]), *new[1:]]
    else:
        result = list(new)
    return [result[0]._replace(space=phrase[0].space if before else ""), *result[1:]]


def _noun_phrase(given: Sequence[Word], begin: int, end: int) -> tuple[int, int]:
    """The phrase with its article, number and adjectives: "a small red car" of "car"."""
    i = begin
    while i > 0 and not words.is_determiner(given[i].key) and not _ends_before_a_noun(given[i - 1].key):
        if words.is_verb(given, i - 1) or _is_relative(given[:i]):
            break
        i -= 1
    while i > 0 and words.is_determiner(given[i - 1].key):
        i -= 1
    # With no article before them, the words there may be a verb and not adjectives: "people watch birds".
    bare = i < begin and not words.is_determiner(given[i].key) and i > 0 and given[i - 1].key not in words.JOINS
    led = i > 0 and (given[i - 1].key in words.PREPOSITIONS or words.is_participle(given[i - 1].key))
    return (begin if bare and not led else i), end


def _is_doubtful(given: Sequence[Word], begin: int, end: int) -> bool:
    """Whether a participle right before a bare name may be of it: "a fat sleeping cat", "a man practicing yoga"."""
    i = begin - 1
    if i < 1 or not words.is_verb(given, i) or words.is_determiner(given[begin].key) or given[i].key in _TAKING:
        return False
    owner = next((word for word in reversed(given[:i]) if _begins_a_name(word.key)), None)
    # "A man walking dogs": one man is no plural.
    return not (owner and owner.key in words.ARTICLES and words.is_plural(given[begin:end]))


def _begins_a_name(key: str) -> bool:
    return _ends_before_a_noun(key) or words.is_participle(key)


def _goes_on(phrase: Sequence[Word], after: Sequence[Word]) -> bool:
    """Whether a list goes on after a phrase: "a cat, a dog and a fox", and not "a cat, asleep"."""
    following = [word.key for word in after[:3] if word.key not in words.JOINS]
    if _key(after, 0) not in words.JOINS or not following or words.is_participle(following[0]):
        return False
    if _is_of_the_picture(after):
        return False
    joined = "and" in (_key(after, 0), _key(after, 1))
    return joined or words.is_determiner(following[0]) or not words.is_determiner(phrase[0].key)


def _is_of_the_picture(after: Sequence[Word]) -> bool:
    """Whether what follows a thing is about the whole picture: "with a red background", ", the background is red"."""
    if words.begins_with_backdrop(after):
        return True
    name = things.name_around(after, things.Span(1, 2)) if _key(after, 0) == "," and len(after) > 2 else None
    return name is not None and name.start == 1 and _key(after, name.end) in {"is", "are"} and "and" not in {
        word.key for word in after[: name.end]
    }  # fmt: skip


def _frame(before: Sequence[Word]) -> int:
    """How many of the first words say where everything is: "on a beach, a cat", "at night there is a cat"."""
    if _key(before, 0) not in _PLACES:
        return 0
    for i in range(2, len(before) + 1):
        if _key(before, i - 1) == ",":
            return i
        if words.begins_with_presentation(before[i:]):
            return i
        if _key(before, i - 1) in words.JOINS or words.is_participle(_key(before, i - 1)):
            return 0
    return 0


def _agreeing(given: Sequence[Word], gone: things.Span) -> tuple[list[Word], set[int]]:
    """The caption with what is said of all things in a list put as it will be of one less, and where that stands."""
    listed = things.listed(given, gone)
    if len(listed) < 2 or listed[0].start:
        return list(given), set()
    at = listed[-1].end
    said = 1 if _key(given, at) in _AGREES else 0
    arranged = words.begins_with_arrangement(given[at:]) or words.begins_with_arrangement(given[at + said :])
    arranged += said if said and arranged else 0  # "are side by side"
    rest = list(given[at:])
    if len(listed) == 2:  # one alone stands in no row
        rest, arranged = rest[arranged:], 0
        other = next(span for span in listed if span != gone)
        if _key(rest, 0) in _SINGULAR and not _is_plural(given[other.start : other.end]):
            rest[0] = rest[0]._replace(text=_SINGULAR[rest[0].key])
    handled = set(range(at, at + arranged)) | ({at + arranged} if _key(rest, arranged) in _AGREES else set())
    return [*given[:at], *rest], handled


def _is_one(given: Sequence[Word]) -> bool:
    """Whether words begin with the name of one thing alone."""
    end = things.name_around(given, things.Span(0, 1)).end
    joined = _key(given, end) in words.JOINS and not _is_of_the_picture(given[end:])
    return not joined and not _is_plural(given[:end])


def _is_plural(name: Sequence[Word]) -> bool:
    """Whether a name, with its article, is of several things."""
    return bool(name) and (words.is_plural(words.head(name)) or name[0].key in words.OF_MANY)


def _of_others(after: Sequence[Word]) -> Sequence[Word]:
    """What follows the first thing of a caption, without what is said of that thing alone."""
    after = after[words.begins_with_position(after) :]
    if words.keys(after[:3]) == ["and", "nothing", "else"]:
        after = after[3:]
    if _key(after, 0) in {"is", "are"} and (
        _key(after, 1) in words.PREPOSITIONS or words.is_participle(_key(after, 1))
    ):
        after = after[1:]
        after = after[words.begins_with_position(after) :]
    if words.is_participle(_key(after, 0)) and words.begins_with_arrangement(after[1:]):
        after = after[1:]  # "two men standing side by side"
    if not words.begins_with_relation(after):  # "together" of "together with" begins one
        after = after[words.begins_with_arrangement(after) :]
    if "other" in words.keys(after):
        raise Unsure("other words speak of all of them")
    if not words.is_participle(_key(after, 0)):
        return after
    # "A dog sitting on a bench"; what a man rides is another thing.
    place = next((i for i, word in enumerate(after) if word.key in words.PREPOSITIONS | words.JOINS), len(after))
    plain = place <= 2 and not any(words.is_determiner(word.key) for word in after[:place])
    plain = plain and _key(after, place) != "at"  # "looking at the camera"
    return after[place:] if plain else after


def _worn(after: Sequence[Word]) -> int:
    """How many words after a thing say where its owner has it: "with a hat on", "with a bag in her hand"."""
    ends = len(after) < 2 or _key(after, 1) in words.JOINS | words.PREPOSITIONS | _MARKS | words.AUXILIARIES
    if _key(after, 0) == "on" and ends:
        return 1
    if far := words.begins_with_distance(after) or words.begins_with_position(after):
        return far
    if _key(after, 0) not in _PLACES:
        return 0
    name = things.name_around(after, things.Span(1, 2)).end if len(after) > 1 else 0
    if _key(after, 1) in words.POSSESSIVES and name > 2 and after[name - 1].key in words.BODY:
        return name
    return 2 if _key(after, 1) in words.PRONOUNS and name == 2 else 0


def _ends_before_a_noun(key: str) -> bool:
    """Whether no adjective can be further left than this word."""
    return words.is_determiner(key) or key in words.JOINS or key in words.PREPOSITIONS or key in _MARKS


def _joined(before: Sequence[Word]) -> bool:
    """Whether an adjective is one of two: "a black and white heart"."""
    return _key(before, -2) in words.JOINS


def _objects(before: Sequence[Word]) -> bool:
    """Whether a list surely begins after these words: "holding a cup and a book", "next to a cat and a dog"; in
    "a cat on a chair and a dog" the dog may be no seat.
    """
    left = _key(before, -1)
    return words.is_participle(left) or left == "with" or bool(words.ends_in_relation(before))


def _check_noun_phrase(found: Sequence[Word], phrase: str) -> None:
    """Raise Unsure where a verb may stand between an article and a thing: "A chef cooks eggs"."""
    inner = [word.key for word in found if not words.is_determiner(word.key)][:-1]
    if (found[0].key in words.ARTICLES and words.is_plural(words.head(found))) or (
        len(found) > len(words.split(phrase)) and any(words.is_plural([Word(key)]) for key in inner)
    ):
        raise Unsure(f"what stands before {phrase!r} may need it")


def _is_relative(before: Sequence[Word]) -> bool:
    """Whether what follows is all that a thing is said to do: "a cat that wears"."""
    verb = _key(before, -1)
    return (
        len(before) > 2 and _key(before, -2) in words.RELATIVES and verb not in words.PREPOSITIONS | words.AUXILIARIES
    )


def _stands_for_a_thing(given: Sequence[Word], i: int) -> bool:
    """Whether the i-th word is a pronoun; "one" before a noun is a number."""
    counted = _key(given, i) == "one" and _key(given, i + 1).isalpha() and not _ends_before_a_noun(_key(given, i + 1))
    return _key(given, i) in words.PRONOUNS and not (counted and _key(given, i + 1) not in words.AUXILIARIES)


def _listed(
    before: Sequence[Word], after: Sequence[Word], gone: Sequence[Word], others: Set[str], *, with_and: bool,
    last: bool = False,
) -> str:  # fmt: skip
    """A list without one of its things; the word that joined it went with it, and "and" may have to come again.

    `others` are the words around it but for what agrees with how many are left.
    """
    before, after, name = list(before), list(after), words.join(gone)
    if _PLURAL & others or others & (words.POSSESSIVES - {"its"}):
        raise Unsure(f"other words speak of {name!r} too")
    if last:
        rest = after[words.begins_with_arrangement(after) :]
        placed = _key(rest, 0) in words.PREPOSITIONS and any(word.key in _PLACES for word in _unplaced(before))
        doubtful = placed or (_key(rest, 0) == "in" and _key(rest, 1) != "the") or _key(rest, 0) == "with"
        if doubtful and not _is_of_the_picture(rest):
            raise Unsure(f"what follows {name!r} may be about it")
        if _key(before, -1) == ",":
            before.pop()  # that of ", and"
        commas = [i for i, word in enumerate(before) if word.text == ","]
        if with_and and commas:
            following = _key(before, commas[-1] + 1)
            if words.is_participle(following) or words.is_past_participle(following):
                raise Unsure("a comma begins what is said of one thing")
            before[commas[-1]] = Word("and")
        return _tidy([*before, *after])
    if _key(after, 0) in words.JOINS:
        with_and, after = True, after[1:]  # ", and"
    if with_and and _key(before, -1) == ",":
        before[-1] = Word("and") if not any(word.key == "and" for word in after[:4]) else before[-1]
    commas = [i for i, word in enumerate(after) if word.text == ","]
    if len(commas) == 1 and _key(after, commas[0] + 1) == "and" and _key(before, -1) != ",":
        del after[commas[0]]  # "olives, and peppers": two need no comma
    if not words.is_determiner(_key(after, 0)) and gone[0].key in words.ARTICLES and not words.is_plural(after[:1]):
        if len(after) > 1 and not _ends_before_a_noun(after[1].key):  # "a salt and pepper shaker"
            raise Unsure(f"what follows {name!r} may be about it")
        after = [Word(words.article(words.spoken(after))), *after]  # "a knife and apple": they share it
    return _tidy([*before, *after], capital=not before and gone[0].text[:1].isupper())


def _unplaced(given: Sequence[Word]) -> list[Word]:
    """Words without those that say where in the picture a thing is."""
    result, i = list[Word](), 0
    while i < len(given):
        placed = words.begins_with_position(given[i:])
        result += given[i : i + 1] if not placed else []
        i += placed or 1
    return result


def _without(before: Sequence[Word], gone: int, after: Sequence[Word], phrase: str) -> str:
    """What is left without the last words before a thing that went, which said how it belongs there."""
    left = list(before[:-gone])
    while _key(left, -1) in words.JOINS | {"while", "when"}:  # "sitting on a bench and reading a book"
        left.pop()
    verb, right = _key(left, -1), _key(after, 0)
    act = words.is_participle(_key(before, -1)) and (right in _OF_AN_ACT or _key(before, -1) in _MOVING)
    of_an_act = act and (right != "at" or words.is_determiner(_key(after, 1)))  # "at night" is no act
    of_others = words.begins_with_relation(after) or _is_of_the_picture(after)
    if right in words.PREPOSITIONS and (len(after) == 1 or of_an_act) and not of_others:
        raise Unsure(f"what follows {phrase!r} may be about it")
    if right == "and" and words.is_participle(_key(after, 1)):  # "riding a bike and wearing a hat"
        after = after[1:]
    relative = verb in words.AUXILIARIES and _key(left, -2) in words.RELATIVES
    if relative and words.is_participle(_key(before, -gone)):  # "a cat that is wearing a hat"
        return _tidy([*left[:-2], *after])
    if verb in {"is", "are"} and gone == words.ends_in_relation(before):  # "a cat is to the left of a dog"
        return _tidy([*left[:-1], *after])
    if verb in words.AUXILIARIES or verb in {"not", *words.RELATIVES} or words.is_past_participle(verb):
        # "a bird perched on a branch", "a girl is eating an apple": the verb was about it.
        meant = left[:-1]
        while _key(meant, -1) in words.AUXILIARIES | words.RELATIVES:
            meant = meant[:-1]
        raise Unsure(f"{verb!r} may be about {phrase!r}", _tidy([*meant, *after]) if meant else "")
    return _tidy([*left, *after])


def _place_alone(after: Sequence[Word], phrase: str, emptied: str | None, *, placed: bool = False) -> str:
    """What is left of a caption whose first thing goes: the place that it was in. `placed`: where in it was said."""
    if not [word for word in after if word.key not in _MARKS]:
        raise Nothing(f"nothing is left beside {phrase!r}")
    right = _key(after, 0)
    if right == ",":  # "a cat, the background is blue"
        name = things.name_around(after, things.Span(1, 2))
        is_what = list(after[name.end + 1 :])
        if emptied is None or not is_what:
            return _tidy(after)
        noun = after[name.end - 1 : name.end] if words.keys(is_what)[-1] in words.COLOURS else []
        return emptied.format(words.join([*is_what[words.is_determiner(is_what[0].key) :], *noun]))
    backdrop = words.begins_with_backdrop(after)
    if not backdrop and (relation := words.begins_with_relation(after)):
        return _tidy(after[relation:])
    if not backdrop and right not in _PLACING:
        raise Unsure(f"what follows {phrase!r} may be about it")
    if right in {"in", "inside"} and _key(after, 1) != "the" and not (placed or backdrop):
        raise Unsure(f"what follows {phrase!r} may be what it wears")
    place = list(after[3 if words.keys(after[:3]) == ["in", "front", "of"] else 1 :])
    if backdrop and place and (place[-1].key not in words.BACKDROPS or _key(after, backdrop - 3) == "in"):
        place = list(after[1 : things.name_around(after, things.Span(1, 2)).end])  # of "with a beach behind"
    if not [word for word in place if word.key not in _MARKS]:
        raise Unsure(f"what follows {phrase!r} may be about it")  # "a hat on"
    bare = not words.is_determiner(_key(place, 0))
    if emptied is None and bare and right in {"at", "in", "on"}:
        if right != "at" and _key(place, 0) not in words.COLOURS:
            raise Unsure(f"what follows {phrase!r} may be about it")  # "on foot"
        return _tidy(after)  # "at night", "on green"
    if emptied is None or any(word.key in words.PREPOSITIONS or word.text == "," for word in place):
        return _tidy(place)
    if bare and words.keys(place)[-1] in words.COLOURS:  # "on green"
        place.append(Word(words.BACKDROP))
    the = _key(place, 0) == "the"
    said = emptied.format(words.join(place if bare else place[1:]))
    first, _, rest = said.partition(" ")
    return rest if the and first in words.ARTICLES else said


def _tidy(left: Sequence[Word], *, capital: bool = False) -> str:
    """Words as a caption: no mark at its beginning, and a capital if the source began with one."""
    kept = list(left)
    while kept and kept[0].text in {",", *_MARKS}:
        kept = kept[1:]
    text = words.join([kept[0]._replace(space=""), *kept[1:]]) if kept else ""
    if not text:
        raise Unsure("nothing is left")
    return text[0].upper() + text[1:] if capital else text


def _spaced(given: Sequence[Word]) -> list[Word]:
    """Words that follow others."""
    return [given[0]._replace(space=" " if not given[0].space else given[0].space), *given[1:]] if given else []


def _key(given: Sequence[Word], i: int) -> str:
    """The i-th word, in small letters; "" where there is none."""
    return given[i].key if -len(given) <= i < len(given) else ""
