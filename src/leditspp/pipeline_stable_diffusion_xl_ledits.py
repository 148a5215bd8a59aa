"""Stable Diffusion XL, as the authors' package names and calls it."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ledits.pipelines import LEditsPPDiffusionPipelineOutput, LEditsPPPipelineStableDiffusionXL, inputs
from ledits.pipelines.outputs import Conditioning
from leditspp import arguments


class StableDiffusionPipelineXL_LEDITS(LEditsPPPipelineStableDiffusionXL):
    """`LEditsPPPipelineStableDiffusionXL` with the authors' arguments, timesteps, picture sizes and masks."""

    @inputs.strict
    @torch.no_grad()
    def invert(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        image_path: Any = None,
        source_prompt: str | Sequence[str] = "",
        source_prompt_2: str | None = None,
        source_guidance_scale: float = 3.5,
        negative_prompt: str | Sequence[str] | None = None,
        negative_prompt_2: str | Sequence[str] | None = None,
        num_inversion_steps: int = 100,
        skip: float = 0.15,
        eta: float = 1.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        height: int | None = None,
        width: int | None = None,
        original_size: tuple[int, int] | None = None,
        crops_coords_top_left: tuple[int, int] = (0, 0),
        target_size: tuple[int, int] | None = None,
        num_zero_noise_steps: int = 0,
        verbose: bool = True,
        *,
        image: Any = None,
    ) -> tuple[Tensor, Tensor, list[Image.Image]]:
        """Invert one picture: (noise maps (T c h w), noisy to clean; path (T+1 c h w), clean to noisy; the picture
        after a turn through the autoencoder).

        Args:
            image_path, image: a path, PIL picture or array (H W 3). It is worked on at height x width, or at the square
                that the model was trained at, whatever its shape.
            source_prompt_2: as source_prompt, for both text encoders are given one text.
            original_size: height x width, for the network is told the picture's own.
            eta: 1. verbose: no effect, for all levels are predicted at once.

        The others are `LEditsPPPipelineStableDiffusionXL.invert`'s.
        """
        arguments.check_eta(eta)
        side = int(self.unet.config.sample_size) * self.vae_scale_factor
        height, width = height or side, width or side
        if source_prompt_2 not in (None, source_prompt):
            raise ValueError("source_prompt_2 differs from source_prompt: give both text encoders one source prompt")
        if original_size not in (None, (height, width)):
            raise ValueError(f"original_size {original_size}: the network is told {(height, width)}, leave it out")
        pictures = arguments.stretched(arguments.picture(image_path, image), width, height)
        if len(pictures) != 1:
            raise ValueError(f"{len(pictures)} pictures: this pipeline inverts one, ledits' own any number")
        conditioning = Conditioning(
            source_prompt, source_guidance_scale, negative_prompt or "", negative_prompt_2, crop=crops_coords_top_left,
            target=target_size,
        )  # fmt: skip
        out = self._invert(
            pictures, conditioning, num_inversion_steps, skip, generator, None, None, "default", None, "authors",
            num_zero_noise_steps,
        )  # fmt: skip
        return out.zs[:, 0], out.inversion.x[:, 0].flip(0), out.vae_reconstruction_images

    @inputs.strict
    @torch.no_grad()
    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        prompt: str | Sequence[str] = "",
        prompt_2: str | None = None,
        height: int | None = None,
        width: int | None = None,
        guidance_scale: float = 5.0,
        negative_prompt: str | Sequence[str] | None = None,
        negative_prompt_2: str | Sequence[str] | None = None,
        negative_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback: arguments.Callback | None = None,
        callback_steps: int = 1,
        cross_attention_kwargs: dict[str, Any] | None = None,
        guidance_rescale: float = 0.0,
        crops_coords_top_left: tuple[int, int] = (0, 0),
        target_size: tuple[int, int] | None = None,
        editing_prompt: str | Sequence[str] | None = None,
        editing_prompt_embeddings: Tensor | None = None,
        reverse_editing_direction: bool | Sequence[bool] = False,
        edit_guidance_scale: float | Sequence[float] = 5,
        edit_warmup_steps: int | Sequence[int] = 10,
        edit_cooldown_steps: int | Sequence[int | None] | None = None,
        edit_threshold: float | Sequence[float] = 0.9,
        edit_momentum_scale: float = 0.1,
        edit_mom_beta: float = 0.4,
        edit_weights: Sequence[float] | None = None,
        sem_guidance: Sequence[Tensor] | None = None,
        use_cross_attn_mask: bool = False,
        attn_store_steps: Sequence[int] = (),
        store_averaged_over_steps: bool = True,
        use_intersect_mask: bool = False,
        verbose: bool = True,
        *,
        editing_pooled_prompt_embeds: Tensor | None = None,
        editing_prompt_token_counts: Sequence[int] | None = None,
    ) -> LEditsPPDiffusionPipelineOutput | tuple[Any, ...]:
        """Edit the picture that was inverted last.

        Args:
            prompt, guidance_scale: a source prompt and its guidance. Where inversion had others, the path is predicted
                again under them (2 T evaluations), so that the picture is kept.
            prompt_2: as prompt.
            height, width, edit_momentum_scale, edit_mom_beta: no effect, as in the authors' code.
            guidance_rescale: 0 to 1; in the authors' code it has no effect.
            edit_weights: a factor of each edit's guidance scale.
            callback: called as f(step, timestep, latents) at every `callback_steps`-th step.

        The others are `LEditsPPPipelineStableDiffusionXL.__call__`'s.
        """
        if prompt_2 not in (None, prompt):
            raise ValueError("prompt_2 differs from prompt: give both text encoders one prompt")
        inversion, again = None, 0
        if prompt:
            _, inversion, again = self._given_inversion(None, {"source": prompt, "source_scale": guidance_scale})
        with arguments.bar(self, verbose):
            out = super().__call__(
                inversion=inversion, negative_prompt=negative_prompt, negative_prompt_2=negative_prompt_2,
                negative_prompt_embeds=negative_prompt_embeds,
                negative_pooled_prompt_embeds=negative_pooled_prompt_embeds, output_type=output_type,
                return_dict=return_dict, cross_attention_kwargs=cross_attention_kwargs,
                guidance_rescale=guidance_rescale, crops_coords_top_left=crops_coords_top_left,
                target_size=target_size, editing_prompt=editing_prompt,
                editing_prompt_embeddings=editing_prompt_embeddings,
                editing_pooled_prompt_embeds=editing_pooled_prompt_embeds,
                reverse_editing_direction=reverse_editing_direction,
                edit_guidance_scale=arguments.weighted(edit_guidance_scale, edit_weights),
                edit_warmup_steps=edit_warmup_steps, edit_cooldown_steps=edit_cooldown_steps,
                edit_threshold=edit_threshold, sem_guidance=sem_guidance,
                use_cross_attn_mask=use_cross_attn_mask, use_intersect_mask=use_intersect_mask,
                attn_store_steps=attn_store_steps, store_averaged_over_steps=store_averaged_over_steps,
                callback_on_step_end=arguments.on_step_end(callback, callback_steps),
                editing_prompt_token_counts=editing_prompt_token_counts, mask_upsampling="nearest",
            )  # fmt: skip
        if isinstance(out, LEditsPPDiffusionPipelineOutput):
            out.network_evaluations += again
        return out
