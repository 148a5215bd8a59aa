"""Options that several commands share, as one argument of a command: each is said once, and reaches every page."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from ledits.asked.settings import InvertOptions
from ledits.cli.invert_options import OPTIONS
from ledits.cli.more_options import More

_GROUPS: dict[Any, dict[str, Any]] = {InvertOptions: OPTIONS, More: {each.name: each.type for each in fields(More)}}


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each field of its arguments of type `InvertOptions` and `More`."""
    signature = inspect.signature(command)
    groups = {each.name: each.annotation for each in signature.parameters.values() if each.annotation in _GROUPS}
    options = list[inspect.Parameter]()
    for each in signature.parameters.values():
        if each.name in groups:
            options += [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
                for name, annotation in _GROUPS[groups[each.name]].items()
            ]
        else:
            options.append(each.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{option: given.pop(option) for option in _GROUPS[group]})
        command(**given)

    run.__signature__ = signature.replace(parameters=options)  # pyright: ignore[reportAttributeAccessIssue]
    run.__annotations__ = {each.name: each.annotation for each in options}
    return run
