"""LEDITS++ with Stable Diffusion 1.x and 2.x, as diffusers names it."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from ledits.backbones.stable_diffusion import ClipPrompts
from ledits.backbones.texts import Text as PromptEmbedding
from ledits.pipelines import compat, inputs
from ledits.pipelines.outputs import Conditioning, LEditsPPDiffusionPipelineOutput, LEditsPPInversionPipelineOutput
from ledits.pipelines.shared import Timesteps
from ledits.pipelines.unet import LEditsPPUNet


class LEditsPPPipelineStableDiffusion(LEditsPPUNet, StableDiffusionLoraLoaderMixin):
    """LEDITS++ with Stable Diffusion 1.x and 2.x.

    Args:
        scheduler: DPMSolverMultistepScheduler with algorithm_type "sde-dpmsolver++", or DDIMScheduler (which makes it
            edit-friendly DDPM inversion); any other is replaced by the first. It is read and never changed.
        map_scale: the latent side over the side of the attention maps to use; None takes a quarter, as in the paper, or
            the nearest level at which the network attends to text.

    The other components are those of StableDiffusionPipeline.
    """

    model_cpu_offload_seq = "text_encoder->image_encoder->unet->vae"
    _optional_components = ["safety_checker", "feature_extractor", "image_encoder"]  # noqa: RUF012
    _exclude_from_cpu_offload = ["safety_checker"]  # noqa: RUF012
    _callback_tensor_inputs = ["latents", "negative_prompt_embeds"]  # noqa: RUF012

    def __init__(
        self,
        vae: AutoencoderKL | AutoencoderTiny,
        text_encoder: Any,
        tokenizer: Any,
        unet: UNet2DConditionModel,
        scheduler: Any,
        safety_checker: Any,
        feature_extractor: Any,
        image_encoder: Any = None,
        requires_safety_checker: bool = True,
        map_scale: int | None = None,
    ) -> None:
        super().__init__()
        inputs.check_safety_checker(safety_checker, feature_extractor, required=requires_safety_checker)
        self.register_modules(
            vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=self._set_up(scheduler),
            safety_checker=safety_checker, feature_extractor=feature_extractor, image_encoder=image_encoder,
        )  # fmt: skip
        self.register_to_config(requires_safety_checker=requires_safety_checker, map_scale=map_scale)

    @inputs.strict
    @torch.no_grad()
    def invert(
        self,
        image: inputs.Picture,
        source_prompt: str | Sequence[str] = "",
        source_guidance_scale: float = 3.5,
        num_inversion_steps: int = 30,
        skip: float = 0.15,
        generator: torch.Generator | list[torch.Generator] | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        clip_skip: int | None = None,
        height: int | None = None,
        width: int | None = None,
        resize_mode: str = "default",
        crops_coords: tuple[int, int, int, int] | None = None,
        *,
        negative_prompt: str | Sequence[str] | None = None,
        caption: str | Sequence[str] | None = None,
        timesteps: Timesteps = "scheduler",
    ) -> LEditsPPInversionPipelineOutput:
        """Invert one or several pictures, exactly.

        Args:
            image: a path, PIL picture, array (H W 3) or (b H W 3), tensor (3 H W) or (b 3 H W), or a list of these;
                floats in 0..1, uint8 or uint16. Any sizes from 8 pixels: padding is added and cropped from the results.
            source_prompt: describes the picture; one for all or one for each. It guides inversion and replay alike.
            source_guidance_scale: classifier-free guidance of the source prompt.
            num_inversion_steps: steps kept after `skip`.
            skip: share of the noisiest steps left out, in [0, 1). Smaller allows larger changes.
            generator: draws the noise; a list has one for each picture, and makes a batch equal to single pictures.
            cross_attention_kwargs: go to the network; "scale" is a LoRA's, and reaches the text encoder too.
            clip_skip: layers of the text encoder to leave out for the source prompt and the edits.
            height: as in diffusers; None keeps each picture's own.
            width: as in diffusers; None keeps each picture's own.
            resize_mode: as in diffusers.
            crops_coords: as in diffusers.
            negative_prompt: takes the empty prompt's place; one for all or one for each.
            caption: describes the picture; one for all or one for each. With it edits are captions too, and each acts
                where its caption and this one differ (docs/migration.md). It goes with neither source_prompt nor
                negative_prompt.
            timesteps: "diffusers" keeps the timesteps that diffusers' LEDITS++ does; "authors" has those of the
                published code, which are the command line's. See docs/migration.md.

        Raises ValueError for a scheduler that can't invert, and for what is no picture.
        """
        conditioning = Conditioning(
            source_prompt, source_guidance_scale, negative_prompt or "", None, cross_attention_kwargs, clip_skip,
            caption=caption,
        )  # fmt: skip
        return self._invert(
            image, conditioning, num_inversion_steps, skip, generator, height, width, resize_mode, crops_coords,
            timesteps, 0,
        )  # fmt: skip

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
        negative_prompt_embeds: Tensor | None = None,
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
        cross_attention_kwargs: dict[str, Any] | None = None,
        guidance_rescale: float = 0.0,
        clip_skip: int | None = None,
        callback_on_step_end: inputs.Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        *,
        inversion: LEditsPPInversionPipelineOutput | None = None,
        editing_prompt_token_counts: Sequence[int] | None = None,
        mask_upsampling: compat.Upsampling = "bilinear",
        noise_mask_below: float | None = None,
        region_threshold: float | Sequence[float | None] | None = None,
    ) -> LEditsPPDiffusionPipelineOutput | tuple[Any, ...]:
        """Edit the pictures of an inversion. Without an editing prompt they are reconstructed.

        Arguments of one value for each edit take one for all, or a list, tuple or array with one for each.

        Args:
            negative_prompt: takes the empty prompt's place; where inversion had another, the path is predicted again.
            generator: has no effect, for an edit draws nothing: the noise is the inversion's.
            output_type: "pil", "np" (b H W 3) in 0..1, "pt" (b 3 H W) in 0..1, or "latent" (b c h w).
            return_dict: False for the tuple (images, nsfw_content_detected).
            editing_prompt: one text an edit; in place of a text, a list has one for each picture. Of a picture inverted
                with a caption each is that caption after the edit: "a dog on a beach" of "a cat on a beach".
            editing_prompt_embeds: (k tokens d) in place of texts; attention masks need editing_prompt_token_counts.
            negative_prompt_embeds: (1 or b, tokens, d).
            reverse_editing_direction: away from the prompt, as a negative scale.
            edit_guidance_scale: s_e of Eq. 12; 5 to 15 are usual.
            edit_warmup_steps: first step that is guided.
            edit_cooldown_steps: first step that is guided no more.
            edit_threshold: lambda of Eq. 12, the share of the picture left alone, in (0, 1).
            user_mask: 0..1, where edits may act: a PIL picture, array or tensor of any size, or a list, one an edit.
            sem_guidance: guidance of an earlier output, used as it is for as many steps as it has.
            use_cross_attn_mask: M1, where the prompt's words are.
            use_intersect_mask: M1 and M2, the noise estimate's mask; with neither of the two, M2.
            attn_store_steps: steps whose attention maps are returned.
            store_averaged_over_steps: their mean, or a list of them.
            cross_attention_kwargs: as in `invert`; None is what inversion was given.
            clip_skip: as in `invert`; None is what inversion was given.
            guidance_rescale: 0 to 1 draws the guided prediction back to the deviation of the edits' own.
            callback_on_step_end: called as f(pipeline, step, timestep, tensors); "latents" and embeddings that it
                returns take the place of those it was given.
            callback_on_step_end_tensor_inputs: of `_callback_tensor_inputs`.
            inversion: what `invert` returned; the last one if not given.
            editing_prompt_token_counts: tokens of each embedded prompt without start and end.
            mask_upsampling: "nearest" enlarges M1 in blocks, as diffusers does.
            noise_mask_below: M2 takes part at timesteps up to it; 800 is what diffusers does.
            region_threshold: with a caption, the share of the picture that an edit leaves alone, in (0, 1); None finds
                each edit's region in the picture.

        Raises ValueError for what is out of range, of unequal length, or not there.
        """
        changes = {
            "negative": inputs.negative(negative_prompt, negative_prompt_embeds, None),
            "attention": cross_attention_kwargs, "clip_skip": clip_skip,
        }  # fmt: skip
        mask_rule = inputs.rule(use_cross_attn_mask, use_intersect_mask)
        embedded = inputs.embedded(editing_prompt_embeds, None, editing_prompt_token_counts, mask_rule)
        edits = inputs.Edits(
            prompts=editing_prompt, embedded=embedded,
            scale=edit_guidance_scale, reverse=reverse_editing_direction, threshold=edit_threshold,
            warmup=edit_warmup_steps, cooldown=edit_cooldown_steps, user_mask=user_mask, rule=mask_rule,
            upsampling=mask_upsampling, noise_mask_below=noise_mask_below, rescale=guidance_rescale,
            sem_guidance=sem_guidance, store_steps=attn_store_steps, store_average=store_averaged_over_steps,
            callback=callback_on_step_end, callback_inputs=callback_on_step_end_tensor_inputs,
            region_threshold=region_threshold,
        )  # fmt: skip
        backbone, given, x, out = self._edit(inversion, changes, edits)
        if output_type == "latent":
            out.images = x
        else:
            decoded, out.nsfw_content_detected = self._checked(backbone.decode(x))
            clean = True if out.nsfw_content_detected is None else [not bad for bad in out.nsfw_content_detected]
            out.images = self._pictures(decoded, given.sizes, output_type, clean)
        self.maybe_free_model_hooks()
        return out if return_dict else (out.images, out.nsfw_content_detected)

    def _checked(self, decoded: Tensor) -> tuple[Tensor, list[bool] | None]:
        """Pictures (b 3 H W) in -1..1 with what the safety checker refuses made black, and what it found."""
        checker = cast("Any", self).safety_checker
        if checker is None:
            return decoded, None
        seen = self.feature_extractor(self.image_processor.postprocess(decoded, "pil"), return_tensors="pt")
        return checker(images=decoded, clip_input=seen.pixel_values.to(self._execution_device, checker.dtype))

    def _text_encoders(self, conditioning: Conditioning) -> ClipPrompts:
        return ClipPrompts(self.tokenizer, self.text_encoder, self._execution_device)

    def _embed(self, encoders: Any, text: str, second: str | None, clip_skip: int | None) -> PromptEmbedding:
        return encoders.embed(text, clip_skip=clip_skip)
