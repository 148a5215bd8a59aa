"""A declared approximation of captioned edits, off by default: later steps without the source's caption.

Guidance asks twice in each step, for the source's caption and for each edit's; how far an edit is pushed past its own
caption is decided early. From half of the steps on, each edit's prediction is taken as it is in its region, guidance of
weight 1, and the source's is not asked for. Outside the regions the replay is on the path, where it is known. The idea
is guidance in a limited interval (Kynkäänniemi et al. 2024, arXiv 2404.07724); what it gains and costs is in
docs/speed.md. Axes are core.py's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ledits.method.core import Concept, Denoiser, Inversion, Prompt


class Thrifty:
    """`core.Denoiser` of `caption.edit`: answers for the source's caption without the network in later steps.

    `concepts` are those whose regions `caption.locate` found. Where not all of them act, or one is to be less
    than its caption says (a scale below 1), the source is asked for as ever.
    """

    def __init__(self, denoise: Denoiser, inversion: Inversion, concepts: Sequence[Concept]) -> None:
        self._denoise, self._inversion, self._concepts = denoise, inversion, concepts
        self.evaluations, self.precision = denoise.evaluations, denoise.precision

    def __call__(self, x: Tensor, levels: Sequence[int], prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor | None]:
        base_prompt = self._inversion.base_prompt
        spared = base_prompt in prompts and all(self._spared(i) for i in levels)
        asked = [prompt for prompt in prompts if prompt != base_prompt] if spared else prompts
        predicted, maps = self._denoise(x, levels, asked)
        self.evaluations = self._denoise.evaluations
        if not spared:
            return predicted, maps
        seen = dict(zip(asked, predicted, strict=True))
        source = self._inversion.base_denoised[list(levels)].to(x)
        for concept in self._concepts:
            if concept.region is not None:
                source = torch.where(concept.region > 0, seen[concept.prompt], source)
        return torch.stack([seen.get(prompt, source) for prompt in prompts]), None

    def _spared(self, i: int) -> bool:
        """Whether step i does without the source: each edit acts, by its own caption and at least as strongly."""
        late = 2 * i >= len(self._inversion.schedule)
        return late and all(
            c.active(i) and c.scale >= 1 and c.prompt != self._inversion.base_prompt for c in self._concepts
        )
