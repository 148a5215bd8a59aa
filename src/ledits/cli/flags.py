"""Sentences of the library, which name arguments of Python, in the words of the command line."""

import re

_FLAGS = {
    "overwrite=True": "--force",
    "anyway=True": "--anyway",
    "device='cpu'": "--device cpu",
    "model=...": "--model",
    "size=...": "--size",
    "source=...": "--source",
    "mask=...": "--mask",
    "region=...": "--region",
    "drop_source_late=True": "--thrifty",
}


def flags(text: str) -> str:
    """The sentence with options in place of arguments."""
    return re.sub("|".join(map(re.escape, _FLAGS)), lambda found: _FLAGS[found.group()], text)
