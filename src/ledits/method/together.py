"""Several captioned edits at once: each begins alone, and in later steps each is told of the others.

An edit is the source's caption with that edit alone, its clearest direction while the picture is all but noise. Once
the picture shows what the other edits did, that caption is wrong about it: it names a heart that has become a star, and
the network, which misses the heart, puts one where something else is to be. From then on edit k is the caption after
all edits against the caption after all but k: one network answer for each edit and one more, as before. Beyond the
paper; what it gains is in LOG.md. Axes are core.py's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ledits.method.core import Concept, Denoiser, Inversion, Prompt

# The share of an edit's steps that it goes alone.
_ALONE = 0.35


class Together:
    """`core.Denoiser` of `caption.edit`: in later steps an edit's caption is the one after all edits, and the source's
    is, in each edit's region, the one after all the others.

    `concepts` are those whose regions `caption.locate` found; `after_all` and `after_others`, one for each concept, are
    captions. Where not all concepts act, or one is to be less than its caption says (a scale below 1), the captions are
    as they were: an edit of scale 0 changes nothing.
    """

    def __init__(
        self, denoise: Denoiser, inversion: Inversion, concepts: Sequence[Concept], after_all: Prompt,
        after_others: Sequence[Prompt],
    ) -> None:  # fmt: skip
        self._denoise, self._inversion, self._concepts = denoise, inversion, concepts
        self._after_all, self._after_others = after_all, after_others
        self.evaluations, self.precision = denoise.evaluations, denoise.precision

    def __call__(self, x: Tensor, levels: Sequence[int], prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor | None]:
        base, own = self._inversion.base_prompt, {concept.prompt for concept in self._concepts}
        if not (all(self._joined(i) for i in levels) and own <= set(prompts) <= {base, *own}):
            predicted, maps = self._denoise(x, levels, prompts)
            self.evaluations = self._denoise.evaluations
            return predicted, maps
        others = self._after_others if base in prompts else ()
        asked = list(dict.fromkeys([self._after_all, *others]))
        predicted, _ = self._denoise(x, levels, asked)
        self.evaluations = self._denoise.evaluations
        seen = dict(zip(asked, predicted, strict=True))
        without = self._inversion.base_denoised[list(levels)].to(x)
        for concept, prompt in zip(self._concepts, others, strict=False):
            if concept.region is not None:
                without = torch.where(concept.region > 0, seen[prompt], without)
        return torch.stack([without if prompt == base else seen[self._after_all] for prompt in prompts]), None

    def _joined(self, i: int) -> bool:
        first, n = max(concept.warmup for concept in self._concepts), len(self._inversion.schedule)
        late = i >= first + max(1.0, _ALONE * (n - first))
        return late and all(concept.active(i) and concept.scale >= 1 for concept in self._concepts)
