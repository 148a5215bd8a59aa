"""Several captioned edits at once: each begins alone, and in later steps each is told of the others.

An edit is the source's caption with that edit alone, its clearest direction while the picture is all but noise. Once
the picture shows what the other edits did, that caption is wrong about it: it names a heart that has become a star, and
the network, which misses the heart, puts one where something else is to be. From then on edit k is the caption after
all edits against the caption after all but k: one network answer for each edit and one more, as before.

Captions are given for each edit, for not every edit is best told everything (`concepts.told`). A removal frees a place,
and a caption that names anything else draws it there once more; and of two new things a network may draw one twice.
Beyond the paper; what it gains is in LOG.md. Axes are core.py's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ledits.method.core import Concept, Denoiser, Inversion, Prompt

# The share of an edit's steps that it goes alone.
_ALONE = 0.35


class Together:
    """`core.Denoiser` of `caption.edit`: first an edit's caption is its own of `alone`, in later steps its own of
    `after_all`, and then the source's is, in each edit's region, its own of `after_others`.

    `concepts` are those whose regions `caption.locate` found; the captions are one for each concept. Where not all
    concepts act, or one is to be less than its caption says (a scale below 1), the captions stay what they were: an
    edit of scale 0 changes nothing.
    """

    def __init__(
        self, denoise: Denoiser, inversion: Inversion, concepts: Sequence[Concept], alone: Sequence[Prompt],
        after_all: Sequence[Prompt], after_others: Sequence[Prompt],
    ) -> None:  # fmt: skip
        self._denoise, self._inversion, self._concepts = denoise, inversion, concepts
        self._early, self._late = (
            {concept.prompt: caption for concept, caption in zip(concepts, captions, strict=True)}
            for captions in (alone, after_all)
        )
        self._after_others = after_others
        self.evaluations, self.precision = denoise.evaluations, denoise.precision

    def __call__(self, x: Tensor, levels: Sequence[int], prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor | None]:
        base, own = self._inversion.base_prompt, self._early.keys()
        if not (all(map(self._all_act, levels)) and own <= set(prompts) <= {base, *own}):
            predicted, maps = self._denoise(x, levels, prompts)
            self.evaluations = self._denoise.evaluations
            return predicted, maps
        late = all(map(self._is_late, levels))
        told = self._late if late else self._early
        others = (self._after_others if late else [base] * len(self._concepts)) if base in prompts else ()
        asked = list(dict.fromkeys([*told.values(), *others]))
        predicted, _ = self._denoise(x, levels, asked)
        self.evaluations = self._denoise.evaluations
        seen = dict(zip(asked, predicted, strict=True))
        without = self._inversion.base_denoised[list(levels)].to(x)
        for concept, prompt in zip(self._concepts, others, strict=False):
            if concept.region is not None:
                without = torch.where(concept.region > 0, seen[prompt], without)
        return torch.stack([without if prompt == base else seen[told[prompt]] for prompt in prompts]), None

    def _all_act(self, i: int) -> bool:
        return all(concept.active(i) and concept.scale >= 1 for concept in self._concepts)

    def _is_late(self, i: int) -> bool:
        first, n = max(concept.warmup for concept in self._concepts), len(self._inversion.schedule)
        return i >= first + max(1.0, _ALONE * (n - first))
