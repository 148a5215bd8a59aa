"""From edits as people type them to the concepts that the method is asked for, in either mode.

By words (the paper) an edit is its own words, added or taken away. With a caption an edit is the whole caption with
that edit alone. Where edits by words are located before editing, what goes makes a caption: "cat->dog, fox->owl" says
that there are a cat and a fox.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from ledits.recipe import Edit
from ledits.settings import Settings

if TYPE_CHECKING:
    from ledits.method.core import Concept


def check(edit: Edit, settings: Settings) -> None:
    """Raise ValueError for an edit that this mode or this caption can't carry out; it loads no torch."""
    if settings.mode == "caption":
        target(edit, settings.source)
    elif edit.kind == "become":
        raise ValueError(f"edit '{edit}' says what the picture becomes: say what it shows now with --source")


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
    """The caption that edits by words imply: what goes, all of it; "" where everything is added."""
    return _list([_named(edit.old) for edit in edits if edit.old])


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


Told = tuple[list[str], list[str], list[str]]
"""What each of several edits is told: alone, after all edits, and after all the others."""


def together(edits: Sequence[Edit], source: str) -> Told | None:
    """`source` after each edit alone, after all edits, and after all but each; None for one edit, and where no caption
    can say them all.

    What is taken away leaves a place to which nothing else may move. So a removal is told of the scene without anything
    that is edited: of "a cat and a dog on a beach", -cat beside dog->fox leaves "an empty beach" there.
    """
    if len(edits) < 2 or sum(edit.kind == "become" for edit in edits) > 1:
        return None
    try:
        alone = [target(edit, source) for edit in edits]
        after_all = [_after(edits, source)] * len(edits)
        after_others = [_after([*edits[:k], *edits[k + 1 :]], source) for k in range(len(edits))]
    except ValueError:  # one edit takes away the words that another one needs
        return None
    removals = [Edit("remove", old=edit.old) for edit in edits if edit.old]
    try:
        before = _after(removals, source)
        after = _after([*removals, *(edit for edit in edits if edit.kind == "become")], source)
    except ValueError:  # nothing would be left
        return alone, after_all, after_others
    for k, edit in enumerate(edits):
        if edit.kind == "remove":
            alone[k], after_all[k] = before, after
    return alone, after_all, after_others


def _after(edits: Sequence[Edit], source: str) -> str:
    # In an order of their own, that of the edits must not matter: a new caption first, then changes of it.
    for edit in sorted(edits, key=lambda edit: (edit.kind != "become", str(edit))):
        source = target(edit, source)
    return source


def implied_together(edits: Sequence[Edit]) -> Told | None:
    """The implied caption after each edit alone, after all edits, and after all but each; None for one edit."""
    if len(edits) < 2:
        return None
    every = set(range(len(edits)))
    alone = [_implied_after(edits, {k}) for k in every]
    after_others = [_implied_after(edits, every - {k}) for k in every]
    return alone, [_implied_after(edits, every)] * len(edits), after_others


def _implied_after(edits: Sequence[Edit], done: Collection[int]) -> str:
    names = [_named(edit.new if k in done else edit.old) for k, edit in enumerate(edits)]
    return _list([name for name in names if name])


def _named(words: str) -> str:
    """Words as a caption has them: "a cat", "an owl", "sunglasses"; "in the snow" stays as it is."""
    first = words.split(" ", 1)[0].lower()
    if not words or first in _LEADING or re.search(r"[^s]s$", words):
        return words
    return f"{'an' if first[0] in 'aeiou' else 'a'} {words}"


def _list(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


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

    A removal that leaves only a place says so: "an empty beach".
    """
    if edit.kind == "become":
        return edit.new
    if edit.kind == "add":
        return f"{source}, {edit.new}"
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
    return _PLACE.sub(_emptied, text)


def _emptied(place: re.Match[str]) -> str:
    of, article, name = place.groups()
    return f"{of}{'' if article == 'the' else 'an '}empty {name}"


# A place without anything in it, as "on a beach" and "a photo of at night" are when the cat is gone.
_PLACE = re.compile(r"(^|\bof )(?:in|on|at|under|by|near|over|against|inside) (?:(an?|the) )?(.+)", re.IGNORECASE)
