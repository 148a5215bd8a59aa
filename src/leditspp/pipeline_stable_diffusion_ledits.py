"""Stable Diffusion, as the authors' package names and calls it."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ledits.pipelines import LEditsPPDiffusionPipelineOutput, LEditsPPPipelineStableDiffusion, inputs
from leditspp import arguments


class StableDiffusionPipeline_LEDITS(LEditsPPPipelineStableDiffusion):
    """`LEditsPPPipelineStableDiffusion` with the authors' arguments, timesteps, picture sizes and masks."""

    @inputs.strict
    @torch.no_grad()
    def invert(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        image_path: Any = None,
        source_prompt: str | Sequence[str] = "",
        source_guidance_scale: float = 3.5,
        num_inversion_steps: int = 30,
        skip: float = 0.15,
        eta: float = 1.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        verbose: bool = True,
        *,
        image: Any = None,
    ) -> tuple[Tensor, Tensor, list[Image.Image]]:
        """Invert pictures: (noise maps (T b c h w), noisy to clean; path (T+1 b c h w), clean to noisy; the pictures
        after a turn through the autoencoder).

        Args:
            image_path, image: a path, PIL picture, array (H W 3), or a list of these. Each is worked on at 512x512, or
                512x768 where it is longer, or wider, by over a quarter (of a model that was trained at 512).
            eta: 1. verbose: no effect, for all levels are predicted at once.

        The others are `LEditsPPPipelineStableDiffusion.invert`'s.
        """
        arguments.check_eta(eta)
        side = int(self.unet.config.sample_size) * self.vae_scale_factor
        pictures = arguments.oblong(arguments.picture(image_path, image), side)
        out = super().invert(
            pictures, source_prompt, source_guidance_scale, num_inversion_steps, skip, generator, timesteps="authors"
        )
        return out.zs, out.inversion.x.flip(0), out.vae_reconstruction_images

    @inputs.strict
    @torch.no_grad()
    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        negative_prompt: str | Sequence[str] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback: arguments.Callback | None = None,
        callback_steps: int = 1,
        editing_prompt: str | Sequence[str] | None = None,
        editing_prompt_embeddings: Tensor | None = None,
        reverse_editing_direction: bool | Sequence[bool] = False,
        edit_guidance_scale: float | Sequence[float] = 5,
        edit_warmup_steps: int | Sequence[int] = 0,
        edit_cooldown_steps: int | Sequence[int | None] | None = None,
        edit_threshold: float | Sequence[float] = 0.9,
        user_mask: Any = None,
        edit_weights: Sequence[float] | None = None,
        sem_guidance: Sequence[Tensor] | None = None,
        verbose: bool = True,
        use_cross_attn_mask: bool = False,
        attn_store_steps: Sequence[int] = (),
        store_averaged_over_steps: bool = True,
        use_intersect_mask: bool = False,
        *,
        editing_prompt_token_counts: Sequence[int] | None = None,
    ) -> LEditsPPDiffusionPipelineOutput | tuple[Any, ...]:
        """Edit the pictures that were inverted last.

        Args:
            callback: called as f(step, timestep, latents) at every `callback_steps`-th step.
            edit_weights: a factor of each edit's guidance scale.
            use_intersect_mask: off, as in the authors' code, so that edits act where the noise estimate changes most.

        The others are `LEditsPPPipelineStableDiffusion.__call__`'s.
        """
        with arguments.bar(self, verbose):
            return super().__call__(
                negative_prompt=negative_prompt, output_type=output_type, return_dict=return_dict,
                editing_prompt=editing_prompt, editing_prompt_embeds=editing_prompt_embeddings,
                reverse_editing_direction=reverse_editing_direction,
                edit_guidance_scale=arguments.weighted(edit_guidance_scale, edit_weights),
                edit_warmup_steps=edit_warmup_steps, edit_cooldown_steps=edit_cooldown_steps,
                edit_threshold=edit_threshold, user_mask=user_mask, sem_guidance=sem_guidance,
                use_cross_attn_mask=use_cross_attn_mask, use_intersect_mask=use_intersect_mask,
                attn_store_steps=attn_store_steps, store_averaged_over_steps=store_averaged_over_steps,
                callback_on_step_end=arguments.on_step_end(callback, callback_steps),
                editing_prompt_token_counts=editing_prompt_token_counts, mask_upsampling="nearest",
            )  # fmt: skip
