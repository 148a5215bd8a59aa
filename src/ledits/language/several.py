"""What the network is told of several edits of one caption, from the captions after each of them alone.

Two captions that differ in one place say what changes there: a thing that another takes the place of, one that goes,
one that comes. It is all that is known of an edit, so that "cat->dog" and the caption after it are one and the same.
"""

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from ledits.language import words
from ledits.language.targets import Unsure, removed
from ledits.language.words import Word
from ledits.method.told import Told

# How a caption may say that nothing is left in a place.
_EMPTIED = (None, "an empty {}")
# A thing's longest name, in words, articles and adjectives included.
_LONGEST = 6


class Change(NamedTuple):
    """Words of the source, from `start` to before `end`, and what takes their place."""

    start: int
    end: int
    new: tuple[Word, ...]


class Reading(NamedTuple):
    """What the caption after an edit changes in the source."""

    changes: list[Change]
    gone: str = ""  # the thing that it takes away, with nothing in its place
    emptied: str | None = None  # how its place is said to be empty
    item: Change | None = None  # the one thing, among things that are joined by "and", that it changes
    beside: bool = False  # whether it puts a thing of its own beside the others


def told(source: str, targets: Sequence[str], emptied: str | None = None) -> list[Told]:
    """What the network is told of each edit of `source`, of the captions after each edit alone.

    First an edit is told of itself, its clearest direction while the picture is all but noise. Once the picture shows
    what the other edits did, the source is wrong about it. Later steps move from the caption after all other edits
    to the caption after all of them. A network mixes up things that one caption joins by "and", and draws one in
    another's place. So one of several edits is told of its own thing alone, in the place of each that is joined to it;
    and a thing that goes is told, at first, of what is left without any of them. `emptied` is how a model says that a
    place is empty, such as "an empty {}".
    """
    given = words.split(source)
    readings = [read(source, target) for target in targets]
    every = after(given, readings)
    others = [after(given, [*readings[:k], *readings[k + 1 :]]) for k in range(len(readings))]
    clear = [_beside_nothing(given, r.changes[0], emptied) if r.beside else source for r in readings]
    if every is None:
        return [Told(t, t, t, source, c, source) for t, c in zip(targets, clear, strict=True)]
    result = list[Told]()
    for k, (reading, target) in enumerate(zip(readings, targets, strict=True)):
        # Beside another edit what is about a thing that goes may be that edit's.
        alone = bool(reading.gone) and len(readings) == 1
        plain = Told(target, target, every, others[k] or source, clear[k], source, wide=alone)
        joined = _joined(given, reading.item) if reading.item else []
        result.append(_alone(given, readings, k, joined, plain, emptied) if len(joined) > 1 else plain)
    return result


def _alone(
    given: Sequence[Word], readings: Sequence[Reading], k: int, joined: Sequence[Change], plain: Told,
    emptied: str | None,
) -> Told:  # fmt: skip
    """What is told of an edit of one of several things that are joined."""
    reading, source = readings[k], words.join(given)
    assert reading.item
    changed = {(r.item.start, r.item.end) for r in readings if r.item}
    stays = [_filled(given, joined, given[i.start : i.end], []) for i in joined if (i.start, i.end) not in changed]
    own = _filled(given, joined, given[reading.item.start : reading.item.end], []) or source
    result = plain._replace(own=own, stays=tuple(text for text in stays if text))
    if reading.gone:
        return result._replace(early=_without(given, joined, reading.emptied or emptied) or plain.early)
    if len(readings) == 1:
        return result
    places = {(i.start, i.end) for i in joined}
    rest = [r for r in readings if not r.item or (r.item.start, r.item.end) not in places]
    early, late = (_filled(given, joined, reading.item.new, others) for others in ([], rest))
    return result._replace(early=early or plain.early, late=late or plain.late, away=plain.late)


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
                return Reading(changes, phrase, emptied, Change(begin, end, ()) if _item(old, begin, end) else None)
    if len(changes) != 1:
        return Reading(changes)
    if changes[0].start == changes[0].end:
        return Reading(changes, beside=_is_beside(changes[0]))
    return Reading(changes, item=_swapped(old, changes[0]))


def after(given: Sequence[Word], readings: Sequence[Reading]) -> str | None:
    """The caption after several edits, in whatever order; None where two change the same words in different ways."""
    gone = [reading for reading in readings if reading.gone]
    changes = {change for reading in readings if not reading.gone for change in reading.changes}
    if len(gone) == 1:
        changes |= set(gone[0].changes)
    elif gone:
        left = words.join(given)
        emptied = next((reading.emptied for reading in gone if reading.emptied), None)
        try:
            for phrase in sorted({reading.gone for reading in gone}):
                left = removed(left, phrase, emptied)
        except Unsure:
            return None
        changes |= set(_changes(given, words.split(left)))
    ordered = sorted(changes, key=lambda c: (c.start, c.end, words.join(c.new)))
    result, at = list[Word](), 0
    for change in ordered:
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
    """Where the name of a thing may lie that changes take away, the shortest first."""
    taken = [change for change in changes if change.start < change.end]
    if not taken or sum(len(change.new) for change in changes) > _LONGEST:
        return []
    low, high = max(0, taken[0].start - 2), min(len(old), taken[-1].end + 1)
    spans = [(i, j) for i in range(low, high) for j in range(i + 1, min(i + _LONGEST, high) + 1)]
    named = [(i, j) for i, j in spans if words.is_determiner(old[i].key) and j > i + 1]
    return sorted(named or spans, key=lambda span: span[1] - span[0])


def _tells(source: str, phrase: str, emptied: str | None, new: Sequence[Word]) -> bool:
    """Whether `new` is the source without what `phrase` names."""
    try:
        return words.keys(words.split(removed(source, phrase, emptied))) == words.keys(new)
    except Unsure:
        return False


def _is_beside(change: Change) -> bool:
    """Whether words that are put in name a thing of its own: "and a star", "a star to the left of"."""
    return "and" in (change.new[0].key, change.new[-1].key) or words.ends_in_relation(change.new) > 0


def _swapped(old: Sequence[Word], change: Change) -> Change | None:
    """A change with the whole names of both things, articles and all, where the old one is joined to others."""
    begin, end, new = change.start, change.end, list(change.new)
    while begin > 0 and not (_borders(old[begin - 1].key) or words.is_determiner(old[begin].key)):
        begin -= 1
        new.insert(0, old[begin])
    while end < len(old) and not _borders(old[end].key):
        new.append(old[end])
        end += 1
    names = [words.keys(part) for part in (old[begin:end], new)]
    whole = all(part and not any(map(_borders, part)) for part in names)
    return Change(begin, end, tuple(new)) if whole and _item(old, begin, end) else None


def _borders(key: str) -> bool:
    """Whether a word is not of the name of a thing."""
    return key in words.JOINS or key in words.PREPOSITIONS or not key[:1].isalnum() or words.is_participle(key)


def _item(old: Sequence[Word], begin: int, end: int) -> bool:
    """Whether words are one of several things, each by itself: at the beginning, or joined to others."""
    before, follows = words.keys(old[:begin]), words.keys(old[end : end + 1])
    first = not before or before[-1] in words.JOINS or words.ends_in_relation(old[:begin]) > 0
    first = first or (len(before) > 1 and before[-1] == "of" and before[-2] in words.PICTURES)
    return first and (not follows or follows[0] in words.JOINS or follows[0] in words.PREPOSITIONS)


def _joined(given: Sequence[Word], item: Change) -> list[Change]:
    """Where the things are that are joined to one, itself among them: "a cat, a dog and a fox" of "a dog"."""
    spans = [(item.start, item.end)]
    while (last := spans[-1][1]) < len(given):
        start = last + _between(given[last:])
        end = next((i for i in range(start, len(given)) if _borders(given[i].key)), len(given))
        if start in (last, end) or not _item(given, start, end):
            break
        spans.append((start, end))
    while (first := spans[0][0]) > 0:
        end = min((i for i in range(first) if i + _between(given[i:]) == first), default=first)
        start = next((i + 1 for i in range(end - 1, -1, -1) if _borders(given[i].key)), 0)
        if end in (start, first) or not _item(given, start, end):
            break
        spans.insert(0, (start, end))
    return [Change(start, end, ()) for start, end in spans]


def _beside_nothing(given: Sequence[Word], added: Change, emptied: str | None) -> str:
    """The source without the things that a new one is put beside; the empty prompt where no rule is certain of it."""
    start = end = added.start
    while end < len(given) and not _borders(given[end].key):
        end += 1
    if start == end:  # what is new stands behind them: "a cat" and "and a star"
        while start > 0 and not _borders(given[start - 1].key):
            start -= 1
    joined = _joined(given, Change(start, end, ())) if _item(given, start, end) else []
    return (_without(given, joined, emptied) if joined else None) or ""


def _between(given: Sequence[Word]) -> int:
    """How many of the first words join two things: a comma, "and", "to the left of"; 0 where none do."""
    count = words.begins_with_relation(given)
    while not count or (count < len(given) and given[count].key in words.JOINS):
        if not given or given[count].key not in words.JOINS:
            break
        count += 1
    return count


def _filled(
    given: Sequence[Word], items: Sequence[Change], thing: Sequence[Word], rest: Sequence[Reading]
) -> str | None:
    """The source with `thing` in the place of each of `items`, after the edits of `rest`."""
    placed = [
        Change(i.start, i.end, (thing[0]._replace(space=given[i.start].space), *thing[1:])) for i in items
    ]  # fmt: skip
    return after(given, [Reading(placed), *rest])


def _without(given: Sequence[Word], items: Sequence[Change], emptied: str | None) -> str | None:
    """The source without any of `items`; None where no rule is certain of it."""
    left = words.join(given)
    try:
        for item in items:
            left = removed(left, words.join(given[item.start : item.end]), emptied)
    except Unsure:
        return None
    return left
