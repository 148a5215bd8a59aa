"""diffusers' own pipeline of a model's parts: it knows how additions to them are read, and what the network is told."""

import inspect
from collections.abc import Mapping
from typing import Any

import diffusers
from diffusers.schedulers.scheduling_ddim import DDIMScheduler


def pipeline(family: str, parts: Mapping[str, Any], index: Mapping[str, Any], scheduler: Any = None) -> Any:
    """The pipeline of a family, of these parts, which are shared; `index` is its model_index.json."""
    if not hasattr(diffusers, family):
        return _modular(family, parts, index, scheduler)
    kind = getattr(diffusers, family)
    asked = inspect.signature(kind.__init__).parameters
    if (processor := parts.get("processor")) is not None:
        parts = {**parts, "processor": _processor(processor)}
    given = {name: parts.get(name) for name in asked if name not in ("self", "args", "kwargs")
             and (name in parts or asked[name].default is inspect.Parameter.empty)}  # fmt: skip
    # What it says beside its parts: [library, class] is one of those.
    given |= {name: value for name, value in index.items() if name in asked and not _is_part(value)}
    if "requires_safety_checker" in asked:
        given["requires_safety_checker"] = False
    if "add_watermarker" in asked:
        given["add_watermarker"] = False
    given["scheduler"] = scheduler or DDIMScheduler(clip_sample=False, steps_offset=1)
    return kind(**given)


def arguments(pipe: Any) -> set[str]:
    """The names of what a pipeline is told in a call."""
    blocks = getattr(pipe, "blocks", None)
    return set(inspect.signature(pipe.__call__).parameters) if blocks is None else {each.name for each in blocks.inputs}


def _modular(family: str, parts: Mapping[str, Any], index: Mapping[str, Any], scheduler: Any) -> Any:
    """The modular pipeline of a family that diffusers has no other of, without guidance; prompts stay as they are."""
    kind = family.removesuffix("Pipeline") + ("Distilled" if index.get("is_distilled") else "")
    blocks = getattr(diffusers, f"{kind}AutoBlocks")()
    blocks.sub_blocks.pop("prompt_upsampler", None)  # a language model that writes them out
    pipe = blocks.init_pipeline()
    wanted = {each.name for each in blocks.expected_components}
    given = {name: part for name, part in parts.items() if name in wanted and part is not None}
    if scheduler is not None:
        given["scheduler"] = scheduler
    for name, part in given.items():
        setattr(pipe, name, _processor(part) if (family, name) == ("Flux3Pipeline", "tokenizer") else part)
    if getattr(pipe, "guider", None) is not None:
        pipe.guider.disable()
    _without_bars(pipe._blocks)
    return pipe


def _without_bars(block: Any) -> None:
    if hasattr(block, "set_progress_bar_config"):
        block.set_progress_bar_config(disable=True)
    for each in (getattr(block, "sub_blocks", None) or {}).values():
        _without_bars(each)


class _Processor:
    """A tokenizer in the place of a processor, which reads pictures too: what a pipeline asks of one for a text."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.tokenizer(*args, **options)

    def apply_chat_template(self, *args: Any, **options: Any) -> Any:
        found = self.tokenizer.apply_chat_template(*args, **options)
        return [found] if options.get("tokenize", True) else found


def _processor(part: Any) -> Any:
    return part if hasattr(part, "tokenizer") else _Processor(part)


def _is_part(value: object) -> bool:
    return value is None or (
        isinstance(value, list) and [type(each) for each in value] in ([str, str], [type(None)] * 2)
    )  # pyright: ignore[reportUnknownVariableType]
