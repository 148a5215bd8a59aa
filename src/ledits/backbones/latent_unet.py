"""What every UNet on an autoencoder's latents shares: encoding, batches, attention maps, prediction types."""

import logging
import math
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import product
from threading import Lock
from typing import Any, Protocol, cast

import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor

from ledits import memory
from ledits.attention import TokenMaps, token_maps
from ledits.method.core import Prompt, Schedule
from ledits.schedule import consistency, from_config

# The presets of the authors' demo for objects, without its warm-up; a checkpoint's ledits.json may name better ones.
DEFAULTS = {
    "steps": 50, "skip": 0.15, "warmup": 0,
    "add_scale": 12.0, "add_threshold": 0.9, "remove_scale": 8.0, "remove_threshold": 0.9,
    "swap_new_scale": 12.0, "swap_new_threshold": 0.9, "swap_old_scale": 8.0, "swap_old_threshold": 0.9,
    "described_scale": 7.5, "described_skip": 0.15,
}  # fmt: skip
# Of consistency models, whose predictions hold guidance already: 1.5 is TurboEdit's for the difference of two captions
# (Deutch et al. 2024); the other scales are those above over _GUIDANCE, by which such a network widens differences.
_CONSISTENCY_DEFAULTS = {
    "steps": 4, "add_scale": 1.5, "remove_scale": 1.0, "swap_new_scale": 1.5, "swap_old_scale": 1.0,
    "described_scale": 1.5,
}  # fmt: skip
# What a network that was distilled with guidance is told of it: the middle of what LCMs are trained for (Luo et al.
# 2023, w = 2 to 14, one less than this scale), and what their authors sample with.
_GUIDANCE = 8.0
PREDICTIONS = ("epsilon", "v_prediction", "sample", "flow_prediction")

_CPU_ROOM = 2**29  # bytes of a batch on a CPU

logger = logging.getLogger(__name__)

# A fast tokenizer refuses to be used from two threads at once, and an autoencoder that is cast for one picture must not
# meet another thread's.
TOKENIZING, _CASTING = Lock(), Lock()

# diffusers scales a LoRA's shared weights for the time of a pass, which another thread's pass would see.
_SCALING = Lock()


@dataclass(eq=False)
class Text:
    """One embedded prompt. It is its own key: two of the same text are two prompts."""

    name: str
    states: Tensor = field(repr=False)  # (tokens, d)
    words: Tensor = field(repr=False)  # (tokens,) bool, on the CPU: true for words, false for start, end and padding
    pooled: Tensor | None = field(default=None, repr=False)  # (d',) where the network takes it
    # An image prompt, (images, d'') for each adapter.
    image: tuple[Tensor, ...] | None = field(default=None, repr=False)


class Prompts(Protocol):
    """The text encoders of a family."""

    def embed(self, text: str, *, clip_skip: int | None = None) -> Text:
        """The prompt as the network takes it; `clip_skip` leaves out the last layers of the text encoder."""
        ...

    def conditions(self, texts: Sequence[Text], height: int, width: int) -> dict[str, Any]:
        """What else the network takes, one row a text, for pictures of height x width pixels."""
        ...


class LatentUNet:
    """A backbone; see `ledits.backbones.Backbone`.

    `settings` are the checkpoint's own ledits.json: "map_scale", the latent side over the side of the attention maps to
    use, "time_shift" (see `schedule.from_config`), "guidance_scale", and "defaults". Without it the maps are those at a
    quarter of the latent side, as in the paper, or at the nearest level where the network attends to text; there is no
    shift; and a network that takes a guidance scale as an input (`time_cond_proj_dim`, as LCMs do) is told 8, for every
    prompt. `attention` goes to the network as its cross_attention_kwargs.
    """

    device: torch.device
    dtype: torch.dtype
    defaults: Mapping[str, float]

    def __init__(
        self,
        unet: Any,
        vae: Any,
        prompts: Prompts,
        scheduler: Mapping[str, Any],
        *,
        name: str,
        fingerprint: str,
        settings: Mapping[str, Any] | None = None,
        device: torch.device | None = None,
        attention: Mapping[str, Any] | None = None,
        max_batch: int | None = None,
    ) -> None:
        settings = settings or {}
        self.unet, self.vae, self.prompts, self.scheduler = unet, vae, prompts, dict(scheduler)
        self.prediction = self.scheduler.get("prediction_type", "epsilon")
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"model {name!r} predicts {self.prediction!r}: {', '.join(PREDICTIONS)} are known")
        self.name, self.fingerprint, self.max_batch, self.attention = name, fingerprint, max_batch, attention
        self.device, self.dtype = device or unet.device, unet.dtype
        self.map_scale = int(settings.get("map_scale") or _map_scale(unet.config.down_block_types))
        self.time_shift = _number(settings, "time_shift", 0.0, name)
        distilled = _CONSISTENCY_DEFAULTS if consistency(self.scheduler) else {}
        self.defaults = {**DEFAULTS, **distilled, **settings.get("defaults", {})}
        guidance = _number(settings, "guidance_scale", _GUIDANCE, name)
        width = getattr(unet.config, "time_cond_proj_dim", None)
        self.guidance = _guidance(guidance, width) if width else None
        self.factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.multiple = self.factor * max(4, self.map_scale)  # so that attention maps have whole sides
        self.area = (self.factor * int(unet.config.sample_size)) ** 2

    def schedule(self, steps: int, skip: float) -> Schedule:
        return from_config(self.scheduler, steps, skip, time_shift=self.time_shift)

    def slope(self, schedule: Schedule, i: int) -> float:
        """What x0 changes by where the network's output changes by one, at level i."""
        alpha, sigma = schedule.alpha[i], schedule.sigma[i]
        return {"epsilon": -sigma / alpha if alpha else -math.inf, "sample": 1.0}.get(self.prediction, -sigma)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        with self._cast_vae() as vae:
            parts = list[Tensor]()
            for part in self._fitting(vae, images, images[0, 0].numel()):
                out = vae.encode(part.to(self.device, vae.dtype))
                parts.append(out.latent_dist.mode() if hasattr(out, "latent_dist") else out.latents)
            return torch.cat(parts).float() * vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        with self._cast_vae() as vae:
            latents = (x.to(self.device) / vae.config.scaling_factor).to(vae.dtype)
            pixels = x[0, 0].numel() * self.factor**2
            parts = [vae.decode(part).sample for part in self._fitting(vae, latents, pixels)]
            return torch.cat(parts).float().clamp(-1, 1)

    @contextmanager
    def denoiser(self, schedule: Schedule, *, maps: bool) -> Generator["_Denoiser"]:
        with token_maps(self.unet) if maps else nullcontext() as recorder:
            yield _Denoiser(self, schedule, recorder)

    def _fitting(self, vae: Any, batch: Tensor, pixels: int) -> Generator[Tensor]:
        """The batch in as large parts as memory holds; where one picture is too much, the autoencoder works in tiles.

        It holds about eight tensors of its first level's width and the picture's size (measured on SD's: 5 and 7.4).
        """
        need, free = 8 * vae.config.block_out_channels[0] * pixels * vae.dtype.itemsize, memory.free(self.device)
        before = getattr(vae, "use_tiling", None)
        if tiled := need > free and before is False:
            logger.warning("the picture does not fit into memory at once: the autoencoder works in tiles")
            vae.use_tiling = True
        try:
            yield from batch.split(max(1, free // 2 // need))
        finally:
            if tiled:
                vae.use_tiling = before

    @contextmanager
    def _cast_vae(self) -> Generator[Any]:
        """The autoencoder, in fp32 inside the block where it would overflow in fp16 (SDXL's does, and says so)."""
        if not getattr(self.vae.config, "force_upcast", False):
            yield self.vae
            return
        # Its precision is read under the lock: another thread may have it cast at this moment.
        with _CASTING:
            if self.vae.dtype != torch.float16:
                yield self.vae
                return
            self.vae.to(torch.float32)
            try:
                yield self.vae
            finally:
                self.vae.to(torch.float16)


class _Denoiser:
    """`core.Denoiser` over a UNet; texts are embedded once, rows are evaluated in batches sized to memory."""

    def __init__(self, backbone: LatentUNet, schedule: Schedule, recorder: TokenMaps | None) -> None:
        if backbone.prediction == "epsilon" and schedule.alpha[0] == 0:
            raise ValueError(
                f"model {backbone.name!r} predicts noise, and the first level is nothing else: use skip above 0, "
                "or a scheduler without rescale_betas_zero_snr"
            )
        self.evaluations = 0
        self._backbone, self._schedule, self._recorder = backbone, schedule, recorder
        self._size = 0  # of batches, found with the first picture
        self._plain = recorder is not None
        self._texts: dict[Prompt, Text] = {}

    @torch.no_grad()
    def __call__(self, x: Tensor, levels: Sequence[int], prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor | None]:
        n, b = x.shape[:2]
        # One row of the network's batch for each prompt, level and picture, in this order.
        rows = list(product(prompts, range(n), range(b)))
        grid = [side // self._backbone.map_scale for side in x.shape[-2:]]
        clean, maps = list[Tensor](), list[Tensor]()
        self._size = self._size or self._batch(x)
        for start in range(0, len(rows), size := self._size):
            part = rows[start : start + size]
            texts = [self._text(prompt[k] if isinstance(prompt, tuple) else prompt) for prompt, _, k in part]
            if self._recorder:
                self._recorder.begin(torch.stack([text.words for text in texts]), grid[0] * grid[1])
            x_part, at = torch.stack([x[j, k] for _, j, k in part]), [levels[j] for _, j, _ in part]
            clean.append(self._evaluate(x_part, at, texts))
            if self._recorder:
                maps.append(self._recorder.read(x.device).unflatten(1, grid))
        shape = (len(prompts), n, b)
        return torch.cat(clean).unflatten(0, shape), torch.cat(maps).unflatten(0, shape) if maps else None

    def _evaluate(self, x: Tensor, levels: Sequence[int], texts: Sequence[Text]) -> Tensor:
        """The clean pictures (r c h w) that the network sees in the rows x, each at its own level."""
        model, s, guidance = self._backbone, self._schedule, self._backbone.guidance
        t, alpha, sigma = (torch.tensor([v[i] for i in levels], device=x.device) for v in (s.t, s.alpha, s.sigma))
        height, width = (model.factor * side for side in x.shape[-2:])
        conditions = model.prompts.conditions(texts, height, width)
        if texts[0].image is not None:
            images = zip(*(cast("tuple[Tensor, ...]", text.image) for text in texts), strict=True)
            conditions["image_embeds"] = [torch.stack(each) for each in images]
        output = self._through(
            x.to(model.dtype),
            t,
            torch.stack([text.states for text in texts]),
            timestep_cond=None if guidance is None else guidance.to(x.device, model.dtype).expand(len(x), -1),
            added_cond_kwargs=conditions or None,
            cross_attention_kwargs=dict(model.attention) if model.attention else None,
        ).sample.float()
        self.evaluations += len(x)
        alpha, sigma = alpha.view(-1, 1, 1, 1), sigma.view(-1, 1, 1, 1)
        match model.prediction:
            case "epsilon":
                return (x - sigma * output) / alpha
            case "v_prediction":
                return alpha * x - sigma * output
            case "flow_prediction":  # of eps - x0, where alpha + sigma = 1
                return x - sigma * output
            case _:
                return output

    def _through(self, *inputs: Any, **named: Any) -> Any:
        """The network's answer; a network that the caller has compiled runs as it is where hooks must be heard."""
        if not self._plain:
            try:
                return self._alone(*inputs, **named)
            except _compilation_errors() as error:
                reason = str(error).strip().splitlines()[0]
                logger.warning("the network can't be compiled and runs as it is, which is slower: %s", reason)
                self._plain = True
        # Where nobody has compiled anything the import of the compiler would cost a second.
        with torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext():
            return self._alone(*inputs, **named)

    def _alone(self, *inputs: Any, **named: Any) -> Any:
        """The network's answer, one pass at a time where it has a LoRA."""
        with _SCALING if hasattr(self._backbone.unet, "peft_config") else nullcontext():
            return self._backbone.unet(*inputs, **named)

    def _text(self, prompt: Prompt) -> Text:
        if isinstance(prompt, Text):
            return prompt
        if prompt not in self._texts:
            self._texts[prompt] = self._backbone.prompts.embed(str(prompt))
        return self._texts[prompt]

    def _batch(self, x: Tensor) -> int:
        """How many rows to evaluate at once: what half of the free memory holds, at most 32, for more gain nothing.

        A row holds about 40 tensors of the first level's width at once (measured on SD 1.5: 20 to 30). A CPU is busy
        with little, and slower with more than its caches hold: 5.4 s a row by twenties, 4.7 by twos, for SD 1.5 at
        512 x 512. Raises ValueError where not even one row fits.
        """
        model = self._backbone
        need = 40 * model.unet.config.block_out_channels[0] * x[0, 0, 0].numel() * model.dtype.itemsize
        memory.check(x.device, need, *(model.factor * side for side in x.shape[-2:]))
        room = memory.free(x.device) // 2
        return model.max_batch or max(1, min(32, (min(room, _CPU_ROOM) if x.device.type == "cpu" else room) // need))


def _compilation_errors() -> tuple[type[Exception], ...]:
    # Whoever compiled has loaded it.
    loaded = sys.modules.get("torch._dynamo.exc")
    return (loaded.TorchDynamoException,) if loaded else ()


def tokenize(tokenizer: Any, text: str) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids (1 n), attention mask (1 n) and which tokens are words (n,) bool, padded to what the encoder reads.

    Raises ValueError for a text that is too long, for a cut one would edit something else than was asked for.
    """
    longest = tokenizer.model_max_length
    with TOKENIZING:
        out = tokenizer(text, padding="max_length", max_length=longest, return_attention_mask=True, return_tensors="pt")
    if (given := out.input_ids.shape[1]) > longest:
        raise ValueError(f"prompt {text!r} has {given - 2} tokens and the model reads {longest - 2}: shorten it")
    # Padding is often the end token again, and a fast tokenizer's length counts it: only mask and ids together tell
    # words.
    marks = torch.tensor([tokenizer.bos_token_id, tokenizer.eos_token_id])
    words = out.attention_mask[0].bool() & ~torch.isin(out.input_ids[0], marks)
    return out.input_ids, out.attention_mask, words


def _number(settings: Mapping[str, Any], key: str, usual: float, name: str) -> float:
    value: object = settings.get(key, usual)
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"model {name!r}: {key} {value!r} in its ledits.json is no number, such as {usual}")
    return float(value)


def _guidance(scale: float, width: int) -> Tensor:
    """A guidance scale as a network takes it that was distilled with it, (1, width): sines, then cosines."""
    return get_timestep_embedding(torch.tensor([1000 * (scale - 1)]), width)


def _map_scale(blocks: Sequence[str]) -> int:
    """The latent side over the side of the maps to use: 4, or the nearest power of 2 where a block attends to text."""
    scales = [2**level for level, block in enumerate(blocks) if "CrossAttn" in block] or [4]
    return min(scales, key=lambda scale: (max(scale, 4) // min(scale, 4), scale))
