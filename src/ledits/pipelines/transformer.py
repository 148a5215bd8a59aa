"""What the pipelines of flow transformers share beside what all do: everything but their parts."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers.loaders.single_file import FromSingleFileMixin
from torch import Tensor

from ledits.backbones import codec
from ledits.backbones.transformer import Family, LatentTransformer
from ledits.pipelines import inputs
from ledits.pipelines.outputs import Conditioning, LEditsPPDiffusionPipelineOutput, LEditsPPInversionPipelineOutput
from ledits.pipelines.shared import LEditsPP


class LEditsPPTransformer(LEditsPP, FromSingleFileMixin):
    """A flow transformer of one `_family` on latents.

    The arguments are those of `LEditsPPPipelineStableDiffusion`, but for what these networks don't have. The noise
    levels are those of the scheduler's configuration, whatever its class; it is read and never changed.
    """

    _family: ClassVar[Family]
    _start: ClassVar[int]  # tokens before the words of an embedded prompt
    _is_pooled: ClassVar[bool] = True  # whether embedded prompts come with pooled ones
    _optional_components = ["image_encoder", "feature_extractor"]  # noqa: RUF012
    _callback_tensor_inputs = [  # noqa: RUF012
        "latents", "prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds",
    ]  # fmt: skip

    vae: Any

    @property
    def vae_scale_factor(self) -> int:
        """The picture's side over the latents'."""
        return codec.factor(self.vae)

    @inputs.strict
    @torch.no_grad()
    def invert(
        self,
        image: inputs.Picture,
        source_prompt: str | Sequence[str] = "",
        source_guidance_scale: float = 3.5,
        num_inversion_steps: int | None = None,
        skip: float | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        joint_attention_kwargs: dict[str, Any] | None = None,
        height: int | None = None,
        width: int | None = None,
        resize_mode: str = "default",
        crops_coords: tuple[int, int, int, int] | None = None,
        *,
        negative_prompt: str | Sequence[str] | None = None,
        caption: str | Sequence[str] | None = None,
    ) -> LEditsPPInversionPipelineOutput:
        """Invert one or several pictures, exactly; see `LEditsPPPipelineStableDiffusion.invert`.

        Args:
            num_inversion_steps: steps kept after `skip`; None for 28, or 4 where the model is distilled to few.
            skip: share of the noisiest steps left out, in [0, 1); None begins at the signal-to-noise ratio at which
                Stable Diffusion begins with 0.15, which is 0.32 for Stable Diffusion 3.
            joint_attention_kwargs: go to the network; "scale" is a LoRA's, and reaches the text encoders too.
        """
        conditioning = Conditioning(
            source_prompt, source_guidance_scale, negative_prompt or "", None, joint_attention_kwargs, caption=caption
        )
        return self._invert(
            image, conditioning, num_inversion_steps, skip, generator, height, width, resize_mode, crops_coords
        )

    @inputs.strict
    @torch.no_grad()
    def __call__(
        self,
        negative_prompt: str | Sequence[str] | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        editing_prompt: str | Sequence[str | Sequence[str]] | None = None,
        editing_prompt_embeds: Tensor | None = None,
        editing_pooled_prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
        reverse_editing_direction: bool | Sequence[bool] = False,
        edit_guidance_scale: float | Sequence[float] = 5,
        edit_warmup_steps: int | Sequence[int] = 0,
        edit_cooldown_steps: int | Sequence[int | None] | None = None,
        edit_threshold: float | Sequence[float] = 0.9,
        user_mask: Any = None,
        sem_guidance: Sequence[Tensor] | None = None,
        use_cross_attn_mask: bool = False,
        use_intersect_mask: bool = True,
        attn_store_steps: Sequence[int] = (),
        store_averaged_over_steps: bool = True,
        joint_attention_kwargs: dict[str, Any] | None = None,
        guidance_rescale: float = 0.0,
        callback_on_step_end: inputs.Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        *,
        inversion: LEditsPPInversionPipelineOutput | None = None,
        editing_prompt_token_counts: Sequence[int] | None = None,
        region_threshold: float | Sequence[float | None] | None = None,
    ) -> LEditsPPDiffusionPipelineOutput | tuple[Any, ...]:
        """Edit the pictures of an inversion; see `LEditsPPPipelineStableDiffusion.__call__`.

        Args:
            editing_prompt_embeds, editing_pooled_prompt_embeds: (k tokens d) and (k d) in place of texts; attention
                masks need editing_prompt_token_counts.
            negative_prompt_embeds, negative_pooled_prompt_embeds: (1 or b, tokens, d) and (1 or b, d).
            editing_prompt_token_counts: tokens of each embedded prompt without start and end; of Stable Diffusion 3
                those of CLIP, which come first.
            joint_attention_kwargs: as in `invert`; None is what inversion was given.
        """
        if self._is_pooled:
            inputs.check_pooled("editing_prompt_embeds", editing_prompt_embeds, editing_pooled_prompt_embeds)
            inputs.check_pooled("negative_prompt_embeds", negative_prompt_embeds, negative_pooled_prompt_embeds)
        changes = {
            "negative": inputs.negative(negative_prompt, negative_prompt_embeds, negative_pooled_prompt_embeds),
            "attention": joint_attention_kwargs,
        }
        mask_rule = inputs.rule(use_cross_attn_mask, use_intersect_mask)
        embedded = inputs.embedded(
            editing_prompt_embeds, editing_pooled_prompt_embeds, editing_prompt_token_counts, mask_rule, self._start
        )
        edits = inputs.Edits(
            prompts=editing_prompt, embedded=embedded,
            scale=edit_guidance_scale, reverse=reverse_editing_direction, threshold=edit_threshold,
            warmup=edit_warmup_steps, cooldown=edit_cooldown_steps, user_mask=user_mask, rule=mask_rule,
            upsampling="bilinear", noise_mask_below=None, rescale=guidance_rescale,
            sem_guidance=sem_guidance, store_steps=attn_store_steps, store_average=store_averaged_over_steps,
            callback=callback_on_step_end, callback_inputs=callback_on_step_end_tensor_inputs,
            region_threshold=region_threshold,
        )  # fmt: skip
        backbone, given, x, out = self._edit(inversion, changes, edits)
        out.images = x if output_type == "latent" else self._pictures(backbone.decode(x), given.sizes, output_type)
        self.maybe_free_model_hooks()
        return out if return_dict else (out.images,)

    def _backbone(self, conditioning: Conditioning) -> LatentTransformer:
        return LatentTransformer(
            self._family, self.components, self.scheduler.config, name=type(self).__name__, fingerprint="",
            device=self._execution_device, index=self.config, attention=conditioning.attention,
        )  # fmt: skip
