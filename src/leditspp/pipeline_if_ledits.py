"""DeepFloyd IF's first stage, as the authors' package names and calls it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ledits.backbones import deepfloyd_if
from ledits.pipelines import LEditsPPDiffusionPipelineOutput, LEditsPPPipelineIF, inputs
from leditspp import arguments


class IFDiffusion_LEDITS(LEditsPPPipelineIF):
    """LEDITS++ on the pixels of DeepFloyd IF's first stage; the components are those of diffusers' IFPipeline."""

    @torch.no_grad()
    def encode_prompt(
        self, prompt: str = "", do_classifier_free_guidance: bool = True, *, negative_prompt: str = ""
    ) -> tuple[Tensor, Tensor | None, None, None]:
        """The prompt and the negative one as the second stage takes them, (1 tokens d); None in the authors' places of
        edits.
        """
        encoders = deepfloyd_if.Prompts(self.components, self._execution_device)
        given = encoders.embed(prompt).states[None]
        return given, encoders.embed(negative_prompt).states[None] if do_classifier_free_guidance else None, None, None

    @inputs.strict
    @torch.no_grad()
    def invert(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        image_path: Any = None,
        source_prompt: str | Sequence[str] = "",
        source_guidance_scale: float = 3.5,
        num_inversion_steps: int = 100,
        skip: float = 0.15,
        eta: float = 1.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        *,
        image: Any = None,
    ) -> tuple[Tensor, Tensor]:
        """Invert pictures: (noise maps (T b 3 h w), noisy to clean; path (T+1 b 3 h w), clean to noisy).

        Args:
            image_path, image: a path, PIL picture, array (H W 3), or a list of these. The square in its middle is
                worked on, at the network's own size, 64x64 of the public models.
            eta: 1.

        The others are those of `ledits.pipelines`.
        """
        arguments.check_eta(eta)
        pictures = arguments.centred(arguments.picture(image_path, image), int(self.unet.config.sample_size))
        out = super().invert(pictures, source_prompt, source_guidance_scale, num_inversion_steps, skip, generator)
        return out.zs, out.inversion.x.flip(0)

    @inputs.strict
    @torch.no_grad()
    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        prompt: str | Sequence[str] | None = None,
        guidance_scale: float = 7.0,
        negative_prompt: str | Sequence[str] | None = None,
        editing_prompt: str | Sequence[str] | None = None,
        negative_prompt_embeds: Tensor | None = None,
        edit_prompt_embeds: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback: arguments.Callback | None = None,
        callback_steps: int = 1,
        clean_caption: bool = True,
        reverse_editing_direction: bool | Sequence[bool] = False,
        edit_guidance_scale: float | Sequence[float] = 5,
        edit_warmup_steps: int | Sequence[int] = 10,
        edit_cooldown_steps: int | Sequence[int | None] | None = None,
        edit_threshold: float | Sequence[float] = 0.9,
        edit_momentum_scale: float = 0.0,
        edit_mom_beta: float = 0.4,
        edit_weights: Sequence[float] | None = None,
        use_cross_attn_mask: bool = False,
        use_intersect_mask: bool = False,
        attn_store_steps: Sequence[int] = (),
        store_averaged_over_steps: bool = True,
        *,
        editing_prompt_token_counts: Sequence[int] | None = None,
    ) -> LEditsPPDiffusionPipelineOutput | tuple[Any, ...]:
        """Edit the pictures that were inverted last.

        Args:
            prompt, guidance_scale: a source prompt and its guidance. Where inversion had others, the path is predicted
                again under them (2 T evaluations), so that the picture is kept.
            output_type: "pil", "np" (b H W 3) in 0..1, or "pt" (b 3 H W) in -1..1, as the second stage takes it.
            return_dict: False for the tuple (images, nsfw_detected, watermark_detected).
            clean_caption, edit_mom_beta: no effect.
            edit_momentum_scale: 0, for momentum is not in the paper; in the authors' code it is 0.1.
            edit_weights: a factor of each edit's guidance scale.
            callback: called as f(step, timestep, pixels) at every `callback_steps`-th step.

        The others are those of `ledits.pipelines`.
        """
        if edit_momentum_scale:
            raise ValueError(f"edit_momentum_scale {edit_momentum_scale}: there is no momentum here, leave it out")
        mask_rule = inputs.rule(use_cross_attn_mask, use_intersect_mask)
        embedded = inputs.embedded(edit_prompt_embeds, None, editing_prompt_token_counts, mask_rule, start=0)
        edits = inputs.Edits(
            prompts=editing_prompt, embedded=embedded,
            scale=arguments.weighted(edit_guidance_scale, edit_weights), reverse=reverse_editing_direction,
            threshold=edit_threshold, warmup=edit_warmup_steps, cooldown=edit_cooldown_steps, user_mask=None,
            rule=mask_rule, upsampling="nearest", noise_mask_below=None, rescale=0.0, sem_guidance=None,
            store_steps=attn_store_steps, store_average=store_averaged_over_steps,
            callback=arguments.on_step_end(callback, callback_steps), callback_inputs=("latents",),
            region_threshold=None,
        )  # fmt: skip
        changes: dict[str, Any] = {"negative": inputs.negative(negative_prompt, negative_prompt_embeds, None)}
        if prompt:
            changes |= {"source": prompt, "source_scale": guidance_scale}
        backbone, given, x, out = self._edit(None, changes, edits)
        decoded, watermarked = backbone.decode(x), None
        if output_type == "pt":
            out.images = decoded
        else:
            out.images = self._pictures(decoded, given.sizes, "np")
            if self.safety_checker is not None:
                seen = self.feature_extractor(self.numpy_to_pil(out.images), return_tensors="pt").pixel_values
                seen = seen.to(self._execution_device, self.unet.dtype)
                out.images, out.nsfw_content_detected, watermarked = self.safety_checker(
                    images=out.images, clip_input=seen
                )
            if output_type == "pil":
                out.images = self.numpy_to_pil(out.images)
                if self.watermarker is not None:
                    self.watermarker.apply_watermark(out.images, self.unet.config.sample_size)
        self.maybe_free_model_hooks()
        return out if return_dict else (out.images, out.nsfw_content_detected, watermarked)
