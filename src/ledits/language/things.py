"""The things that a caption lists: "a cat", "a dog" and "a fox" of "here are a cat, a dog and a fox on a beach".

No noun is known. A name begins after a preposition, a comma, an article or what presents a list ("there is"), and ends
before the next word that can be no part of it.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from ledits.language import words
from ledits.language.words import Word


class Span(NamedTuple):
    """Words of a caption, from `start` to before `end`."""

    start: int
    end: int


def listed(given: Sequence[Word], thing: Span) -> list[Span]:
    """What one thing is listed with, in order and itself among them; nothing where it is no thing of a list."""
    if not is_listed(given, thing):
        return []
    spans = [thing]
    while (preceding := _preceding(given, spans[0])) and not _is_a_place(given, preceding, spans[0]):
        spans.insert(0, preceding)
    while (following := _following(given, spans)) and not _is_a_place(given, spans[-1], following):
        spans.append(following)
    spans = _without_tags(given, spans)
    if thing not in spans:
        return []
    holds = "of" in words.keys(given[spans[0].start : spans[0].end])
    if len(spans) > 1 and holds and not words.is_determiner(given[spans[1].start].key):
        return []  # "a bowl of apples, oranges and bananas" is one bowl
    return spans


def _without_tags(given: Sequence[Word], spans: list[Span]) -> list[Span]:
    """Things without what is said of the whole picture before or behind them: "masterpiece, a cat and a dog, 8k"."""
    determined = [words.is_determiner(given[i.start].key) for i in spans]
    plain = [words.keys(given[one.end : other.start]) == [","] for one, other in pairwise(spans)]
    if all(plain):
        plural = [not the and words.is_plural(given[i.start : i.end]) for i, the in zip(spans, determined, strict=True)]
        return spans if len(spans) == 1 or all(determined) or all(plural) else []
    # "And" comes before the last thing, and an article is left out of those that follow one alone.
    end = max(i for i, comma in enumerate(plain) if not comma) + 2
    start = 0
    while plain[start] and not determined[start] and determined[start + 1]:
        start += 1
    return spans[start:end]


def _is_a_place(given: Sequence[Word], one: Span, other: Span) -> bool:
    """Whether the second of two things is where the first is: "a plant by the window", which nobody has spoken of."""
    told_apart = given[one.start].key in words.ARTICLES and given[other.start].key == "the"
    return told_apart and words.ends_in_relation(given[: other.start]) > 0


def is_listed(given: Sequence[Word], thing: Span) -> bool:
    """Whether words are one of several things, each by itself: at the beginning, or joined to others."""
    before, after = given[: thing.start], given[thing.end :]
    name = words.keys(given[thing.start : thing.end])
    first = words.presents(before) or before[-1].key in words.JOINS or words.ends_in_relation(before) > 0
    # "A room with a cat beside a dog": what else stands beside something is a thing of the picture, and no part of one.
    first = first or (before[-1].key == "with" and _stands(after))
    if not first or all(map(words.is_determiner, name)) or name[0] == "nothing" or name[-1] in words.BACKDROPS:
        return False
    if after and words.presents(given[: thing.end + 1]):
        return False  # "a photo" of "a photo of a cat"
    if not after or after[0].key in words.JOINS | words.PREPOSITIONS | words.MARKS or _breaks(after):
        return True
    if before and before[-1].key == "and" and words.is_participle(after[0].key):
        return True  # "a cat and a dog sitting on a sofa"
    # "..., the background is blue" is said of the picture.
    return after[0].key in words.AUXILIARIES and not (before and before[-1].text == ",")


def name_around(given: Sequence[Word], part: Span) -> Span:
    """The whole name, with its article and adjectives, that some of its words are part of."""
    end = _end(given, part.start)
    return Span(_start(given, end), end)


def between(given: Sequence[Word]) -> int:
    """How many of the first words join two things: a comma, "and", "is to the left of"; 0 where none do."""
    placed = words.begins_with_position(given)
    if placed and placed < len(given) and given[placed].key in words.JOINS:
        return placed + between(given[placed:])
    verb = bool(given) and given[0].key in words.AUXILIARIES
    if count := words.begins_with_relation(given[verb:]):
        return count + verb
    while count < len(given) and given[count].key in words.JOINS:
        count += 1
    return count


def _stands(after: Sequence[Word]) -> bool:
    """Whether what follows a thing says that it stands beside another: "beside a dog", "on the left and a dog"."""
    placed = words.begins_with_position(after)
    return words.begins_with_relation(after) > 0 or (placed > 0 and between(after) > placed)


def _following(given: Sequence[Word], spans: Sequence[Span]) -> Span | None:
    last = spans[-1].end
    if len(spans) > 1 and given[last : last + 1] and given[last].key in words.AUXILIARIES:
        return None  # "a cat and a dog are in front of a wall": what several are beside is no more of them
    start = last + between(given[last:])
    found = Span(start, _end(given, start))
    return found if last < start < found.end and is_listed(given, found) else None


def _preceding(given: Sequence[Word], span: Span) -> Span | None:
    end = min((i for i in range(span.start) if i + between(given[i:]) == span.start), default=span.start)
    found = Span(_start(given, end), end)
    return found if found.start < end < span.start and is_listed(given, found) else None


def _end(given: Sequence[Word], start: int) -> int:
    """Where the name ends that `start` is in."""
    i = start
    while i < len(given) and not (i > start and _breaks(given[i:])):
        of_a_kind = given[i].key == "of" and i > start and given[i - 1].key not in words.PICTURES
        if _borders(given, i) and not of_a_kind:
            break
        i += 1
    return i


def _start(given: Sequence[Word], end: int) -> int:
    """Where the name begins that ends before `end`."""
    i = end
    while i > 0 and (not _borders(given, i - 1) or _is_of_a_kind(given[:i])):
        if given[i - 1].key in words.AUXILIARIES:
            break  # "the background is white"
        i -= 1
    determined = [j for j in range(i, end - 1) if words.is_determiner(given[j].key)]
    if determined and "of" not in words.keys(given[determined[0] : determined[-1]]):
        return determined[-1]
    return next((j for j in range(end - 1, i, -1) if words.presents(given[:j])), determined[0] if determined else i)


def _is_of_a_kind(given: Sequence[Word]) -> bool:
    """Whether a last "of" is inside a name: "a slice of", and not "a photo of" nor "to the left of"."""
    return (
        len(given) > 1 and given[-1].key == "of" and given[-2].key not in words.PICTURES
        and not words.ends_in_relation(given)
    )  # fmt: skip


def _breaks(given: Sequence[Word]) -> bool:
    """Whether a name can't go on with these words, though the first of them might be one of it."""
    return (
        given[0].key in words.AUXILIARIES | words.RELATIVES
        or words.begins_with_position(given) > 0
        or words.begins_with_arrangement(given) > 0
        or words.begins_with_relation(given) > 0
    )


def _borders(given: Sequence[Word], i: int) -> bool:
    """Whether a word is not of the name of a thing."""
    key = given[i].key
    if key == "and" and {*words.keys(given[i - 1 : i]), *words.keys(given[i + 1 : i + 2])} <= words.COLOURS:
        return i in (0, len(given) - 1)  # "a black and white cat" is one
    return key in words.JOINS or key in words.PREPOSITIONS or not key[:1].isalnum() or words.is_verb(given, i)
