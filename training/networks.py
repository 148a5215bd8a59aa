"""The two denoisers: a UNet in Stable Diffusion's layout and a flow transformer in Stable Diffusion 3's.

A `Denoiser` holds the network, its text encoders and what it learns; `training/denoiser.py` trains either. Latents are
(b c h w) of unit variance, token ids (b l), noise levels chosen by the kind.
"""

from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderTiny,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import Attention, AttnProcessor, JointAttnProcessor2_0
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTokenizer

from text import WIDTH, deepen, encoder, projected

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
LATENT_SIDE = 16
# Where no T5 is loaded diffusers tells SD3's transformer this many zeros in its place.
ABSENT = 256


class Denoiser(Protocol):
    parts: nn.ModuleDict

    def loss(
        self, x0: Tensor, eps: Tensor, ids: Tensor, rng: np.random.Generator, teacher: "Teacher | None" = None
    ) -> Tensor:
        """The mean loss at noise levels drawn from `rng`; what a teacher says counts too."""
        ...

    def read(self, folder: Path) -> None:
        """Take the weights of a saved pipeline."""
        ...

    def pipeline(self, parts: nn.ModuleDict, vae: AutoencoderTiny, tokens: CLIPTokenizer) -> DiffusionPipeline:
        """`parts`, weights like those of this denoiser, as what diffusers loads."""
        ...


class Teacher(NamedTuple):
    """An older model that was told the same in words that it knows.

    What it predicts has none of the noise that the objective has, so that a few thousand pictures teach what a new
    word means.
    """

    parts: nn.ModuleDict
    ids: Tensor  # (b l)
    known: Tensor  # (b,) 1 where it has words for the caption, else 0
    weight: float


class UNet:
    """v prediction with min-SNR weights (Hang et al. 2023, gamma 5)."""

    def __init__(self, tokens: CLIPTokenizer, channels: int, widths: tuple[int, ...] = (80, 160, 240)) -> None:
        net = UNet2DConditionModel(
            sample_size=LATENT_SIDE,
            in_channels=channels,
            out_channels=channels,
            block_out_channels=widths,
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D",) * len(widths),
            up_block_types=("CrossAttnUpBlock2D",) * len(widths),
            cross_attention_dim=WIDTH,
            attention_head_dim=4,
            norm_num_groups=16,
        )
        # Measured on 2 cores: 0.65 s a step against 1.1 with fused attention, whose backward pass is slow for 16-wide
        # heads, and channels last. torch.compile gained a tenth and cost three minutes.
        net.set_attn_processor(AttnProcessor())
        self.parts = nn.ModuleDict({"unet": net, "text": encoder(tokens)})
        betas = np.linspace(SCHEDULE["beta_start"] ** 0.5, SCHEDULE["beta_end"] ** 0.5, 1000) ** 2
        self.alphas = torch.from_numpy(np.cumprod(1 - betas)).float()

    def loss(
        self, x0: Tensor, eps: Tensor, ids: Tensor, rng: np.random.Generator, teacher: Teacher | None = None
    ) -> Tensor:
        t = torch.from_numpy(rng.integers(1000, size=len(x0)))
        share = self.alphas[t].to(x0.device)
        alpha, sigma = share[:, None, None, None].sqrt(), (1 - share[:, None, None, None]).sqrt()
        x = alpha * x0 + sigma * eps
        out = self.predict(x, t.to(x0.device), ids)
        error = (out - (alpha * eps - sigma * x0)).square().mean((1, 2, 3))
        if teacher:
            with torch.no_grad():
                said = self.predict(x, t.to(x0.device), teacher.ids, teacher.parts)
            error = error + teacher.weight * teacher.known * (out - said).square().mean((1, 2, 3))
        snr = share / (1 - share)
        return (error * snr.clamp(max=5) / (snr + 1)).mean()

    def noised(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        """x0 at levels where captions matter most, and the levels, (b,)."""
        t = torch.randint(300, 1000, (len(x0),))
        share = self.alphas[t][:, None, None, None]
        return share.sqrt() * x0 + (1 - share).sqrt() * torch.randn_like(x0), t

    def predict(self, x: Tensor, t: Tensor, ids: Tensor, parts: nn.ModuleDict | None = None) -> Tensor:
        """v, (b c h w), by these weights [default: its own]."""
        parts = parts or self.parts
        return parts["unet"](x, t, parts["text"](ids).last_hidden_state).sample.float()

    def read(self, folder: Path) -> None:
        _read(self.parts, {"unet": folder / "unet", "text": folder / "text_encoder"})

    def pipeline(self, parts: nn.ModuleDict, vae: AutoencoderTiny, tokens: CLIPTokenizer) -> DiffusionPipeline:
        scheduler = DPMSolverMultistepScheduler(
            **SCHEDULE,
            prediction_type="v_prediction",
            algorithm_type="sde-dpmsolver++",
            solver_order=2,
            timestep_spacing="trailing",
            final_sigmas_type="sigma_min",
        )
        return StableDiffusionPipeline(
            vae=vae, text_encoder=parts["text"], tokenizer=tokens, unet=parts["unet"], scheduler=scheduler,
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip


class Flow:
    """Rectified flow: x = (1 - sigma) x0 + sigma eps, the network predicts eps - x0, levels are logit-normal (Esser
    et al. 2024).
    """

    def __init__(self, tokens: CLIPTokenizer, channels: int, layers: int = 7, width: int = 192) -> None:
        net = SD3Transformer2DModel(
            sample_size=LATENT_SIDE,
            patch_size=2,
            in_channels=channels,
            out_channels=channels,
            num_layers=layers,
            attention_head_dim=32,
            num_attention_heads=width // 32,
            joint_attention_dim=WIDTH,
            caption_projection_dim=width,
            pooled_projection_dim=WIDTH,
            pos_embed_max_size=LATENT_SIDE // 2,
            qk_norm="rms_norm",
        )
        for block in net.transformer_blocks:
            block.attn.set_processor(_Absent())
        # Blocks begin as the identity and the prediction as zero (Peebles and Xie 2023).
        zero = ("norm1.linear", "norm1_context.linear", "norm_out.linear", "proj_out")
        for name, part in net.named_modules():
            if isinstance(part, nn.Linear) and name.endswith(zero):
                nn.init.zeros_(part.weight)
        half = [projected(tokens, WIDTH // 2) for _ in range(2)]
        self.parts = nn.ModuleDict({"transformer": net, "text": half[0], "text_2": half[1]})

    def loss(
        self, x0: Tensor, eps: Tensor, ids: Tensor, rng: np.random.Generator, teacher: Teacher | None = None
    ) -> Tensor:
        sigma = torch.from_numpy(1 / (1 + np.exp(-rng.normal(size=len(x0))))).to(x0)
        x = (1 - sigma[:, None, None, None]) * x0 + sigma[:, None, None, None] * eps
        out = self.predict(x, sigma, ids).float()
        error = (out - (eps - x0)).square().mean((1, 2, 3))
        if teacher:
            with torch.no_grad():
                said = self.predict(x, sigma, teacher.ids, teacher.parts).float()
            error = error + teacher.weight * teacher.known * (out - said).square().mean((1, 2, 3))
        return error.mean()

    def read(self, folder: Path) -> None:
        names = {"transformer": "transformer", "text": "text_encoder", "text_2": "text_encoder_2"}
        _read(self.parts, {part: folder / name for part, name in names.items()})

    def noised(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        """x0 at levels where captions matter most, and the levels, (b,)."""
        sigma = 0.3 + 0.7 * torch.rand(len(x0))
        share = sigma[:, None, None, None]
        return (1 - share) * x0 + share * torch.randn_like(x0), sigma

    def predict(self, x: Tensor, sigma: Tensor, ids: Tensor, parts: nn.ModuleDict | None = None) -> Tensor:
        """The velocity, (b c h w), by these weights [default: its own]. Zeros are told once, and count ABSENT times."""
        parts = parts or self.parts
        told = [parts[name](ids, output_hidden_states=True) for name in ("text", "text_2")]
        states = F.pad(torch.cat([one.hidden_states[-2] for one in told], -1), (0, 0, 0, 1))
        pooled = torch.cat([one.text_embeds for one in told], -1)
        return parts["transformer"](x, states, pooled, 1000 * sigma).sample

    def pipeline(self, parts: nn.ModuleDict, vae: AutoencoderTiny, tokens: CLIPTokenizer) -> DiffusionPipeline:
        return StableDiffusion3Pipeline(
            transformer=parts["transformer"], scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0), vae=vae,
            text_encoder=parts["text"], tokenizer=tokens, text_encoder_2=parts["text_2"], tokenizer_2=tokens,
            text_encoder_3=None, tokenizer_3=None,
        )  # fmt: skip


def _read(parts: nn.ModuleDict, folders: dict[str, Path]) -> None:
    for name, folder in folders.items():
        (path,) = folder.glob("*.safetensors")
        weights = load_file(path)
        if name.startswith("text"):
            layers = {key.split("encoder.layers.")[1].split(".")[0] for key in weights if "encoder.layers." in key}
            deepen(parts[name], len(layers))
        parts[name].load_state_dict(weights)


class _Absent:
    """SD3's joint attention in which the last text token stands for ABSENT equal ones.

    Tokens that begin equal, with no position, stay equal through all blocks; one whose score is log(ABSENT) higher gets
    what they get together. An eleventh of the tokens is left to compute.
    """

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: object
    ) -> tuple[Tensor, Tensor]:
        if encoder_hidden_states.shape[1] > ABSENT:
            # As a pipeline tells it: all of them.
            return JointAttnProcessor2_0()(attn, hidden_states, encoder_hidden_states)
        b, places, _width = hidden_states.shape

        def heads(x: Tensor) -> Tensor:
            return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        seen, told = hidden_states, encoder_hidden_states
        q = [attn.norm_q(heads(attn.to_q(seen))), attn.norm_added_q(heads(attn.add_q_proj(told)))]
        k = [attn.norm_k(heads(attn.to_k(seen))), attn.norm_added_k(heads(attn.add_k_proj(told)))]
        v = torch.cat([heads(attn.to_v(seen)), heads(attn.add_v_proj(told))], 2)
        scores = torch.cat(q, 2) @ torch.cat(k, 2).mT * v.shape[-1] ** -0.5
        scores[..., -1] += float(np.log(ABSENT))
        out = (scores.softmax(-1).to(v.dtype) @ v).transpose(1, 2).flatten(2)
        image, text = out[:, :places], out[:, places:]
        return attn.to_out[0](image), text if attn.context_pre_only else attn.to_add_out(text)
