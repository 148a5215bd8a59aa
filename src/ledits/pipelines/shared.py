"""What both pipelines do: everything but their own arguments and their text encoders."""

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock
from typing import Any, Literal, cast

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.loaders.ip_adapter import IPAdapterMixin
from diffusers.loaders.single_file import FromSingleFileMixin
from diffusers.loaders.textual_inversion import TextualInversionLoaderMixin
from diffusers.models.embeddings import ImageProjection
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, StableDiffusionMixin
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.utils.constants import USE_PEFT_BACKEND
from diffusers.utils.peft_utils import scale_lora_layers, unscale_lora_layers
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor

from ledits import compat
from ledits.backbones.latent_unet import TOKENIZING, LatentUNet, Prompts, Text
from ledits.method import core
from ledits.method.core import Concept, Inversion, Prompt, Schedule, Step
from ledits.pipelines import inputs
from ledits.pipelines.outputs import LEditsPPDiffusionPipelineOutput, LEditsPPInversionPipelineOutput, Told
from ledits.schedule import from_scheduler

Timesteps = Literal["scheduler", "diffusers"]

logger = logging.getLogger(__name__)

_SCALING = Lock()  # a LoRA's scale is set on the shared text encoder while a prompt goes through it


class LEditsPP(
    DiffusionPipeline, StableDiffusionMixin, TextualInversionLoaderMixin, IPAdapterMixin, FromSingleFileMixin
):
    """What both pipelines share: everything but their text encoders and their arguments."""

    unet: Any
    vae: Any
    progress_bar: Any
    image_processor: Any
    scheduler: Any
    text_encoder: Any
    tokenizer: Any
    image_encoder: Any = None
    feature_extractor: Any = None
    _last: LEditsPPInversionPipelineOutput | None = None

    def _set_up(self, scheduler: Any) -> Any:
        """The scheduler to use: the user's own, or DPM-Solver++ with noise in place of one that can't invert."""
        self.image_processor = VaeImageProcessor(vae_scale_factor=1)
        if isinstance(scheduler, DDIMScheduler | DPMSolverMultistepScheduler):
            return scheduler
        logger.warning("%s can't invert: DPMSolverMultistepScheduler takes its place", type(scheduler).__name__)
        return DPMSolverMultistepScheduler.from_config(
            scheduler.config, algorithm_type="sde-dpmsolver++", solver_order=2
        )

    @property
    def vae_scale_factor(self) -> int:
        """The picture's side over the latents'."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def inversion(self) -> LEditsPPInversionPipelineOutput:
        """The last inversion. Deprecated, as `zs` and `init_latents` are: keep what `invert` returns."""
        if self._last is None:
            raise ValueError("no picture was inverted yet: call invert(image=...) first, or pass inversion=...")
        return self._last

    @property
    def zs(self) -> Tensor:
        return self.inversion.zs

    @property
    def init_latents(self) -> Tensor:
        return self.inversion.init_latents

    def _prompts(self, told: Told) -> Prompts:
        raise NotImplementedError

    def _embed(self, prompts: Any, text: str, second: str | None, clip_skip: int | None) -> Text:
        raise NotImplementedError

    def _backbone(self, told: Told) -> LatentUNet:
        return LatentUNet(
            self.unet, self.vae, self._prompts(told), self.scheduler.config, name=type(self).__name__, fingerprint="",
            settings={"map_scale": self.config["map_scale"]}, device=self._execution_device, attention=told.attention,
        )  # fmt: skip

    def _invert(
        self, image: inputs.Picture, told: Told, steps: int, skip: float, generator: Any, height: int | None,
        width: int | None, resize_mode: str, crops_coords: Any, timesteps: Timesteps, zero_noise_steps: int,
    ) -> LEditsPPInversionPipelineOutput:  # fmt: skip
        backbone = self._backbone(told)
        schedule = from_scheduler(self.scheduler, steps, skip, as_diffusers=timesteps == "diffusers")
        if not 0 <= zero_noise_steps <= steps:
            raise ValueError(f"num_zero_noise_steps {zero_noise_steps}: 0 to {steps} is needed")
        pictures = inputs.read(image, height, width, resize_mode, crops_coords)
        padded = inputs.pad(pictures, backbone.multiple)
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
        inversion, evaluations = self._predict(backbone, schedule, x0, torch.stack(noise[::-1]), told)
        sizes = [(x.shape[2], x.shape[3]) for x in pictures]
        resized = [self.image_processor.postprocess(x, "pil")[0] for x in pictures]
        self._last = inverted = LEditsPPInversionPipelineOutput(
            resized, inversion, sizes, evaluations, zero_noise_steps, told,
            lambda x: self._pictures(backbone.decode(x), sizes, "pil"),
        )  # fmt: skip
        self.maybe_free_model_hooks()
        return inverted

    def _predict(
        self, backbone: LatentUNet, schedule: Schedule, x0: Tensor, noise: Tensor, told: Told
    ) -> tuple[Inversion, int]:
        """The inversion of x0 (b c h w) through `noise` (T b c h w), and its network evaluations."""
        b, image = len(x0), self._image_prompts(None)
        null = self._texts(backbone, "negative_prompt", told.negative, b, told, image, told.negative_2)
        source: Prompt = ""
        if any([told.source] if isinstance(told.source, str) else told.source):
            source = self._texts(backbone, "source_prompt", told.source, b, told, image, clip_skip=told.clip_skip)
        with backbone.denoiser(schedule, maps=False) as denoise:
            inversion = core.invert(
                denoise, schedule, x0, noise, base_prompt=null, source=source, source_scale=told.source_scale
            )
            return inversion, denoise.evaluations

    def _texts(
        self, backbone: LatentUNet, name: str, given: Any, b: int, told: Told, image: tuple[Tensor, ...] | None,
        second: Any = None, clip_skip: int | None = None,
    ) -> tuple[Text, ...]:  # fmt: skip
        """One embedded prompt a picture, each an object of its own, from one text or Text for all or from b of them."""
        pairs: list[list[Any]] = []
        for value in (given, second):
            values = [value] if value is None or isinstance(value, str | Text) else list(value)
            if len(values) not in (1, b):
                raise ValueError(f"{name} has {len(values)} texts for {b} pictures: give one for all, or {b}")
            pairs.append(values * b if len(values) == 1 else values)
        embedded: dict[tuple[Any, Any], Text] = {}
        with self._lora_scaled(told.attention):
            for pair in zip(*pairs, strict=True):
                if pair not in embedded:
                    text = pair[0]
                    ready = isinstance(text, Text)
                    embedded[pair] = text if ready else self._embed(backbone.prompts, text, pair[1], clip_skip)
        return tuple(replace(embedded[pair], image=image) for pair in zip(*pairs, strict=True))

    @contextmanager
    def _lora_scaled(self, attention: Mapping[str, Any] | None) -> Generator[None]:
        """Text encoders at the LoRA scale that the network is given, inside the block."""
        scale = None if attention is None or not USE_PEFT_BACKEND else attention.get("scale")
        encoders = [part for name, part in self.components.items() if name.startswith("text_encoder") and part]
        with _SCALING:
            if scale is not None:
                for encoder in encoders:
                    scale_lora_layers(encoder, scale)
            try:
                yield
            finally:
                if scale is not None:
                    for encoder in encoders:
                        unscale_lora_layers(encoder, scale)

    def _converted(self, text: str, tokenizer: Any) -> str:
        """The text with every token of a textual inversion written out, one word a vector."""
        with TOKENIZING:
            return cast("str", self.maybe_convert_prompt(text, tokenizer))

    @torch.no_grad()
    def _image_prompts(self, image: Any) -> tuple[Tensor, ...] | None:
        """Of an image, or of none, what each loaded IP-Adapter is given: (1 d) or (1 tokens d)."""
        projection = getattr(self.unet, "encoder_hid_proj", None)
        layers = list(getattr(projection, "image_projection_layers", []))
        if not layers:
            if image is not None:
                raise ValueError("ip_adapter_image was given and no adapter is loaded: call load_ip_adapter first")
            return None
        given = list(image) if isinstance(image, list | tuple) else [image] * len(layers)
        if len(given) != len(layers):
            raise ValueError(f"ip_adapter_image has {len(given)} pictures for {len(layers)} adapters")
        device, dtype = self._execution_device, self.unet.dtype
        found: list[Tensor] = []
        for layer, one in zip(layers, given, strict=True):
            plain = isinstance(layer, ImageProjection)
            if plain and one is None:
                found.append(torch.zeros(1, cast("Any", layer.image_embeds).in_features, device=device, dtype=dtype))
                continue
            pixels = self.feature_extractor(one or Image.new("RGB", (224, 224)), return_tensors="pt").pixel_values
            pixels = (pixels if one is not None else torch.zeros_like(pixels)).to(device, dtype)
            out = self.image_encoder(pixels, output_hidden_states=not plain)
            found.append(out.image_embeds if plain else out.hidden_states[-2])
        return tuple(found)

    def _given_inversion(
        self, inversion: LEditsPPInversionPipelineOutput | None, changes: Mapping[str, Any]
    ) -> tuple[LatentUNet, LEditsPPInversionPipelineOutput, int]:
        """The backbone and the inversion to replay, predicted again where the call tells the network something else.

        The path does not depend on what the network is told, so that only the predictions along it are due: T
        evaluations, and the replay is as exact as if the picture had been inverted so.
        """
        given = self.inversion if inversion is None else inversion
        told = replace(given.told, **{name: value for name, value in changes.items() if value is not None})
        backbone = self._backbone(told)
        if told == given.told:
            return backbone, given, 0
        path, s = given.inversion.x.float(), given.inversion.schedule
        alpha, sigma = (torch.tensor(v[:-1]).view(-1, 1, 1, 1, 1).to(path) for v in (s.alpha, s.sigma))
        again, evaluations = self._predict(backbone, s, path[-1], (path[:-1] - alpha * path[-1]) / sigma, told)
        return backbone, replace(given, inversion=again, told=told), evaluations

    def _edit(
        self, inversion: LEditsPPInversionPipelineOutput | None, changes: Mapping[str, Any], edits: inputs.Edits,
        image: Any = None, stop: Callable[[Schedule], int] = len,
    ) -> tuple[LatentUNet, LEditsPPInversionPipelineOutput, Tensor, LEditsPPDiffusionPipelineOutput]:  # fmt: skip
        """The backbone, the inversion used, the edited latents (b c h w), and an output with all but pictures.

        `changes` to what inversion told the network, `image` for IP-Adapters, `stop` the number of steps to replay.
        """
        unknown = [name for name in edits.callback_inputs if name not in self._callback_tensor_inputs]
        if unknown:
            raise ValueError(
                f"callback_on_step_end_tensor_inputs has {unknown}: {self._callback_tensor_inputs} are accepted"
            )
        backbone, given, again = self._given_inversion(inversion, changes)
        # Copies of the null prompts, for a callback may change them and the inversion is used again.
        base = tuple(replace(text) for text in cast("tuple[Text, ...]", given.inversion.base_prompt))
        path = replace(given.inversion, base_prompt=base)
        concepts = self._concepts(backbone, given, edits, self._image_prompts(image))
        prompts = cast("Sequence[tuple[Text, ...]]", [path.base_prompt, *(concept.prompt for concept in concepts)])
        s, n = path.schedule, len(path.schedule)
        slopes = [backbone.slope(s, i) for i in range(n)]
        recorded = [slope * g.to(path.x) for slope, g in zip(slopes, edits.sem_guidance or (), strict=False)]
        mask = compat.mask(edits.rule, s, edits.upsampling, edits.noise_mask_below)
        replayed, stored = list[Step](), list[Tensor]()
        x, sent = path.x[0], None
        with backbone.denoiser(s, maps=edits.rule != "noise" and bool(concepts)) as denoise:
            going = core.edit(denoise, path, concepts, mask, rescale=edits.rescale, recorded=recorded)
            for i in self.progress_bar(range(stop(s))):
                step, sent = going.send(sent), None
                replayed.append(step)
                if i in edits.store_steps and step.attention is not None:
                    kept = step.attention.new_zeros(len(concepts), *step.attention.shape[1:])
                    kept[[k for k, concept in enumerate(concepts) if concept.active(i)]] = step.attention
                    stored.append(kept)
                if i >= n - given.zero_noise_steps:
                    sent = step.x - path.residual(i)
                x = step.x if sent is None else sent
                if edits.callback is not None:
                    changed = self._call_back(edits, backbone, s, i, x, prompts)
                    x = sent = changed if changed is not None else sent
                    x = step.x if x is None else x
            evaluations = again + denoise.evaluations
        return backbone, given, x, LEditsPPDiffusionPipelineOutput(
            images=[], nsfw_content_detected=None, network_evaluations=evaluations,
            masks=torch.stack([step.masks for step in replayed]) if replayed and concepts else None,
            sem_guidance=[step.guidance / slope for step, slope in zip(replayed, slopes, strict=False)],
            attention_maps=(torch.stack(stored).mean(0) if edits.store_average else stored) if stored else None,
        )  # fmt: skip

    def _concepts(
        self, backbone: LatentUNet, given: LEditsPPInversionPipelineOutput, edits: inputs.Edits,
        image: tuple[Tensor, ...] | None,
    ) -> list[Concept]:  # fmt: skip
        if edits.prompts is not None and edits.embedded is not None:
            raise ValueError("editing_prompt and embeddings of it were both given: give one of them")
        prompts = [edits.prompts] if isinstance(edits.prompts, str) else list(edits.embedded or edits.prompts or ())
        k, b = len(prompts), len(given.sizes)
        height, width = (backbone.factor * side for side in given.inversion.x.shape[-2:])
        columns = [
            inputs.per_edit("edit_guidance_scale", edits.scale, k),
            inputs.per_edit("reverse_editing_direction", edits.reverse, k),
            inputs.per_edit("edit_threshold", edits.threshold, k),
            inputs.per_edit("edit_warmup_steps", edits.warmup, k),
            inputs.per_edit("edit_cooldown_steps", edits.cooldown, k),
            inputs.regions(edits.user_mask, k, given.sizes, height, width),
        ]
        return [
            Concept(
                self._texts(backbone, "editing_prompt", prompt, b, given.told, image, clip_skip=given.told.clip_skip),
                -float(scale) if reverse else float(scale),
                float(threshold),
                int(warmup),
                None if cooldown is None else int(cooldown),
                region,
            )
            for prompt, scale, reverse, threshold, warmup, cooldown, region in zip(prompts, *columns, strict=True)
        ]

    def _call_back(
        self, edits: inputs.Edits, backbone: LatentUNet, s: Schedule, i: int, x: Tensor,
        prompts: Sequence[tuple[Text, ...]],
    ) -> Tensor | None:  # fmt: skip
        """Call the user's callback as diffusers does; the latents it wants instead of x, if any.

        What it returns for embeddings, of the null prompt or of all prompts, takes effect from the next step on.
        """
        every = [text for prompt in prompts for text in prompt]
        fields = {
            "negative_prompt_embeds": (prompts[0], "states"), "prompt_embeds": (every, "states"),
            "negative_pooled_prompt_embeds": (prompts[0], "pooled"), "add_text_embeds": (every, "pooled"),
        }  # fmt: skip
        handed: dict[str, Tensor] = {}
        for name in edits.callback_inputs:
            if name == "latents":
                handed[name] = x
            elif name == "add_time_ids":
                height, width = (backbone.factor * side for side in x.shape[-2:])
                handed[name] = backbone.prompts.conditions(every, height, width)["time_ids"]
            else:
                texts, what = fields[name]
                handed[name] = torch.stack([getattr(text, what) for text in texts])
        assert edits.callback is not None
        back = edits.callback(self, i, torch.tensor(s.t[i]), dict(handed)) or {}
        for name, value in back.items():
            if name in fields and value is not handed.get(name):
                texts, what = fields[name]
                for text, row in zip(texts, value, strict=True):
                    setattr(text, what, row)
            elif name == "add_time_ids" and value is not handed.get(name):
                raise ValueError("the callback returned other add_time_ids: sizes can't change between two steps")
        latents = back.get("latents")
        return None if latents is handed.get("latents") else latents

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
