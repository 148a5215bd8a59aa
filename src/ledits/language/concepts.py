"""From edits as people type them to the concepts that the method is asked for, in either mode.

By words (the paper) an edit is its own words, added or taken away. With a caption an edit is the whole caption with
that edit alone. Where edits by words are located before editing, what goes makes a caption: "cat->dog, fox->owl" says
that there are a cat and a fox.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ledits.asked.recipe import Edit
from ledits.asked.settings import Settings
from ledits.errors import LeditsError
from ledits.language import captions

if TYPE_CHECKING:
    from ledits.method.core import Concept


def check(edit: Edit, settings: Settings) -> None:
    """Raise ValueError for an edit that this mode or this caption can't carry out; it loads no torch."""
    if settings.mode == "caption":
        target(edit, settings.source)
    elif edit.kind == "become":
        raise LeditsError(
            f"edit '{edit}' says what the picture becomes, and not what it shows now",
            "say that too, such as source='a cat on a beach'", option="source", given=str(edit),
        )  # fmt: skip


def by_words(edit: Edit, defaults: Mapping[str, float]) -> "list[Concept]":
    """The concepts of an edit by words: one for an addition or a removal, two for a swap."""
    from ledits.method.core import Concept

    parts = {"add": ("add",), "remove": ("remove",), "swap": ("swap_old", "swap_new")}[edit.kind]
    concepts = list[Concept]()
    for part in parts:
        scale = defaults[f"{part}_scale"]
        if edit.scale is not None:
            # One number for a swap: the new object gets it, the old one its usual share of it.
            scale = edit.scale * scale / defaults[f"{parts[-1]}_scale"]
        new = part in ("add", "swap_new")
        concepts.append(
            Concept(
                edit.new if new else edit.old,
                scale if new else -scale,
                defaults[f"{part}_threshold"] if edit.threshold is None else edit.threshold,
                int(defaults["warmup"]) if edit.warmup is None else edit.warmup,
                edit.cooldown,
            )
        )
    return concepts


def implied(edits: Sequence[Edit]) -> str:
    """The caption that edits by words imply: what goes, and what something is put beside; "" where that is nothing."""
    return _implied_after(edits, ())


def by_implied_caption(edits: Sequence[Edit], defaults: Mapping[str, float]) -> "list[list[Concept]]":
    """The one concept of each edit that is located before editing: the implied caption after that edit alone."""
    from ledits.method.core import Concept

    result = list[list[Concept]]()
    for k, edit in enumerate(edits):
        scale = defaults.get("located_scale", defaults["described_scale"]) if edit.scale is None else edit.scale
        warmup = int(defaults["warmup"]) if edit.warmup is None else edit.warmup
        concept = Concept(_implied_after(edits, {k}), scale, edit.threshold, warmup, edit.cooldown)
        result.append([concept])
    return result


class Told(NamedTuple):
    """What the network is told of each edit in a set of them: a caption for each."""

    apart: list[str]  # without the things that its region keeps clear of; the source where it keeps clear of nothing
    own: list[str]  # of the thing that it changes and nothing else; the source where it changes no one thing
    goes: list[bool]  # whether things go and that is all; another edit beside it needs what is about them (LOG.md)
    stays: list[str]  # not of each edit: of each thing that no edit changes, beside one that an edit does
    alone: list[str]  # after the edit alone
    after_all: list[str]
    after_others: list[str]  # after all edits but this one


def told(edits: Sequence[Edit], source: str) -> Told:
    """The captions of edits of `source`.

    A thing that goes leaves a place in which another one of the caption would be drawn once more, so that its edit is
    told of the empty place alone; and a thing that comes, beside what is there, keeps clear of that.
    """
    alone = [target(edit, source) for edit in edits]
    changes = [_change(source, after) for after in alone]
    apart = [empty if came else source for came, _, empty in changes]
    early = [empty if went else after for (_, went, empty), after in zip(changes, alone, strict=True)]
    goes = [went and len(edits) == 1 for _, went, _ in changes]
    try:
        after_all = [_after(edits, source)] * len(edits)
        after_others = [_after([*edits[:k], *edits[k + 1 :]], source) for k in range(len(edits))]
    except ValueError:  # no caption says all of it, such as where one edit takes away the words that another one needs
        return Told(apart, [source] * len(edits), goes, [], early, alone, [source] * len(edits))
    return _among(Told(apart, [source] * len(edits), goes, [], early, after_all, after_others), source, alone)


def _change(before: str, after: str) -> tuple[bool, bool, str]:
    """Whether things came, and whether things went, with the rest as it was; and the place without any."""
    old, new = captions.listed(before), captions.listed(after)
    if old is None or new is None or not old.empty or old.empty != new.empty:
        return False, False, ""
    return old.things < new.things, new.things < old.things, old.empty


def _among(told: Told, source: str, alone: Sequence[str]) -> Told:
    """What edits of one thing among several are told: of its new one, and nothing else.

    A network mixes up what a caption lists, and in the place of one thing draws what is to be in another's. So one of
    several edits is told of its own new thing as often as there are things: "a fox, a fox and a fox on a beach". Where
    the old one is, and what stays beside it, is found in the same way.
    """
    old, end = captions.listed(source), captions.listed(told.after_all[0])
    if old is None or end is None or old.things.total() < 2:
        return told
    left, changed = old.things, (told.own, told.alone, told.after_all, told.after_others)
    own, early, late, others = map(list[str], changed)
    for k, after in enumerate(alone):
        new = captions.listed(after)
        if new is None or new.place != old.place:
            continue
        came, went = new.things - old.things, old.things - new.things
        left = left - went
        if went.total() == 1 and came.total() <= 1:
            own[k] = old.filled(*went)
        if came.total() == went.total() == 1 and came <= end.things and len(alone) > 1:
            (thing,) = came
            early[k], late[k] = old.filled(thing), old._replace(place=end.place).filled(thing)
            others[k] = told.after_all[k]
    stays = [old.filled(thing) for thing in left] if any(text != source for text in own) else []
    return Told(told.apart, own, told.goes, stays, early, late, others)


def _after(edits: Sequence[Edit], source: str) -> str:
    if sum(edit.kind == "become" for edit in edits) > 1:
        raise ValueError("two captions say what becomes of the whole picture")
    # In an order of their own, that of the edits must not matter: a new caption first, then changes of it.
    for edit in sorted(edits, key=lambda edit: (edit.kind != "become", str(edit))):
        source = target(edit, source)
    return source


def told_by_words(edits: Sequence[Edit]) -> Told:
    """The implied captions of edits by words; what is put beside something keeps clear of it."""
    every, source = set(range(len(edits))), implied(edits)
    apart = ["" if edit.kind == "add" and captions.neighbour(edit.new) else source for edit in edits]
    alone = [_implied_after(edits, {k}) for k in every]
    after_others = [_implied_after(edits, every - {k}) for k in every]
    # Beside other edits a removal is told of the empty place, as with a caption, though no edit may have named it.
    known = captions.listed(source)
    empty = (known.empty if known else "") or "an empty background"
    emptied = [edit.kind == "remove" and not _is_worn(edit) and len(edits) > 1 for edit in edits]
    early = [empty if goes else after for goes, after in zip(emptied, alone, strict=True)]
    after_all = [_implied_after(edits, every)] * len(edits)
    told = Told(apart, [source] * len(edits), [False] * len(edits), [], early, after_all, after_others)
    return _among(told, source, alone)


class Reading(NamedTuple):
    """Another way to read edits by words: what they say is there already, and stays."""

    source: str  # "a star and a fox on a beach"
    otherwise: str  # "a star on a beach", where it is still to come
    told: Told


def other_reading(edits: Sequence[Edit]) -> Reading | None:
    """That "star->a fox on a beach" takes a star away from beside a fox; None where words say no such thing.

    Only the picture can tell, by which of the two captions suits it better.
    """
    if len(edits) != 1 or edits[0].kind != "swap":
        return None
    (edit,) = edits
    after, gone = captions.listed(edit.new), _named(edit.old)
    if after is None or not after.place or not after.things or captions.place(edit.old) or captions.worn(edit.old):
        return None
    source = f"{captions.join([gone, *after.things.elements()])} {after.place}"
    return Reading(source, f"{gone} {after.place}", told([Edit("become", new=edit.new)], source))


def _implied_after(edits: Sequence[Edit], done: Collection[int]) -> str:
    move = _move(edits)
    old, new = [_named(edit.old) for edit in edits], [_named(edit.new) for edit in edits]
    names, wearing = list[str](), list[str]()
    for k, edit in enumerate(edits):
        # What something is put beside is there, if no edit says more of it.
        there = old[k] or captions.neighbour(edit.new)
        if (move and k == move.edit) or not (old[k] or there not in old or k in done):
            continue
        (wearing if _is_worn(edit) else names).append(new[k] if k in done else there)
    worn = captions.join([name.removeprefix("wearing ") for name in wearing if name])
    where = (move.after if move.edit in done else move.before) if move else ""
    names += [thing for thing in (move.kept if move else ()) if thing not in names]
    return " ".join(filter(None, [captions.join(list(filter(None, names))), worn and f"wearing {worn}", where]))


def _is_worn(edit: Edit) -> bool:
    """Whether an edit is of something worn: "a top hat" that becomes "a crown" is no crown by itself."""
    return all(map(captions.worn, filter(None, (edit.old, edit.new))))


class _Move(NamedTuple):
    """The edit that puts everything in another place."""

    edit: int
    before: str  # "on a beach"
    after: str  # "in the snow"
    kept: list[str]  # what the edit says is in the new place, and no edit brings


def _move(edits: Sequence[Edit]) -> _Move | None:
    found = [k for k, edit in enumerate(edits) if edit.kind == "swap" and captions.place(edit.old)]
    if len(found) != 1:
        return None
    edit, brought = edits[found[0]], {_named(edit.new) for edit in edits}
    after = captions.listed(edit.new)
    place = (after.place if after else "") or captions.place(edit.new)
    kept = [thing for thing in after.things if thing not in brought] if after and after.place else []
    return _Move(found[0], captions.place(edit.old), place, kept) if place else None


def _named(words: str) -> str:
    """Words as a caption has them: "a cat", "an owl", "sunglasses"; "in the snow" stays as it is."""
    first = words.split(" ", 1)[0].lower()
    if not words or first in _LEADING or re.search(r"[^s]s$", words):
        return words
    return f"{'an' if first[0] in 'aeiou' else 'a'} {words}"


_LEADING = {"a", "an", "the", "some", "no", "two", "three", "in", "on", "at", "under", "with", "wearing"}


def by_caption(edit: Edit, defaults: Mapping[str, float], source: str) -> "list[Concept]":
    """The one concept of an edit with a caption: `source` after that edit alone. Without a threshold it is found."""
    from ledits.method.core import Concept

    return [
        Concept(
            target(edit, source),
            defaults["described_scale"] if edit.scale is None else edit.scale,
            edit.threshold,
            int(defaults["warmup"]) if edit.warmup is None else edit.warmup,
            edit.cooldown,
        )
    ]


def target(edit: Edit, source: str) -> str:
    """The caption `source` after one edit, such as "a dog on a beach" after cat->dog in "a cat on a beach".

    A removal that leaves only a place says so: "an empty beach". What is added comes after a comma, or beside what it
    is said to be beside.
    """
    if edit.kind == "become":
        return edit.new
    if edit.kind == "add":
        return captions.beside(edit.new, source) or f"{source}, {edit.new}"
    if not (found := re.search(rf"\b{re.escape(edit.old)}\b", source)):
        raise ValueError(
            f"edit '{edit}': {edit.old!r} is not in the source {source!r}; name it as the source does, or write "
            "'->' and what the picture becomes"
        )
    before, after = source[: found.start()], source[found.end() :]
    article = re.search(r"\b(an?|the) $", before, re.IGNORECASE)
    if edit.kind == "swap":
        if article and re.match(r"(an?|the)\b", edit.new, re.IGNORECASE):
            before = before[: article.start()]  # the new words bring their own article
        elif article and article[1].lower() != "the":
            before = before[: article.start()] + article[1][0] + ("n " if edit.new[0].lower() in "aeiou" else " ")
        return before + edit.new + after
    # A removed object takes its article along, and the word that joins it to the rest.
    before = before[: article.start()] if article else before
    joined = re.sub(r"(,? and|,|,? with|,? beside|,? next to) $", "", before)
    if joined == before:
        after = re.sub(r"^(,? and|,|,? with|,? beside|,? next to) ", " ", after)
    text = f"{joined.rstrip()} {after.strip()}".strip() if after.strip()[:1] not in {",", "."} else joined + after
    if not text:
        raise ValueError(f"edit '{edit}' leaves nothing of the source {source!r}: write '->' and what should be there")
    return captions.emptied(captions.joined(text))
