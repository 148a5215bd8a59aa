"""A caption as words, and the few words of English that say how the others hang together.

Only closed classes are listed here: articles, numbers, joining words, places of prepositions. No noun is known.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

ARTICLES = frozenset({"a", "an"})
DETERMINERS = ARTICLES | {
    "the", "this", "that", "these", "those", "some", "any", "no", "another", "each", "every", "both", "all", "several",
    "many", "few", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
}  # fmt: skip
POSSESSIVES = frozenset({"his", "her", "its", "their", "my", "your", "our"})
# Articles of other languages that go with the noun after them.
GENDERED = frozenset({
    "ein", "eine", "einen", "einem", "einer", "der", "die", "das", "dem", "un", "une", "le", "la", "les", "el", "los",
    "las", "una", "unos", "unas", "il", "uno", "gli", "um", "uma", "een", "en", "ett", "ο", "η", "το", "μια", "ένα",
    "ένας",
})  # fmt: skip
JOINS = frozenset({",", "and", "or", "&"})
PREPOSITIONS = frozenset({
    "on", "in", "at", "under", "over", "by", "near", "behind", "beside", "above", "below", "beneath", "against",
    "inside", "outside", "within", "between", "among", "across", "along", "around", "through", "toward", "towards",
    "with", "without", "from", "into", "onto", "of", "to", "for", "during", "amid", "beyond", "next", "front", "atop",
})  # fmt: skip
# One thing and another, wherever they are.
COMPANY = (("together", "with"), ("along", "with"), ("as", "well", "as"))
# One thing and another, apart from each other.
RELATIONS = (
    ("to", "the", "left", "of"), ("to", "the", "right", "of"), ("on", "the", "left", "of"),
    ("on", "the", "right", "of"), ("in", "front", "of"), ("next", "to"), ("close", "to"), ("beside",), ("near",),
    ("behind",), ("by",), *COMPANY,
)  # fmt: skip
# Where one thing is in the picture.
_PLACED = (
    ("on", "the", "left"), ("on", "the", "right"), ("on", "the", "left", "side"), ("on", "the", "right", "side"),
    ("in", "the", "middle"), ("in", "the", "center"), ("in", "the", "centre"), ("in", "the", "foreground"),
    ("in", "the", "corner"), ("on", "top"), ("on", "top", "of", "it"),
)  # fmt: skip
# How several things stand, said after them.
_ARRANGED = (
    ("side", "by", "side"), ("in", "a", "row"), ("in", "a", "line"), ("next", "to", "each", "other"),
    ("beside", "each", "other"), ("from", "left", "to", "right"), ("together",),
)  # fmt: skip
# What begins a list of things: "there is a cat", "on a beach, we see a cat".
_PRESENTED = (
    ("there", "is"), ("there", "are"), ("here", "is"), ("here", "are"), ("i", "see"), ("we", "see"), ("you", "see"),
    ("we", "can", "see"), ("you", "can", "see"), ("one", "can", "see"),
)  # fmt: skip
# What a thing may be said to be like before a verb's form: "a small sleeping cat", and not "a man sleeping".
LOOKS = frozenset({
    "small", "little", "tiny", "big", "large", "huge", "tall", "short", "long", "young", "old", "cute", "happy", "sad",
    "beautiful", "pretty", "lovely", "colorful", "colourful", "bright", "dark", "fluffy", "furry", "wet",
})  # fmt: skip
# What a picture does with what is in it: "a photo of", "the picture shows".
_SHOWS = frozenset({
    "of", "with", "shows", "showing", "depicts", "depicting", "features", "featuring", "contains", "containing",
})  # fmt: skip
ALONE = frozenset({"only", "just", "simply"})
# What a caption may call all that is behind things.
BACKDROP = "background"
BACKDROPS = frozenset({BACKDROP, "backdrop"})
# Where its owner has a thing: "with a hat on its head". Possessives stand before much else, such as "on his horse".
BODY = frozenset({
    "head", "heads", "hair", "face", "nose", "eyes", "ears", "ear", "mouth", "beak", "neck", "shoulder", "shoulders",
    "chest", "arm", "arms", "wrist", "hand", "hands", "finger", "fingers", "lap", "back", "waist", "legs", "feet",
    "paw", "paws", "tail",
})  # fmt: skip
MARKS = frozenset(".!?;:")
RELATIVES = frozenset({"who", "that", "which"})
COLOURS = frozenset({
    "black", "white", "red", "green", "yellow", "blue", "brown", "purple", "pink", "orange", "grey", "gray",
})  # fmt: skip
BEING = frozenset({"is", "are", "was", "were", "be", "being", "been", "am"})
AUXILIARIES = BEING | {"has", "have", "had"}
# Participles that don't end in "ed", of verbs that say how one thing is in, on or with another.
_IRREGULAR = frozenset({
    "made", "seen", "worn", "shown", "hung", "held", "drawn", "built", "lit", "caught", "stuck", "bound", "laid",
    "spread", "strewn", "woven", "torn", "taken", "driven", "ridden", "thrown", "set", "shot", "fed", "led", "tied",
})  # fmt: skip
# Plurals that don't end in "s".
_PLURALS = frozenset({"men", "feet", "teeth", "mice", "geese", "oxen", "police", "cattle"})
OF_MANY = frozenset({
    "these", "those", "both", "several", "many", "few", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve",
})  # fmt: skip
OF_ONE = frozenset({"this", "that", "each", "every", "another", "one"})
PRONOUNS = frozenset({"it", "its", "his", "her", "him", "them", "their", "one"})
# What a caption may call the picture itself: "a photo of ...".
PICTURES = frozenset({
    "photo", "photograph", "picture", "image", "painting", "drawing", "sketch", "illustration", "portrait", "shot",
    "closeup", "close-up", "view", "render", "rendering", "cartoon", "art", "print", "watercolor", "watercolour",
})  # fmt: skip
# Scripts that put no space between words: each letter stands by itself.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


class Word(NamedTuple):
    """A word or a mark of punctuation, and the space before it."""

    text: str
    space: str = " "

    @property
    def key(self) -> str:
        return self.text.casefold()


def split(text: str) -> list[Word]:
    """A text as words. Two texts that look the same have the same words, however their letters are encoded."""
    words, space, current, marked = list[Word](), "", "", False
    for letter in unicodedata.normalize("NFC", text):
        inside = letter.isalnum() or letter in "'’_-" or unicodedata.category(letter)[0] == "M"
        alone = bool(_UNSPACED.match(letter)) and unicodedata.category(letter)[0] != "M"
        if current and (not inside or alone or marked):
            words.append(Word(current, space))
            current, space = "", ""
        if inside:
            current, marked = current + letter, alone
        elif letter.isspace():
            space += letter
        else:
            words.append(Word(letter, space))
            space = ""
    return [*words, Word(current, space)] if current else words


def join(words: Sequence[Word]) -> str:
    """The text of words; two that were no neighbours before get the space that belongs between them."""
    text = ""
    for word in words:
        met = text[-1:].isalnum() and word.text[0].isalnum() and not word.space
        text += (" " if met and not _UNSPACED.match(word.text) else word.space) + word.text
    return text.strip()


def keys(words: Sequence[Word]) -> list[str]:
    return [word.key for word in words]


def find(words: Sequence[Word], phrase: Sequence[Word]) -> list[int]:
    """Where `phrase` begins in `words`, whatever the case of the letters."""
    wanted, there = keys(phrase), keys(words)
    return [i for i in range(len(there) - len(wanted) + 1) if wanted and there[i : i + len(wanted)] == wanted]


def related(given: Sequence[Word]) -> Sequence[Word]:
    """The thing that another one is said to be beside: "a cat" of "a star next to a cat"; nothing where none is."""
    there = keys(given)
    for relation in RELATIONS:
        found = [i for i in range(1, len(there) - len(relation)) if tuple(there[i : i + len(relation)]) == relation]
        if len(found) == 1:
            return given[found[0] + len(relation) :]
    return []


def ends_in_relation(given: Sequence[Word]) -> int:
    """How many of the last words say that something is beside what follows; 0 where none do."""
    there = tuple(keys(given))
    return max((len(relation) for relation in RELATIONS if there[-len(relation) :] == relation), default=0)


def begins_with_relation(given: Sequence[Word]) -> int:
    """How many of the first words say that what precedes them is beside something; 0 where none do."""
    there = tuple(keys(given))
    return max((len(relation) for relation in RELATIONS if there[: len(relation)] == relation), default=0)


def begins_with_company(given: Sequence[Word]) -> int:
    """How many of the first words name one more thing, and say nothing of where it is; 0 where none do."""
    return next((len(said) for said in COMPANY if tuple(keys(given[: len(said)])) == said), 0)


def begins_with_position(given: Sequence[Word]) -> int:
    """How many of the first words say where in the picture a thing is; 0 where none do."""
    there = tuple(keys(given))
    found = max((len(place) for place in _PLACED if there[: len(place)] == place), default=0)
    if found and there[found : found + 2] == ("of", "the") and there[found + 2 : found + 3] in {(p,) for p in PICTURES}:
        return found + 3
    return 0 if there[found : found + 1] == ("of",) else found


def ends_in_position(given: Sequence[Word]) -> bool:
    """Whether the last words say where in the picture a thing is."""
    return any(begins_with_position(given[i:]) == len(given) - i for i in range(len(given)))


def begins_with_arrangement(given: Sequence[Word]) -> int:
    """How many of the first words say how several things stand; 0 where none do."""
    there = tuple(keys(given[:4]))
    return max((len(said) for said in _ARRANGED if there[: len(said)] == said), default=0)


def begins_with_presentation(given: Sequence[Word]) -> int:
    """How many of the first words begin a list of things: "there is"; 0 where none do."""
    there = tuple(keys(given[:3]))
    return max((len(said) for said in _PRESENTED if there[: len(said)] == said), default=0)


def presents(given: Sequence[Word]) -> bool:
    """Whether a list of things begins after these words: at the beginning, "there is", "a photo of", "we see only"."""
    there = keys(given)
    while there and there[-1] in ALONE:
        there.pop()
    if not there or any(tuple(there[-len(said) :]) == said for said in _PRESENTED):
        return True
    if there[-1] not in _SHOWS or len(there) < 2 or there[-2] not in PICTURES | {"scene"}:
        return False
    # "A cat on a picture of" is about a cat; "a black and white photo of" names the picture alone.
    joined = max((i for i, key in enumerate(there) if key in JOINS), default=len(there))
    return not any(key in PREPOSITIONS for key in there[:-1]) and not any(map(is_determiner, there[joined:]))


def begins_with_backdrop(given: Sequence[Word]) -> int:
    """How many of the first words say what is behind all things: "with a beach in the background", "and a red
    background"; 0 where none do.
    """
    there = keys(given)
    begun = 3 if there[:3] == ["in", "front", "of"] else 1
    if begun == 1 and there[:1] not in (["with"], ["and"], ["against"], ["before"]):
        return 0
    end = next((i for i in range(begun, len(there)) if there[i] in PREPOSITIONS | JOINS | MARKS), len(there))
    if end > 1 and there[end - 1] in BACKDROPS:
        return end
    if there[0] != "with" or end < 2:
        return 0
    far = begins_with_distance(given[end:])
    return end + far if far else 0


def begins_with_distance(given: Sequence[Word]) -> int:
    """How many of the first words say that something is behind all others: "in the background", "behind it"; else 0."""
    far = [*keys(given[:3]), "", "", ""]
    if far[:2] == ["in", "the"] and far[2] in {*BACKDROPS, "distance"}:
        return 3
    return 1 + (far[1] in PRONOUNS) if far[0] == "behind" and (not far[1] or far[1] in PRONOUNS | JOINS | MARKS) else 0


def backgrounds(given: Sequence[Word]) -> list[int]:
    """The words that name a background, and do not say that something is in it: "in the background"."""
    before = {i: keys(given[max(0, i - 2) : i]) for i, word in enumerate(given) if word.key in BACKDROPS}
    return [i for i, said in before.items() if said != ["in", "the"] and said[-1:] != ["in"]]


def without_alone(given: Sequence[Word]) -> list[Word]:
    """A caption without what says that there is nothing else: "only a cat", "a cat and nothing else"."""
    kept, i = list[Word](), 0
    while i < len(given):
        if keys(given[i : i + 3]) == ["and", "nothing", "else"]:
            i += 3
        elif given[i].key in ALONE and any(is_determiner(key) for key in keys(given[i + 1 : i + 2])):
            i += 1
        else:
            kept.append(given[i])
            i += 1
    return kept


def head(phrase: Sequence[Word]) -> Sequence[Word]:
    """What a phrase names, without what is said of it: "an owl" of "an owl wearing sunglasses"."""
    said = (i for i, word in enumerate(phrase) if i and (word.key in PREPOSITIONS | RELATIVES or is_verb(phrase, i)))
    return phrase[: next(said, len(phrase))]


def is_number(key: str) -> bool:
    return key.isdigit()


def is_determiner(key: str) -> bool:
    return key in DETERMINERS or key in POSSESSIVES or is_number(key)


def is_participle(key: str) -> bool:
    """Whether a word may be a verb's form such as "riding"; some nouns are spelt so too, such as "building"."""
    return len(key) > 4 and key.endswith("ing")


def is_verb(given: Sequence[Word], i: int) -> bool:
    """Whether a participle may say what something does: "a cat riding" does, and not "a smiling cat"."""
    return is_participle(given[i].key) and i > 0 and not _describes(given[:i])


def _describes(before: Sequence[Word]) -> bool:
    """Whether only what things look like stands between what begins a name and what follows: "a small", "with"."""
    begins = next((word.key for word in reversed(before) if word.key not in COLOURS | LOOKS), "")
    return is_determiner(begins) or is_participle(begins) or begins in {"", "with", "in", "of"}


def is_past_participle(key: str) -> bool:
    """Whether a word may be a verb's form such as "perched"; some other words are spelt so too, such as "naked"."""
    return (len(key) > 4 and key.endswith("ed")) or key in _IRREGULAR


def article(following: str) -> str:
    """ "a" or "an" before a word, by its sound."""
    key = unicodedata.normalize("NFD", following.casefold())
    if re.match(r"(8|11(?!\d)|18(?!\d))", key):  # eight, eleven, eighteen
        return "an"
    if (len(following) > 1 and following.isupper()) or re.match(
        r"[a-z]-", key
    ):  # its letters are read out: "an MRI", "a UFO"
        return "an" if following[0].upper() in "AEFHILMNORSX" else "a"
    silent = re.match(r"(hour|honest|honou?r|heir)", key)
    spoken = re.match(r"(uni(?!n|m)|use|usu|uku|uti|ute|euro?|ewe|one\b|once|uk\b|us\b|usa\b)", key)
    return "an" if silent or (key[:1] in set("aeiou") and not spoken) else "a"


def count(phrase: Sequence[Word]) -> bool:
    """Whether a phrase is a number of several things: "two", "12", "several"."""
    return all(word.key in OF_MANY or (word.key.isdigit() and word.key != "1") for word in phrase)


def spoken(phrase: Sequence[Word]) -> str:
    """The first word that is said aloud: quotation marks are not."""
    return next((word.text for word in phrase if word.text[0].isalnum()), phrase[0].text)


def is_plural(phrase: Sequence[Word]) -> bool:
    """Whether a phrase names more than one thing, or what comes in pairs, as far as its last letters tell."""
    last = phrase[-1].key if phrase else ""
    if last in _PLURALS or last.endswith(("women", "children", "people")):
        return True
    return len(last) > 3 and last.endswith("s") and not re.search(r"(ss|us|is|ous)$", last)
