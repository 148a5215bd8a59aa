"""What the network is told of several edits of one caption, from the captions after each of them alone."""

from collections.abc import Mapping, Sequence, Set

from ledits.language import things, words
from ledits.language.changes import Change, Reading, after, filled, parts, read, widened, without
from ledits.language.targets import Unsure, removed
from ledits.language.things import Span
from ledits.language.words import Word
from ledits.method.told import Told

# What says that one thing is before, behind or near another, which may be large: "a castle near a lake".
_BEFORE = frozenset({"front", "behind", "by", "near"})


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
    if reading.gone or not reading.changes:
        return None
    start, end = reading.changes[0].start, reading.changes[-1].end
    if start == end:
        return None
    name = things.name_around(given, Span(end - 1, end))
    if set(words.keys(given[start : name.start])) - words.PREPOSITIONS:
        return None  # more than "on a red background", of which "at night" may be made
    called, before = words.backgrounds(given), given[: name.start]
    said = len(before) > 1 and before[-1].key in words.BEING
    subject = things.name_around(given, Span(name.start - 2, name.start - 1)) if said else name
    if {*words.keys(given[: subject.start])[-1:]} & words.PREPOSITIONS:
        subject = name  # "a cat on a red background is black"
    new = words.backgrounds(reading.changes[-1].new)
    if new or any(i in range(*name) or i in range(*subject) for i in called):
        return True
    determined = words.is_determiner(given[name.start].key) and before and before[-1].key in {*words.JOINS, "with"}
    # "A sunny street" that is rainy may be all of the picture.
    itself = end == name.end or {*words.keys(given[start:end])} <= words.COLOURS
    thing = (words.presents(before) or determined) and itself and given[name.end - 1].key not in words.PICTURES
    apart = (worn and before[-1].key != "in") or (thing and not words.begins_with_distance(given[name.end :]))
    return False if called and apart else None


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
    own, worn = (filled(given, joined, thing, []) for thing in (given[slice(*described.span)], described.new))
    stays = [filled(given, joined, given[i.start : i.end], []) for i in joined if i != described.span]
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
    last = given[name.end - 1].key
    place = {last, *words.keys(new[-1:])} & words.BACKDROPS or last in words.PICTURES
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


def _is_of_another(given: Sequence[Word], item: Span) -> bool:
    """Whether a name says whose a thing is, or that it is shown of things: "his dog", "a poster of a dog"."""
    shown = (given[i + 1].key for i in range(item.start, item.end - 1) if given[i].key == "of")
    return given[item.start].key in words.POSSESSIVES or any(map(words.is_determiner, shown))


def _alone(
    given: Sequence[Word], readings: Sequence[Reading], apart: Mapping[int, Span], k: int, joined: Sequence[Span],
    plain: Told, emptied: str | None,
) -> Told:  # fmt: skip
    """What is told of an edit of one of several things, in a caption that says nothing of what others change."""
    reading, of = readings[k], apart[k]
    others = sorted({*apart.values(), *joined})
    if len(others) < 2:
        return plain
    stays = [filled(given, joined, given[slice(*i)], []) for i in joined if i not in apart.values()]
    own = filled(given, others, given[slice(*of)], [])
    result = plain._replace(own=own or plain.own, stays=tuple(text for text in stays if text))
    rest = [r for j, r in enumerate(readings) if j != k and apart.get(j) not in joined]
    if reading.gone:
        away = {j: _taken_away(given, apart[j], emptied) for j in _away(given, apart, k, joined)}
        gone = [found for found in away.values() if found]
        rest = [*gone, *(r for j, r in enumerate(readings) if r in rest and not away.get(j))]
        empty, then = (without(given, joined, reading.emptied or emptied, each) for each in (gone, rest))
        return result._replace(early=plain.early if empty is None else empty, late=plain.late if then is None else then)
    if len(joined) < 2 or any(_is_of_another(given, item) for item in joined):
        return result
    holder, beside = _holder(given, joined[0]), words.begins_with_company(given[joined[0].end :])
    owner = holder and given[holder.end - 1].key not in words.BACKDROPS
    if len(readings) == 1 and owner and not (beside or _between(given, joined) & words.JOINS):
        return result  # "a man with a beard next to a tree" has it still
    new = widened(given, reading.changes[0], of).new
    # Once the picture shows what goes, it is no more there.
    going = {apart[j]: r for j, r in enumerate(readings) if j in apart and r.gone and apart[j] in joined}
    left = [item for item in joined if item not in going]
    early, late = filled(given, joined, new, []), filled(given, left, new, [*rest, *going.values()])
    away = plain.late if len(left) > 1 else plain.away
    return result._replace(early=early or plain.early, late=late or plain.late, away=away)


def _beside_nothing(given: Sequence[Word], added: Change, emptied: str | None) -> str:
    """The source without the things that a new one is put beside; the empty prompt where no rule is certain of it."""
    # What is new stands before them, "a star to the left of" a cat, or behind them, "a cat" and "and a star".
    ahead = added.new[0].key not in words.JOINS
    at = Span(added.start, added.start + 1) if ahead else Span(added.start - 1, added.start)
    name = things.name_around(given, at)
    return without(given, things.listed(given, name) or [name], emptied) or ""
