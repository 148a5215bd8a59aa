"""What the network is told of several edits of one caption, from the captions after each of them alone.

Two captions that differ in one place say what changes there: a thing that another takes the place of, one that goes,
one that comes. It is all that is known of an edit, so that "cat->dog" and the caption after it are one and the same.
"""

from collections.abc import Mapping, Sequence, Set
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import NamedTuple

from ledits.language import things, words
from ledits.language.targets import Nothing, Unsure, removed
from ledits.language.things import Span
from ledits.language.words import Word
from ledits.method.told import Told

# How a caption may say that nothing is left in a place.
_EMPTIED = (None, "an empty {}")
# What says that one thing is before, behind or near another, which may be large: "a castle near a lake".
_BEFORE = frozenset({"front", "behind", "by", "near"})
# A thing's longest name, in words, articles and adjectives included.
_LONGEST = 6


class Change(NamedTuple):
    """Words of the source, from `start` to before `end`, and what takes their place."""

    start: int
    end: int
    new: tuple[Word, ...]

    @property
    def span(self) -> Span:
        return Span(self.start, self.end)


class Reading(NamedTuple):
    """What the caption after an edit changes in the source."""

    changes: list[Change]
    gone: str = ""  # the thing that it takes away, with nothing in its place
    emptied: str | None = None  # how its place is said to be empty
    item: Change | None = None  # the one thing, among things that are joined by "and", that it changes
    described: Change | None = None  # the one thing that it says more of, and leaves the rest of it
    beside: bool = False  # whether it puts a thing of its own beside the others
    comes: bool = False  # whether a thing comes, there or elsewhere: "wearing a hat", and not a colour


def told(source: str, targets: Sequence[str], emptied: str | None = None) -> list[Told]:
    """What the network is told of each edit of `source`, of the captions after each edit alone.

    First an edit is told of itself, its clearest direction while the picture is all but noise. Once the picture shows
    what the other edits did, the source is wrong about it. Later steps move from the caption after all other edits
    to the caption after all of them. A network mixes up things that one caption joins by "and", and draws one in
    another's place. So one of several edits is told of its own thing alone, in the place of each that is joined to it;
    and a thing that goes is told, at first, of what is left without any of them. `emptied` is how a model says that a
    place is empty, such as "an empty {}". A caption that changes several things is told in its parts.
    """
    split = [parts(source, target, emptied) for target in targets]
    each = iter(_told(source, [part for found in split for part in found], emptied))
    result = list[Told]()
    for target, found in zip(targets, split, strict=True):
        of = [next(each) for _ in found]
        result.append(of[0] if len(of) == 1 else Told.of(target, source)._replace(parts=tuple(of)))
    return result


def _told(source: str, targets: Sequence[str], emptied: str | None) -> list[Told]:
    """What is told of each edit that changes one thing."""
    given = words.split(source)
    readings = [read(source, target) for target in targets]
    every = after(given, readings)
    others = [after(given, [*readings[:k], *readings[k + 1 :]]) for k in range(len(readings))]
    clear = [_beside_nothing(given, r.changes[0], emptied) if r.beside else source for r in readings]
    bare = [_without_worn(given, r, emptied) for r in readings]
    if every is None:
        return [Told.of(t, source)._replace(clear=c, bare=b) for t, c, b in zip(targets, clear, bare, strict=True)]
    apart = _apart(given, readings)
    result = list[Told]()
    for k, (reading, target) in enumerate(zip(readings, targets, strict=True)):
        # Beside another edit what is about a thing that goes may be that edit's.
        alone = bool(reading.gone) and len(readings) == 1
        said = (target, target, every, others[k] or source, clear[k], source, bare[k])
        plain = Told(*said, goes=bool(reading.gone), wide=alone, comes=reading.comes)
        if k in apart:
            joined = _joined(given, {*apart.values()}, apart[k])
            plain = plain._replace(thing=len(joined) > 1 and things.is_listed(given, apart[k]))
            plain = _alone(given, readings, apart, k, joined, plain, emptied)
        ground = _is_background(given, reading, worn=bare[k] != source)
        plain = plain._replace(ground=bool(ground), thing=plain.thing or ground is False)
        if len(readings) == 1 and reading.described:
            plain = plain._replace(parts=_worn(given, reading.described, plain))
        result.append(plain)
    return result


def _is_background(given: Sequence[Word], reading: Reading, *, worn: bool) -> bool | None:
    """Whether what a reading changes is called a background, as in "a red background" or "the background is red"; False
    for a thing where another one is called so, and None where words don't tell.
    """
    if (
        reading.gone
        or not reading.changes
        or not (start := reading.changes[0].start) < (end := reading.changes[-1].end)
    ):
        return None
    name = things.name_around(given, Span(end - 1, end))
    if set(words.keys(given[start : name.start])) - words.PREPOSITIONS:
        return None  # more than "on a red background", of which "at night" may be made
    called, before = words.backgrounds(given), given[: name.start]
    said = bool(before) and before[-1].key in words.AUXILIARIES
    subject = things.name_around(given, Span(name.start - 2, name.start - 1)) if said else name
    new = words.backgrounds(reading.changes[-1].new)
    if new or any(i in range(*name) or i in range(*subject) for i in called):
        return True
    determined = words.is_determiner(given[name.start].key) and before and before[-1].key in {*words.JOINS, "with"}
    # "A sunny street" that is rainy may be all of the picture.
    itself = end == name.end or {*words.keys(given[start:end])} <= words.COLOURS
    thing = (words.presents(before) or determined) and itself and given[name.end - 1].key not in words.PICTURES
    apart = (worn or thing) and not words.begins_with_distance(given[name.end :])
    return False if apart and words.BACKDROPS & {*words.keys(given)} else None


def _without_worn(given: Sequence[Word], reading: Reading, emptied: str | None) -> str:
    """The source without what another thing wears and that changes; the source itself where nothing is so worn."""
    source = words.join(given)
    if not reading.comes or len(reading.changes) != 1 or not (worn := reading.changes[0]).start < worn.end:
        return source
    name = things.name_around(given, worn.span)
    before, behind = given[: name.start], given[name.end :]
    by = before[-1].key if before else ""
    # "A cat that wears a hat": the verb may be taken for the name's.
    verb = 2 if words.RELATIVES & {*words.keys(before[-2:-1])} else int(words.is_participle(by))
    acts = bool(verb) or bool(words.RELATIVES & {*words.keys(given[slice(*name)])})
    if not worn.new or not (acts or by in {"with", "in"}):
        return source  # "on a beach"
    if acts and {*words.keys(behind[:1])} & words.JOINS and any(words.is_determiner(w.key) for w in behind[1:2]):
        # "Wearing a hat and a dog": it may wear what follows, and that is there.
        left = before[: len(before) - verb]
        return source if left and left[-1].key in words.AUXILIARIES else words.join([*left, *behind])
    try:
        return removed(source, words.join(given[slice(*worn.span)]), emptied)
    except Unsure:
        return source


def _worn(given: Sequence[Word], described: Change, plain: Told) -> tuple[Told, ...]:
    """What is told where one of several things is to wear or be something, and its place is to be found.

    "A pig wearing a hat and a fox" puts the hat on either. What all of them wear, the region keeps off the fox.
    """
    joined = things.listed(given, described.span)
    named = all(words.is_determiner(given[i.start].key) or words.is_plural(given[i.start : i.end]) for i in joined)
    if len(joined) < 2 or not named or _between(given, joined) & _BEFORE:
        return ()
    own, worn = (_filled(given, joined, thing, []) for thing in (given[slice(*described.span)], described.new))
    stays = [_filled(given, joined, given[i.start : i.end], []) for i in joined if i != described.span]
    if own is None or worn is None:
        return ()
    found = (text for text in stays if text)
    return (Told(worn, worn, worn, own, own, own, own, thing=True, comes=plain.comes, stays=tuple(found)),)


def _between(given: Sequence[Word], joined: Sequence[Span]) -> set[str]:
    """The words that join things."""
    return {word.key for one, other in zip(joined, joined[1:], strict=False) for word in given[one.end : other.start]}


def _apart(given: Sequence[Word], readings: Sequence[Reading]) -> dict[int, Span]:
    """The things that edits change, by the edits' numbers, where each is named by itself: what edits change apart has
    places apart.
    """
    return {k: span for k, reading in enumerate(readings) if (span := _named(given, reading))}


def _named(given: Sequence[Word], reading: Reading) -> Span | None:
    """The whole name of the one thing that a reading changes, if it is no place."""
    if reading.item:  # "a basket of apples and oranges" lists no things
        return reading.item.span if things.listed(given, reading.item.span) else None
    if len(reading.changes) != 1:
        return None
    span, new = reading.changes[0].span, reading.changes[0].new
    if reading.gone:
        at, new = words.find(given, words.split(reading.gone))[0], ()
        span = Span(at, at + len(words.split(reading.gone)))
    name = things.name_around(given, span)
    if not span.start < span.end or name.start > span.start or span.end != name.end:
        return None
    before = given[: name.start]
    stands = words.presents(before) or before[-1].key in {*words.JOINS, "with"} or words.ends_in_relation(before) > 0
    place = {given[name.end - 1].key, *words.keys(new[-1:])} & words.BACKDROPS or given[
        name.end - 1
    ].key in words.PICTURES
    return name if stands and not place and words.is_determiner(given[name.start].key) else None


def _joined(given: Sequence[Word], apart: Set[Span], thing: Span) -> list[Span]:
    """The things that one is joined to, each by itself, and itself: not what it is before or behind, "in front of a
    house", which may be a place. What one thing is "with" is joined where edits change all of it apart, or where it
    says how they stand; "a man with a beard and a hat" has both.
    """
    joined = things.listed(given, thing) or [thing]
    chain = _chain(given, thing)
    holder = _holder(given, chain[0])
    stand = words.begins_with_arrangement(given[chain[-1].end :]) > 0
    if len(chain) > len(joined) and (
        stand or apart >= {*chain} or holder and given[holder.end - 1].key in words.BACKDROPS
    ):
        joined = chain
    groups = list[list[Span]]()
    for item in joined:
        if not groups or _between(given, [groups[-1][-1], item]) & _BEFORE:
            groups.append([])
        groups[-1].append(item)
    return next(group for group in groups if thing in group)


def _chain(given: Sequence[Word], thing: Span) -> list[Span]:
    """The names that are joined to one, by "and" or by where they are, and itself."""
    chain = [thing]
    while (start := chain[0].start) > 1 and given[start - 1].key in words.JOINS:
        name = things.name_around(given, Span(start - 2, start - 1))
        stands = words.presents(given[: name.start]) or given[name.start - 1].key in {*words.JOINS, "with"}
        if name.end != start - 1 or not stands or not _is_one_of_many(given, name):
            break
        chain.insert(0, name)
    while (gap := things.between(given[chain[-1].end :])) and chain[-1].end + gap < len(given):
        at = chain[-1].end + gap
        name = things.name_around(given, Span(at, at + 1))
        # "A man with a mustache next to a tree": he is, and not the mustache.
        his = _holder(given, chain[0]) and not {*words.keys(given[chain[-1].end : at])} <= words.JOINS
        if name.start != at or not _is_one_of_many(given, name) or his:
            break
        chain.append(name)
    return chain


def _is_one_of_many(given: Sequence[Word], name: Span) -> bool:
    return words.is_determiner(given[name.start].key) and given[name.end - 1].key not in words.BACKDROPS


def _holder(given: Sequence[Word], thing: Span) -> Span | None:
    """What a thing is said to be "with", which may be its owner: "a man with a beard"."""
    start = thing.start
    held = start > 1 and given[start - 1].key == "with" and not words.ends_in_relation(given[:start])
    return things.name_around(given, Span(start - 2, start - 1)) if held else None


def _away(given: Sequence[Word], apart: Mapping[int, Span], k: int, joined: Sequence[Span]) -> list[int]:
    """The other edits whose things are surely not what that of edit k is part of, or before or behind."""
    holder = {j: _holder(given, _chain(given, (joined if j == k else [span])[0])[0]) for j, span in apart.items()}
    # "A man with a beard", and what another one holds: that goes with its owner.
    found = (j for j in apart if j != k and apart[j] not in joined and apart[j] != holder[k])
    found = (j for j in found if holder[j] in (None, holder[k], apart[k]))
    return [j for j in found if not _between(given, sorted([apart[j], apart[k]])) & _BEFORE]


def _taken_away(given: Sequence[Word], span: Span, emptied: str | None) -> Reading | None:
    """The edit that takes a thing away; None where no rule is certain of it."""
    source = words.join(given)
    try:
        return read(source, removed(source, words.join(given[slice(*span)]), emptied))
    except Unsure:
        return None


def _alone(
    given: Sequence[Word], readings: Sequence[Reading], apart: Mapping[int, Span], k: int, joined: Sequence[Span],
    plain: Told, emptied: str | None,
) -> Told:  # fmt: skip
    """What is told of an edit of one of several things, in a caption that says nothing of what others change."""
    reading, of = readings[k], apart[k]
    others = sorted({*apart.values(), *joined})
    if len(others) < 2:
        return plain
    stays = [_filled(given, joined, given[slice(*i)], []) for i in joined if i not in apart.values()]
    own = _filled(given, others, given[slice(*of)], [])
    result = plain._replace(own=own or plain.own, stays=tuple(text for text in stays if text))
    rest = [r for j, r in enumerate(readings) if j != k and apart.get(j) not in joined]
    if reading.gone:
        away = {j: _taken_away(given, apart[j], emptied) for j in _away(given, apart, k, joined)}
        gone = [found for found in away.values() if found]
        rest = [*gone, *(r for j, r in enumerate(readings) if r in rest and not away.get(j))]
        empty, then = (_without(given, joined, reading.emptied or emptied, each) for each in (gone, rest))
        return result._replace(early=plain.early if empty is None else empty, late=plain.late if then is None else then)
    if len(joined) < 2 or any(given[item.start].key in words.POSSESSIVES for item in joined):
        return result  # "a man and his dog" are no two dogs
    new = _whole(given, reading.changes[0], of).new
    # Once the picture shows what goes, it is no more there.
    going = {apart[j]: r for j, r in enumerate(readings) if j in apart and r.gone and apart[j] in joined}
    left = [item for item in joined if item not in going]
    early, late = _filled(given, joined, new, []), _filled(given, left, new, [*rest, *going.values()])
    away = plain.late if len(left) > 1 else plain.away
    return result._replace(early=early or plain.early, late=late or plain.late, away=away)


def parts(source: str, target: str, emptied: str | None = None) -> list[str]:
    """The captions after each of the edits that `target` is made of, alone; `target` itself where it is but one.

    Things that both captions list are compared in order, and what stands around the lists by itself. Parts that do not
    make the target again when they are put together are none.
    """
    old, new = words.split(source), words.split(target)
    if (gone := read(source, target).gone) and not words.JOINS & set(words.keys(words.split(gone))):
        return [target]  # one thing goes, and what is said of it and others agrees with those that are left
    if any(_is_of_one_name(given, _changes(given, new)) for given in (old, words.without_alone(old))):
        return [target]  # what one thing becomes is one edit, and so is what comes where nothing else was
    there, wanted = _list(old), _list(new)
    if not there or not wanted:
        return [target]
    found = list[str]()
    was, becomes = ([tuple(words.keys(text[i:j])) for i, j in spans] for text, spans in ((old, there), (new, wanted)))
    for kind, i, j, a, b in SequenceMatcher(None, was, becomes, autojunk=False).get_opcodes():
        if kind == "insert" or b - a > j - i:
            return [target]  # what is new beside the others is said of one of them
        if kind == "equal":
            continue
        for thing, other in zip_longest(there[i:j], wanted[a:b]):
            if other is not None:
                found.append(_filled(old, [thing], new[other.start : other.end], []) or target)
            elif (left := _without(old, [thing], emptied)) is not None:
                found.append(left)
    around = (
        (old[: there[0].start], new[: wanted[0].start], 0),
        (old[there[-1].end :], new[wanted[-1].end :], there[-1].end),
    )
    for before, behind, at in around:
        if before and not behind:
            return [target]  # a place is not left out alone: "an empty beach"
        if _changes(before, behind):
            found.append(words.join([*old[:at], *behind, *old[at + len(before) :]]))
    whole = together(source, found) if len(found) > 1 else None
    return found if whole is not None and words.keys(words.split(whole)) == words.keys(new) else [target]


def _is_of_one_name(old: Sequence[Word], changes: Sequence[Change]) -> bool:
    """Whether one change is all, of the name of one thing or between names, and not of how the picture is presented."""
    if len(changes) != 1:
        return False
    (change,) = changes
    name = things.name_around(old, change.span) if change.start < change.end else change.span
    inside = name.start <= change.start and change.end <= name.end
    return inside and not any(words.presents(change.new[:i]) for i in range(1, len(change.new)))


def _list(given: Sequence[Word]) -> list[Span]:
    """The things that a caption lists, if it begins with them or with what presents them or says where they are."""
    for i in range(len(given)):
        name = things.name_around(given, Span(i, i + 1))
        if name.start == i < name.end and (found := things.listed(given, name)):
            begins = words.presents(given[:i]) or given[0].key in words.PREPOSITIONS
            return found if begins and found[0] == name else []
    return []


def conflicts(source: str, targets: Sequence[str]) -> tuple[int, int] | None:
    """The numbers of two edits that change the same words in different ways; None where there are no such."""
    given, readings = words.split(source), [read(source, target) for target in targets]
    pairs = [(j, k) for k in range(len(readings)) for j in range(k)]
    return next((pair for pair in pairs if after(given, [readings[k] for k in pair]) is None), None)


def together(source: str, targets: Sequence[str]) -> str | None:
    """The caption after all edits, of those after each alone; None where two change the same words."""
    return after(words.split(source), [read(source, target) for target in targets])


def read(source: str, target: str) -> Reading:
    """What the caption `target` changes in `source`."""
    old, new = words.split(source), words.split(target)
    changes = _changes(old, new)
    for begin, end in _phrases(old, changes):
        for emptied in _EMPTIED:
            phrase = words.join(old[begin:end])
            if _tells(source, phrase, emptied, new):
                listed = things.is_listed(old, Span(begin, end))
                return Reading(changes, phrase, emptied, Change(begin, end, ()) if listed else None)
    if len(changes) != 1:  # "only a cat, a bow" is no more only a cat
        added = _changes(words.without_alone(old), new)
        return Reading(changes, comes=len(added) == 1 and added[0].start == added[0].end)
    if changes[0].start == changes[0].end:
        beside = next(filter(_is_beside, _shifted(old, changes[0])), None)
        if beside is None:
            return Reading(changes, described=_described(old, changes[0]), comes=_comes(old, changes[0]))
        return Reading([beside], beside=True, comes=True)
    item, end = _swapped(old, changes[0]), things.name_around(old, changes[0].span).end
    # What another thing wears may be worn elsewhere: a hat in the place of sunglasses.
    return Reading(changes, item=item, comes=item is None and changes[0].end == end and not _is_said(old, changes[0]))


def after(given: Sequence[Word], readings: Sequence[Reading], emptied: str | None = None) -> str | None:
    """The caption after several edits, in whatever order; None where two change the same words in different ways.

    `emptied` is how a place is said to be empty, if none of the edits says it.
    """
    gone = [reading for reading in readings if reading.gone]
    changes = {change for reading in readings if not reading.gone for change in reading.changes}
    if len(gone) == 1 and (text := _changed(given, changes | set(gone[0].changes))) is not None:
        return text
    text = _changed(given, changes)
    if not gone or text is None:
        return text
    # Which words went can be told in several ways where others like them stay: "a red heart and a blue heart".
    for phrase in {reading.gone for reading in gone}:
        at = words.find(given, words.split(phrase))[0]
        if any(change.start < at + len(words.split(phrase)) and at < change.end for change in changes):
            return None
    emptied = next((reading.emptied for reading in gone if reading.emptied), emptied)
    try:
        for phrase in sorted({reading.gone for reading in gone}):
            text = removed(text, phrase, emptied)
    except Unsure:
        return None
    return text


def _changed(given: Sequence[Word], changes: Set[Change]) -> str | None:
    """The caption after changes; None where two are of the same words."""
    result, at = list[Word](), 0
    for change in sorted(changes, key=lambda c: (c.start, c.end, words.join(c.new))):
        if change.start < at:
            return None
        result += [*given[at : change.start], *change.new]
        at = change.end
    return words.join([*result, *given[at:]])


def _changes(old: Sequence[Word], new: Sequence[Word]) -> list[Change]:
    matcher = SequenceMatcher(None, words.keys(old), words.keys(new), autojunk=False)
    return [
        Change(i, j, tuple(new[a:b])) for kind, i, j, a, b in matcher.get_opcodes() if kind != "equal"
    ]  # fmt: skip


def _phrases(old: Sequence[Word], changes: Sequence[Change]) -> list[tuple[int, int]]:
    """Where the name of a thing may lie that changes take away: the likeliest first, and the shortest."""
    taken = [change for change in changes if change.start < change.end]
    if not taken or sum(len(change.new) for change in changes) > _LONGEST:
        return []
    low, high = max(0, taken[0].start - 2), min(len(old), taken[-1].end + 1)
    spans = [(i, j) for i in range(low, high) for j in range(i + 1, min(i + _LONGEST, high) + 1)]
    listed = [span for span in spans if things.is_listed(old, Span(*span))]  # "owl", and not "the left of owl"
    named = [(i, j) for i, j in spans if words.is_determiner(old[i].key) and j > i + 1]
    return sorted(spans, key=lambda span: (span not in listed, span not in named, span[1] - span[0]))


def _tells(source: str, phrase: str, emptied: str | None, new: Sequence[Word]) -> bool:
    """Whether `new` is the source without what `phrase` names."""
    try:
        return words.keys(words.split(removed(source, phrase, emptied))) == words.keys(new)
    except Unsure:
        return False


def _shifted(old: Sequence[Word], added: Change) -> list[Change]:
    """All places where the same words may have come in: "a dog and" before "a cat", or "dog and a" before "cat"."""
    start, new = added.start, list(added.new)
    while start > 0 and old[start - 1].key == new[-1].key:
        start, new = start - 1, [old[start - 1], *new[:-1]]
    ways = [Change(start, start, tuple(new))]
    while start < len(old) and old[start].key == new[0].key:
        start, new = start + 1, [*new[1:], old[start]]
        ways.append(Change(start, start, tuple(new)))
    return ways


def _is_beside(change: Change) -> bool:
    """Whether words that are put in name a thing of its own: "and a star", "a star to the left of"."""
    return "and" in (change.new[0].key, change.new[-1].key) or words.ends_in_relation(change.new) > 0


def _swapped(old: Sequence[Word], change: Change) -> Change | None:
    """A change with the whole names of both things, articles and all, where the old one is listed with others."""
    span = things.name_around(old, change.span)
    whole = _whole(old, change, span)
    inside = span.start <= change.start and change.end <= span.end and bool(whole.new)
    if not inside or things.name_around(whole.new, Span(0, len(whole.new))) != (0, len(whole.new)):
        return None
    return whole if things.is_listed(old, span) and whole.new[-1].key not in words.BACKDROPS else None


def _whole(old: Sequence[Word], change: Change, name: Span) -> Change:
    """A change of part of a name as one of all of it."""
    return Change(*name, (*old[name.start : change.start], *change.new, *old[change.end : name.end]))


def _is_said(old: Sequence[Word], change: Change) -> bool:
    """Whether a change is of what is said of a thing, and of no thing itself: "the cat is black"."""
    name = things.name_around(old, change.span)
    after_verb = bool({*words.keys(old[: name.start])[-1:]} & words.BEING)
    return after_verb and not any(words.is_determiner(word.key) for word in (old[name.start], *change.new[:1]))


def _comes(old: Sequence[Word], added: Change) -> bool:
    """Whether words that are put in name a thing: not a colour of one, nor when or where the picture is."""
    first = next((word.key for word in added.new if word.key not in words.JOINS), "")
    inside = not added.start or added.start < things.name_around(old, Span(added.start - 1, added.start)).end
    return not inside and (first == "with" or first not in words.PREPOSITIONS)


def _described(old: Sequence[Word], added: Change) -> Change | None:
    """Words that are put in with the whole name of the thing that they say more of."""
    if not added.start:
        return None
    name = things.name_around(old, Span(added.start - 1, added.start))
    ends = {word.key for word in (added.new if added.start < name.end else (added.new[0], added.new[-1]))}
    if ends & words.JOINS:
        return None  # ", a hat" is of the whole picture
    has = words.is_participle(added.new[0].key) or added.new[0].key in words.RELATIVES | {"with"}
    if not name.start < added.start <= name.end or not (added.start < name.end or has):
        return None  # "at night" is neither
    return Change(*name, (*old[name.start : added.start], *added.new, *old[added.start : name.end]))


def _beside_nothing(given: Sequence[Word], added: Change, emptied: str | None) -> str:
    """The source without the things that a new one is put beside; the empty prompt where no rule is certain of it."""
    # What is new stands before them, "a star to the left of" a cat, or behind them, "a cat" and "and a star".
    ahead = added.new[0].key not in words.JOINS
    at = Span(added.start, added.start + 1) if ahead else Span(added.start - 1, added.start)
    name = things.name_around(given, at)
    return _without(given, things.listed(given, name) or [name], emptied) or ""


def _filled(given: Sequence[Word], items: Sequence[Span], thing: Sequence[Word], rest: Sequence[Reading]) -> str | None:
    """The source with `thing` in the place of each of `items`, after the edits of `rest`."""
    placed = [
        Change(i.start, i.end, (thing[0]._replace(space=given[i.start].space), *thing[1:])) for i in items
    ]  # fmt: skip
    return after(given, [Reading(placed), *rest])


def _without(
    given: Sequence[Word], items: Sequence[Span], emptied: str | None, rest: Sequence[Reading] = ()
) -> str | None:  # fmt: skip
    """The source after the edits of `rest` and without what it lists, a background alone where it says no more;
    None where no rule is certain of it.
    """
    first, end = items[0], items[-1].end
    # The whole list goes as its first thing would by itself.
    name = given[first.start : first.end]
    verb = int(given[end : end + 1] != [] and given[end].key in words.AUXILIARIES)  # "are in a field"
    said = verb + words.begins_with_arrangement(given[end + verb :])
    where = given[end + said : end + said + 1]
    if verb and where and where[0].key not in words.PREPOSITIONS:
        said = 0  # "are asleep in a field"
    all_of_them = Change(first.start, end + said, tuple(name))
    left = after(given, [Reading([all_of_them]), *rest])
    try:
        return removed(left, words.join(name), emptied) if left is not None else None
    except Nothing:
        return (emptied or "{}").format(words.BACKDROP)
    except Unsure:
        return None
