"""ComfyUI's own MODEL, CLIP and VAE as a backbone of ledits, with whatever the graph put on them.

The network is asked through the host's sampler calls, so that LoRAs, quantised weights, single-file checkpoints and
its memory management go on working. What the host adds to *guidance* (CFG patches) does not take part: LEDITS++ guides
by itself. Tested with ComfyUI 0.19.3 and 0.33.0; `calc_cond_batch`, `process_conds` and `prepare_sampling` are its
internals.
"""

import copy
import hashlib
import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import comfy.ldm.modules.attention
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.sampler_helpers
import comfy.samplers
import torch
import torch.nn.functional as F
from torch import Tensor

from ledits.backbones.finite import finite
from ledits.backbones.network import PRECISION
from ledits.backbones.schedule import flow_skip, from_config
from ledits.files.defaults import Defaults
from ledits.method.core import Prompt, Schedule

_MAP_SCALE = 4  # the latent side over the side of the attention maps, as in the paper
_ROWS = 16  # of one network call, at most


class ComfyBackbone:
    """A `ledits.backbones.Backbone` of a MODEL (ModelPatcher), a CLIP and a VAE."""

    def __init__(self, model: Any, clip: Any, vae: Any) -> None:
        """Raises ValueError for a MODEL that is no image model of noise, v or flow prediction."""
        self.patcher, self.clip, self.vae, self.real = model, clip, vae, model.model
        sampling, kind = self.real.model_sampling, type(self.real).__name__
        self.flow = isinstance(sampling, comfy.model_sampling.CONST)
        levels = (comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.ModelSamplingFlux)
        known = levels if self.flow else (comfy.model_sampling.ModelSamplingDiscrete,)
        unknown = (comfy.model_sampling.EDM, comfy.model_sampling.X0, comfy.model_sampling.StableCascadeSampling,
                   comfy.model_sampling.IMG_TO_IMG_FLOW)  # fmt: skip
        if not isinstance(sampling, known) or isinstance(sampling, unknown):
            raise ValueError(
                f"a MODEL of kind {kind} can't be edited with: models that predict noise, v or flow are accepted, such "
                "as Stable Diffusion 1.5, SDXL, SD3 and FLUX"
            )
        if self.real.latent_format.latent_dimensions != 2 or self.real.concat_keys:
            raise ValueError(
                f"a MODEL of kind {kind} makes videos or sound, or fills masks: load one that draws pictures from text"
            )
        self.maps = hasattr(self.real.diffusion_model, "input_blocks")
        factor = int(vae.spacial_compression_encode())
        self.name, self.multiple = kind, factor * (_MAP_SCALE if self.maps else 2)
        self.device, self.dtype = model.load_device, self.real.get_dtype_inference()
        self.area = _area(self.real, self.flow) ** 2
        self.defaults = Defaults()
        if self.flow:
            skip = flow_skip(self._shift())
            usual = {f"{part}_scale": 5.0 for part in ("add", "remove", "swap_new", "swap_old", "described")}
            self.defaults = self.defaults.changed({"steps": 28, "skip": skip, "described_skip": skip}, usual)
        self.fingerprint = _fingerprint(model, clip, vae)

    def _shift(self) -> float:
        sampling = self.real.model_sampling
        flux = isinstance(sampling, comfy.model_sampling.ModelSamplingFlux)
        return math.exp(sampling.shift) if flux else float(sampling.shift)

    def schedule(self, steps: int, skip: float, height: int, width: int) -> Schedule:
        """Levels of the MODEL's own noise schedule, as ModelSampling nodes left it; the same for every size."""
        if self.flow:
            return from_config({"shift": self._shift(), "num_train_timesteps": 1000}, steps, skip)
        bars = 1 / (1 + self.real.model_sampling.sigmas.double().cpu() ** 2)
        before = torch.cat([bars.new_ones(1), bars[:-1]])
        config = {"num_train_timesteps": len(bars), "beta_schedule": "trained", "beta_start": 0.0, "beta_end": 0.0,
                  "trained_betas": 1 - bars / before}  # fmt: skip
        return from_config(config, steps, skip)

    def encode(self, images: Tensor) -> Tensor:
        """Latents (b c h w) fp32 of images (b 3 H W) in -1..1; the mode of the encoder's distribution."""
        latents = self.vae.encode((images.movedim(1, -1) + 1) / 2)
        return finite(self.real.process_latent_in(latents.to(self.device, torch.float32)), "the picture's latents")

    def decode(self, x: Tensor) -> Tensor:
        """Images (b 3 H W) fp32 in -1..1 of latents (b c h w)."""
        pictures = self.vae.decode(self.real.process_latent_out(finite(x.float(), "the edited latents")))
        return finite(pictures[..., :3].movedim(-1, 1).float() * 2 - 1, "the decoded pictures")

    @contextmanager
    def denoiser(
        self, schedule: Schedule, *, maps: bool, watch: Callable[[int], None] | None = None
    ) -> Generator["_Denoiser"]:
        """The network between the host's pre_run and cleanup, with copies of the MODEL's options."""
        self.patcher.pre_run()
        denoise = _Denoiser(self, schedule, maps and self.maps, watch)
        try:
            yield denoise
        finally:
            comfy.sampler_helpers.cleanup_models({}, denoise.others)
            self.patcher.cleanup()


class _Denoiser:
    """`core.Denoiser` over the host's sampler calls."""

    def __init__(
        self, backbone: ComfyBackbone, schedule: Schedule, maps: bool, watch: Callable[[int], None] | None
    ) -> None:
        self.evaluations, self.precision = 0, PRECISION.get(backbone.dtype, PRECISION[torch.bfloat16])
        self.others: list[Any] = []  # models that the host loaded beside, such as control nets
        self._backbone, self._schedule, self._watch = backbone, schedule, watch
        self._maps = _Maps(backbone) if maps else None
        self._conds: dict[Prompt, list[Any]] = {}
        self._words: dict[Prompt, Tensor] = {}

    @torch.no_grad()
    def __call__(self, x: Tensor, levels: Sequence[int], prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor | None]:
        backbone, s = self._backbone, self._schedule
        for prompt in prompts:
            if prompt not in self._conds:
                self._embed(prompt)
        # Each call: text encoder or autoencoder may have pushed the network out of the GPU's memory.
        given = {str(k): [dict(c) for c in self._conds[prompt]] for k, prompt in enumerate(prompts)}
        options = comfy.model_patcher.create_model_options_clone(backbone.patcher.model_options)
        options.setdefault("transformer_options", {})
        comfy.sampler_helpers.prepare_model_patcher(backbone.patcher, given, options)
        shape = [min(_ROWS, len(levels) * len(prompts)), *x.shape[2:]]
        real, given, self.others = comfy.sampler_helpers.prepare_sampling(backbone.patcher, shape, given, options)
        # What was loaded last is told again which patcher it runs for.
        backbone.patcher.pre_run()
        comfy.samplers.cast_to_load_options(options, device=backbone.device, dtype=backbone.patcher.model_dtype())
        options["transformer_options"]["sample_sigmas"] = torch.tensor(s.sigma)

        # One row of x for each level and picture; a call takes all prompts of some rows.
        n, b = x.shape[:2]
        rows, alpha, sigma = x.flatten(0, 1).to(backbone.device, torch.float32), [], []
        for i in levels:
            scale = 1.0 if backbone.flow else s.alpha[i]
            alpha += [scale] * b
            sigma += [s.sigma[i] / scale] * b
        told = torch.tensor(sigma, dtype=torch.float32, device=backbone.device)
        rows = rows / torch.tensor(alpha, dtype=torch.float32, device=backbone.device).view(-1, 1, 1, 1)
        size = self._size(real, rows, len(prompts))
        clean, maps = list[Tensor](), list[Tensor]()
        for part, at in zip(rows.split(size), told.split(size), strict=True):
            processed = comfy.samplers.process_conds(
                real, part, {k: list(v) for k, v in given.items()}, backbone.device, latent_image=None
            )
            used = options
            if self._maps is not None:
                used = self._maps.hooked(options, [self._words[prompt] for prompt in prompts], part)
            found = comfy.samplers.calc_cond_batch(real, [processed[k] for k in given], part, at, used)
            clean.append(torch.stack(list(found)).float())
            if self._maps is not None:
                maps.append(self._maps.read())
            self.evaluations += len(part) * len(prompts)
            if self._watch is not None:
                self._watch(self.evaluations)
        seen = torch.cat(clean, 1).unflatten(1, (n, b))
        return seen, torch.cat(maps, 1).unflatten(1, (n, b)) if maps else None

    def _embed(self, prompt: Prompt) -> None:
        clip = self._backbone.clip
        tokens = clip.tokenize(str(prompt))
        conditioning = clip.encode_from_tokens_scheduled(tokens, show_pbar=False)
        self._conds[prompt] = comfy.sampler_helpers.convert_cond(conditioning)
        if self._maps is not None:
            ids = clip.tokenize(str(prompt), return_word_ids=True)
            chunks = ids["l"] if "l" in ids else next(iter(ids.values()))
            self._words[prompt] = torch.tensor([word != 0 for chunk in chunks for _, _, word in chunk])

    def _size(self, real: Any, rows: Tensor, prompts: int) -> int:
        """Rows of a call that memory holds, by the host's own estimate; a CPU is busy with a few."""
        most = max(1, _ROWS // prompts)
        if rows.device.type == "cpu":
            return min(most, 2)
        free = self._backbone.patcher.get_free_memory(rows.device)
        while most > 1 and real.memory_required([most * prompts, *rows.shape[1:]]) * 1.5 > free:
            most //= 2
        return most


class _Maps:
    """Cross-attention of one network call, summed over each prompt's words, averaged over heads and layers."""

    def __init__(self, backbone: ComfyBackbone) -> None:
        net = backbone.real.diffusion_model
        blocks = (("input", net.input_blocks), ("output", net.output_blocks))
        # The middle block is left out, as in the published code.
        self._blocks = [(name, i) for name, listed in blocks for i in range(len(listed))]
        self._words: list[Tensor] = []
        self._sums: list[Tensor | None] = []
        self._layers: list[int] = []
        self._grid = (0, 0)

    def hooked(self, options: dict[str, Any], words: Sequence[Tensor], rows: Tensor) -> dict[str, Any]:
        """The options with a listener in each block; one that the graph put there answers as before."""
        self._words, self._sums, self._layers = list(words), [None] * len(words), [0] * len(words)
        self._grid = (rows.shape[2] // _MAP_SCALE, rows.shape[3] // _MAP_SCALE)
        used = {**options, "transformer_options": dict(options["transformer_options"])}
        replaced = copy.copy(used["transformer_options"].get("patches_replace", {}))
        theirs = dict(replaced.get("attn2", {}))
        wanted = {*self._blocks, *(key for key in theirs if key[0] != "middle")}
        replaced["attn2"] = {**theirs, **{key: self._listener(theirs.get(key)) for key in wanted}}
        used["transformer_options"]["patches_replace"] = replaced
        return used

    def read(self) -> Tensor:
        """The maps (prompts, rows, h', w'); ValueError where no layer was heard."""
        if any(total is None for total in self._sums):
            raise ValueError(
                "this MODEL attends to text in no layer at a quarter of the latents, so it has no attention maps: set "
                "the mask to noise, or caption the picture"
            )
        done = zip(self._sums, self._layers, strict=True)
        return torch.stack([total / count for total, count in done if total is not None]).unflatten(2, self._grid)

    def _listener(self, before: Callable[..., Tensor] | None) -> Callable[..., Tensor]:
        def attend(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
            if q.shape[1] == math.prod(self._grid):
                self._hear(q, k, extra["n_heads"], extra["cond_or_uncond"])
            if before is not None:
                return before(q, k, v, extra)
            return comfy.ldm.modules.attention.optimized_attention(
                q, k, v, extra["n_heads"], attn_precision=extra["attn_precision"], transformer_options=extra
            )

        return attend

    def _hear(self, q: Tensor, k: Tensor, heads: int, prompts: Sequence[int]) -> None:
        """The chunks of the batch are of `prompts`, in this order."""
        q, k = (t.float().unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k))
        for prompt, queries, keys in zip(prompts, q.chunk(len(prompts)), k.chunk(len(prompts)), strict=True):
            # The host repeats a shorter prompt to the length of the longest beside it.
            words = self._words[prompt].to(q.device, torch.float32)
            words = words.repeat(keys.shape[2] // len(words))
            values = words[None, None, :, None].expand(*keys.shape).contiguous()
            seen = F.scaled_dot_product_attention(queries, keys, values)[..., 0].mean(1)
            total = self._sums[prompt]
            self._sums[prompt] = seen if total is None else total + seen
            self._layers[prompt] += 1


def _area(real: Any, flow: bool) -> int:
    """The side of the pictures that such a model was trained on, in pixels; MODELs don't say."""
    if flow or isinstance(real, comfy.model_base.SDXL):
        return 1024
    return 768 if isinstance(real.model_sampling, comfy.model_sampling.V_PREDICTION) else 512


def _fingerprint(model: Any, clip: Any, vae: Any) -> str:
    """A name for the weights, patches included: the shape and a few numbers of each tensor, 32 digits."""
    whole = hashlib.sha256()
    for part in (model.model.diffusion_model, clip.cond_stage_model, vae.first_stage_model):
        for name, tensor in part.state_dict().items():
            whole.update(f"{name} {tuple(tensor.shape)}".encode())
            _add(whole, tensor)
    for patches in (model.patches, clip.patcher.patches):
        for key, listed in sorted(patches.items(), key=lambda item: str(item[0])):
            for strength, value, *_ in listed:
                whole.update(f"{key} {strength}".encode())
                _add(whole, value)
    return whole.hexdigest()[:32]


def _add(whole: Any, value: Any) -> None:
    weights = getattr(value, "weights", value)  # of a LoRA's adapter
    if isinstance(weights, Tensor):
        # Tensors that are not there yet, or whose quantisation knows no slices, count by their shape alone.
        with suppress(NotImplementedError, RuntimeError, TypeError, AttributeError):
            few = weights.detach().flatten()[:: max(1, weights.numel() // 8)][:8]
            whole.update(few.float().cpu().numpy().tobytes())
    elif isinstance(weights, list | tuple):
        for each in weights:
            _add(whole, each)
    else:
        whole.update(repr(weights).encode())
