"""What all pipelines do: everything but their own arguments, their networks and their text encoders."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from ledits.backbones.network import NetworkBackbone
from ledits.backbones.texts import Text as PromptEmbedding
from ledits.language import several
from ledits.method import caption, core
from ledits.method.core import Concept, Prompt, Schedule, Step
from ledits.method.told import CAPTIONS, Told, for_pictures
from ledits.pipelines import adapters, callbacks, compat, inputs, moving
from ledits.pipelines.outputs import Conditioning, LEditsPPDiffusionPipelineOutput, LEditsPPInversionPipelineOutput
from ledits.scenes import suits

Timesteps = Literal["scheduler", "diffusers", "authors"]

logger = logging.getLogger(__name__)


class LEditsPP(DiffusionPipeline):
    """What all pipelines share; each says how its backbone is made of its parts, and how its text is embedded."""

    progress_bar: Any
    image_processor: Any
    scheduler: Any
    vae: Any = None
    _last: LEditsPPInversionPipelineOutput | None = None

    def __init__(self) -> None:
        super().__init__()
        self.image_processor = VaeImageProcessor(vae_scale_factor=1)

    # As diffusers' pipelines had them up to 0.41: for an autoencoder that is a pipeline's own part.

    def enable_vae_tiling(self) -> None:
        """Let the autoencoder work in tiles, which takes less memory for large pictures; as in diffusers."""
        self.vae.enable_tiling()

    def disable_vae_tiling(self) -> None:
        """Let the autoencoder work on whole pictures again."""
        self.vae.disable_tiling()

    def enable_vae_slicing(self) -> None:
        """Let the autoencoder take one picture of a batch at a time, which takes less memory; as in diffusers."""
        self.vae.enable_slicing()

    def disable_vae_slicing(self) -> None:
        """Let the autoencoder take a whole batch at once again."""
        self.vae.disable_slicing()

    def _backbone(self, conditioning: Conditioning) -> NetworkBackbone:
        raise NotImplementedError

    def _schedule(
        self, backbone: NetworkBackbone, steps: int, skip: float, height: int, width: int, timesteps: Timesteps
    ) -> Schedule:
        return backbone.schedule(steps, skip, height, width)

    def _embed(self, encoders: Any, text: str, second: str | None, clip_skip: int | None) -> PromptEmbedding:
        return encoders.embed(text)

    def _image_prompts(self, given: Any) -> adapters.ImagePrompts | None:
        """What each loaded IP-Adapter is given of a picture, or of none; None where none is loaded."""
        return None

    @property
    def inversion(self) -> LEditsPPInversionPipelineOutput:
        """The last inversion. Deprecated, as `zs` and `init_latents` are: keep what `invert` returns.

        Raises ValueError before the first one.
        """
        if self._last is None:
            raise ValueError("no picture was inverted yet: call invert(image=...) first, or pass inversion=...")
        return self._last

    @property
    def zs(self) -> Tensor:
        """Those of the last inversion, (T b c h w): the noise maps z of the paper's Eq. 7. ValueError before it."""
        return self.inversion.zs

    @property
    def init_latents(self) -> Tensor:
        """Those of the last inversion, (b c h w): its noisiest level. ValueError before it."""
        return self.inversion.init_latents

    def _invert(
        self, image: inputs.Picture, conditioning: Conditioning, steps: int | None, skip: float | None, generator: Any,
        height: int | None, width: int | None, resize_mode: str, crops_coords: Any,
        timesteps: Timesteps = "scheduler", zero_noise_steps: int = 0,
    ) -> LEditsPPInversionPipelineOutput:  # fmt: skip
        backbone = self._backbone(conditioning)
        captioned = conditioning.caption is not None
        steps = backbone.defaults.steps if steps is None else steps
        if skip is None:
            skip = backbone.defaults.described_skip if captioned else backbone.defaults.skip
        if not 0 <= zero_noise_steps <= steps:
            raise ValueError(f"num_zero_noise_steps {zero_noise_steps}: 0 to {steps} is needed")
        if zero_noise_steps and captioned:
            raise ValueError("num_zero_noise_steps loses the picture, which a caption's edits keep: leave it at 0")
        pictures = inputs.read(image, height, width, resize_mode, crops_coords)
        padded = inputs.pad(pictures, backbone.multiple)
        schedule = self._schedule(backbone, steps, skip, padded.shape[2], padded.shape[3], timesteps)
        suits.warn_of_words(backbone, captioned=captioned)
        if padded.shape[2] * padded.shape[3] > 2.25 * backbone.area:
            logger.warning(
                "pictures of %dx%d pixels, and the model was trained at an area of %d: expect repeated objects, or "
                "invert at a smaller height and width", padded.shape[3], padded.shape[2], backbone.area,
            )  # fmt: skip
        if isinstance(generator, list) and len(generator) not in (1, len(pictures)):
            raise ValueError(f"{len(generator)} generators for {len(pictures)} pictures: give one, or one for each")
        x0 = backbone.encode(padded)
        # The least noisy level is drawn first, as in the published code, so that a seed means the same noise.
        noise = [randn_tensor(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype) for _ in range(steps)]
        base, source = self._base_and_source(backbone, len(pictures), conditioning)
        with backbone.denoiser(schedule, maps=False) as denoise:
            inversion = core.invert(
                denoise, schedule, x0, torch.stack(noise[::-1]), base_prompt=base, source=source,
                source_scale=conditioning.source_scale,
            )  # fmt: skip
            evaluations = denoise.evaluations
        sizes = [(x.shape[2], x.shape[3]) for x in pictures]
        resized = [self.image_processor.postprocess(x, "pil")[0] for x in pictures]
        self._last = inverted = LEditsPPInversionPipelineOutput(
            resized, inversion, sizes, evaluations, zero_noise_steps, conditioning,
            lambda x: self._pictures(backbone.decode(x), sizes, "pil"), backbone.state(),
        )  # fmt: skip
        self.maybe_free_model_hooks()
        return inverted

    def _base_and_source(
        self, backbone: NetworkBackbone, b: int, conditioning: Conditioning
    ) -> tuple[tuple[PromptEmbedding, ...], Prompt]:
        """The base prompt of b pictures, and their source prompt, "" where there is none."""
        c, image = conditioning, self._image_prompts(None)
        if c.caption is not None:
            return self._texts(backbone, "caption", c.caption, b, c, image, clip_skip=c.clip_skip), ""
        base = self._texts(backbone, "negative_prompt", c.negative, b, c, image, c.negative_2)
        if not any([c.source] if isinstance(c.source, str) else c.source):
            return base, ""
        source = self._texts(backbone, "source_prompt", c.source, b, c, image, clip_skip=c.clip_skip)
        given = [c.source] * b if isinstance(c.source, str) else list(c.source) * (b // len(c.source))
        # A picture without a source is not guided: its source says what its base prompt does.
        return base, tuple(each if said else replace(own) for each, said, own in zip(source, given, base, strict=True))

    def _texts(
        self, backbone: NetworkBackbone, name: str, given: Any, b: int, conditioning: Conditioning,
        image: adapters.ImagePrompts | None, second: Any = None, clip_skip: int | None = None,
    ) -> tuple[PromptEmbedding, ...]:  # fmt: skip
        """One embedded prompt a picture, each an object of its own, from one for all or from b of them."""
        pairs: list[list[Any]] = []
        for value in (given, second):
            values = [value] if value is None or isinstance(value, str | PromptEmbedding) else list(value)
            if len(values) not in (1, b):
                raise ValueError(f"{name} has {len(values)} texts for {b} pictures: give one for all, or {b}")
            pairs.append(values * b if len(values) == 1 else values)
        embedded: dict[tuple[Any, Any], PromptEmbedding] = {}
        with adapters.lora_scaled(self, conditioning.attention):
            for pair in zip(*pairs, strict=True):
                if pair not in embedded:
                    text, ready = pair[0], isinstance(pair[0], PromptEmbedding)
                    text = text if ready else self._embed(backbone.prompts, text, pair[1], clip_skip)
                    embedded[pair] = moving.embedding(text, self._execution_device, backbone.dtype)
        return tuple(replace(embedded[pair], image=image) for pair in zip(*pairs, strict=True))

    def _given_inversion(
        self, inversion: LEditsPPInversionPipelineOutput | None, changes: Mapping[str, Any]
    ) -> tuple[NetworkBackbone, LEditsPPInversionPipelineOutput, int]:
        """The backbone and the inversion to replay, where the pipeline runs now, and the network evaluations it took.

        The path does not depend on the conditioning. Where the call has another one, or the network is another by now
        (weights, adapters, learned words, scheduler, number format), only the predictions along the path are made
        again, T evaluations, and the replay is as exact as if the picture had been inverted so. Another autoencoder is
        refused, for its latents are other pictures.
        """
        given = self.inversion if inversion is None else inversion
        changes = {name: value for name, value in changes.items() if value is not None}
        conditioning = replace(given.conditioning, **changes)
        backbone = self._backbone(conditioning)
        path = moving.moved(given.inversion, self._execution_device, backbone.dtype)
        now, then = backbone.state(), given.state
        as_computed = then is not None and then.predicts == now.predicts
        if then is not None and not then.same_pictures(now):
            raise ValueError(
                "the autoencoder is another one than the picture was inverted with: invert it again, or put the old "
                "one back"
            )
        if as_computed and moving.equal(conditioning, given.conditioning):
            return backbone, replace(given, inversion=path), 0
        if not as_computed:
            logger.warning("the network has changed since the picture was inverted: the path is predicted again")
        base, source = self._base_and_source(backbone, len(given.sizes), conditioning)
        with backbone.denoiser(path.schedule, maps=False) as denoise:
            again = core.predict(
                denoise, path.schedule, path.x, base_prompt=base, source=source, source_scale=conditioning.source_scale
            )
            found = replace(given, inversion=again, conditioning=conditioning, state=now)
            return backbone, found, denoise.evaluations

    def _edit(
        self, inversion: LEditsPPInversionPipelineOutput | None, changes: Mapping[str, Any], edits: inputs.Edits,
        image: Any = None, stop: Callable[[Schedule], int] = len,
    ) -> tuple[NetworkBackbone, LEditsPPInversionPipelineOutput, Tensor, LEditsPPDiffusionPipelineOutput]:  # fmt: skip
        """The backbone, the inversion used, the edited latents (b c h w), and an output with all but pictures.

        `changes` to the inversion's conditioning, `image` for IP-Adapters, `stop` the number of steps to replay.
        """
        callbacks.check(edits.callback_inputs, self._callback_tensor_inputs)
        backbone, given, again = self._given_inversion(inversion, changes)
        captioned = given.conditioning.caption is not None
        inputs.check_mode(edits, captioned)
        # Copies of the base prompts, for a callback may change them and the inversion is used again.
        base = tuple(replace(text) for text in cast("tuple[PromptEmbedding, ...]", given.inversion.base_prompt))
        image_prompts = self._image_prompts(image)
        path = replace(given.inversion, base_prompt=base)
        concepts = self._concepts(backbone, given, edits, image_prompts)
        told = self._told(backbone, given.conditioning, edits, concepts, path, image_prompts) if captioned else None
        prompts = cast("callbacks.Prompts", [path.base_prompt, *(concept.prompt for concept in concepts)])
        s, n = path.schedule, len(path.schedule)
        slopes = [backbone.slope(s, i) for i in range(n)]
        recorded = [slope * g.to(path.x) for slope, g in zip(slopes, edits.sem_guidance or (), strict=False)]
        mask = compat.mask(edits.rule, s, edits.upsampling, edits.noise_mask_below)
        replayed, stored = list[Step](), list[Tensor]()
        x, sent = path.x[0], None
        with backbone.denoiser(s, maps=edits.rule != "noise" and bool(concepts) and not captioned) as denoise:
            if captioned:
                going = caption.edit(denoise, path, concepts, told)
            else:
                going = core.edit(denoise, path, concepts, mask, rescale=edits.rescale, recorded=recorded)
            for i in self.progress_bar(range(stop(s))):
                step, sent = going.send(sent), None
                replayed.append(step)
                if i in edits.store_steps and step.attention is not None:
                    kept = step.attention.new_zeros(len(concepts), *step.attention.shape[1:])
                    kept[[k for k, concept in enumerate(concepts) if concept.active(i)]] = step.attention
                    stored.append(kept)
                if i >= n - given.zero_noise_steps:
                    sent = compat.without_noise(path, step)
                if edits.callback is not None:
                    reached = step.x if sent is None else sent
                    changed = callbacks.call(
                        edits.callback, edits.callback_inputs, self, backbone, s, i, reached, prompts
                    )
                    sent = sent if changed is None else changed
                x = step.x if sent is None else sent
            evaluations = again + denoise.evaluations
        return backbone, given, x, LEditsPPDiffusionPipelineOutput(
            images=[], nsfw_content_detected=None, network_evaluations=evaluations,
            masks=torch.stack([step.masks for step in replayed]) if replayed and concepts else None,
            sem_guidance=[step.guidance / slope for step, slope in zip(replayed, slopes, strict=False)],
            attention_maps=(torch.stack(stored).mean(0) if edits.store_average else stored) if stored else None,
        )  # fmt: skip

    def _concepts(
        self, backbone: NetworkBackbone, given: LEditsPPInversionPipelineOutput, edits: inputs.Edits,
        image: adapters.ImagePrompts | None,
    ) -> list[Concept]:  # fmt: skip
        if edits.prompts is not None and edits.embedded is not None:
            raise ValueError("editing_prompt and embeddings of it were both given: give one of them")
        prompts = [edits.prompts] if isinstance(edits.prompts, str) else list(edits.embedded or edits.prompts or ())
        k, b, conditioning = len(prompts), len(given.sizes), given.conditioning
        grid = given.inversion.x.shape[-2:]
        threshold = ("edit_threshold", edits.threshold)
        if conditioning.caption is not None:
            threshold = ("region_threshold", edits.region_threshold)
        columns = [
            inputs.per_edit("edit_guidance_scale", edits.scale, k),
            inputs.per_edit("reverse_editing_direction", edits.reverse, k),
            inputs.per_edit(*threshold, k),
            inputs.per_edit("edit_warmup_steps", edits.warmup, k),
            inputs.per_edit("edit_cooldown_steps", edits.cooldown, k),
            inputs.regions(edits.user_mask, k, given.sizes, (grid[0], grid[1]), backbone.factor),
        ]
        return [
            Concept(
                self._texts(
                    backbone, "editing_prompt", prompt, b, conditioning, image, clip_skip=conditioning.clip_skip
                ),
                -float(scale) if reverse else float(scale),
                None if threshold is None else float(threshold),
                int(warmup),
                None if cooldown is None else int(cooldown),
                region,
            )
            for prompt, scale, reverse, threshold, warmup, cooldown, region in zip(prompts, *columns, strict=True)
        ]

    def _told(
        self, backbone: NetworkBackbone, conditioning: Conditioning, edits: inputs.Edits,
        concepts: Sequence[Concept], path: core.Inversion, image: adapters.ImagePrompts | None,
    ) -> list[Told] | None:  # fmt: skip
        """What the network is told of each edit, as `Editor` tells it; None where prompts are embedded already."""
        if edits.embedded is not None:
            return None
        prompts = [path.base_prompt, *(concept.prompt for concept in concepts)]
        pictures = list(zip(*cast("list[tuple[PromptEmbedding, ...]]", prompts), strict=True))
        # What a callback may change is what the network is told: the prompts that are embedded already.
        ready = {(k, text.name): text for k, texts in enumerate(pictures) for text in reversed(texts)}

        def embedded(k: int, text: Any) -> PromptEmbedding:
            if (k, text) not in ready:
                (ready[k, text],) = self._texts(
                    backbone, "editing_prompt", text, 1, conditioning, image, clip_skip=conditioning.clip_skip
                )
            return ready[k, text]

        def with_prompts(k: int, told: Told) -> Told:
            texts = {name: embedded(k, getattr(told, name)) for name in CAPTIONS}
            return told._replace(
                **texts,
                stays=tuple(embedded(k, text) for text in told.stays),
                parts=tuple(with_prompts(k, part) for part in told.parts),
            )

        world = suits.world(backbone.name)
        emptied = world.emptied if world else None
        each = [
            [with_prompts(k, told) for told in several.told(source.name, [text.name for text in targets], emptied)]
            for k, (source, *targets) in enumerate(pictures)
        ]
        return for_pictures(each, [source for source, *_ in pictures])

    def _pictures(
        self, decoded: Tensor, sizes: Sequence[tuple[int, int]], output_type: str, denormalize: bool | list[bool] = True
    ) -> Any:
        """Decoded pictures (b 3 H W) in -1..1, without their padding, as `output_type` says."""
        flags = [denormalize] * len(sizes) if isinstance(denormalize, bool) else denormalize
        each = [
            self.image_processor.postprocess(x[None, :, :h, :w], output_type, [flag])
            for x, (h, w), flag in zip(decoded, sizes, flags, strict=True)
        ]
        if output_type == "pil" or len(set(sizes)) > 1:
            return [one[0] for one in each]
        return torch.cat(each) if output_type == "pt" else np.concatenate(each)
