"""LEDITS++ with Stable Diffusion XL, as diffusers names it."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.loaders.lora_pipeline import StableDiffusionXLLoraLoaderMixin
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.utils.import_utils import is_invisible_watermark_available
from torch import Tensor

from ledits.backbones.stable_diffusion_xl import ClipPairPrompts
from ledits.backbones.texts import Text as PromptEmbedding
from ledits.method.core import Schedule
from ledits.pipelines import compat, inputs
from ledits.pipelines.outputs import Conditioning, LEditsPPDiffusionPipelineOutput, LEditsPPInversionPipelineOutput
from ledits.pipelines.shared import Timesteps
from ledits.pipelines.unet import LEditsPPUNet


class LEditsPPPipelineStableDiffusionXL(LEditsPPUNet, StableDiffusionXLLoraLoaderMixin):
    """LEDITS++ with Stable Diffusion XL.

    Args:
        scheduler: as in `LEditsPPPipelineStableDiffusion`.
        map_scale: as in `LEditsPPPipelineStableDiffusion`.
        force_zeros_for_empty_prompt: embed the empty prompt as zeros, as SDXL was trained.
        add_watermarker: sign results with the invisible-watermark library; None does where it is installed.

    The other components are those of StableDiffusionXLPipeline.
    """

    model_cpu_offload_seq = "text_encoder->text_encoder_2->image_encoder->unet->vae"
    _optional_components = [  # noqa: RUF012
        "tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2", "image_encoder", "feature_extractor",
    ]  # fmt: skip
    _callback_tensor_inputs = [  # noqa: RUF012
        "latents", "prompt_embeds", "negative_prompt_embeds", "add_text_embeds", "add_time_ids",
        "negative_pooled_prompt_embeds",
    ]  # fmt: skip

    text_encoder_2: Any
    tokenizer_2: Any

    def __init__(
        self,
        vae: AutoencoderKL | AutoencoderTiny,
        text_encoder: Any,
        text_encoder_2: Any,
        tokenizer: Any,
        tokenizer_2: Any,
        unet: UNet2DConditionModel,
        scheduler: Any,
        image_encoder: Any = None,
        feature_extractor: Any = None,
        force_zeros_for_empty_prompt: bool = True,
        add_watermarker: bool | None = None,
        map_scale: int | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae, text_encoder=text_encoder, text_encoder_2=text_encoder_2, tokenizer=tokenizer,
            tokenizer_2=tokenizer_2, unet=unet, scheduler=self._set_up(scheduler), image_encoder=image_encoder,
            feature_extractor=feature_extractor,
        )  # fmt: skip
        self.register_to_config(force_zeros_for_empty_prompt=force_zeros_for_empty_prompt, map_scale=map_scale)
        self.watermark: Any = None
        if add_watermarker or (add_watermarker is None and is_invisible_watermark_available()):
            from diffusers.pipelines.stable_diffusion_xl.watermark import StableDiffusionXLWatermarker

            self.watermark = StableDiffusionXLWatermarker()

    @inputs.strict
    @torch.no_grad()
    def invert(
        self,
        image: inputs.Picture,
        source_prompt: str | Sequence[str] = "",
        source_guidance_scale: float = 3.5,
        negative_prompt: str | Sequence[str] | None = None,
        negative_prompt_2: str | Sequence[str] | None = None,
        num_inversion_steps: int = 50,
        skip: float = 0.15,
        generator: torch.Generator | list[torch.Generator] | None = None,
        crops_coords_top_left: tuple[int, int] = (0, 0),
        num_zero_noise_steps: int = 0,
        cross_attention_kwargs: dict[str, Any] | None = None,
        height: int | None = None,
        width: int | None = None,
        resize_mode: str = "default",
        crops_coords: tuple[int, int, int, int] | None = None,
        *,
        caption: str | Sequence[str] | None = None,
        timesteps: Timesteps = "scheduler",
    ) -> LEditsPPInversionPipelineOutput:
        """Invert one or several pictures, exactly; see `LEditsPPPipelineStableDiffusion.invert`.

        Args:
            negative_prompt_2: of the second text encoder, where it differs.
            crops_coords_top_left: (top, left) in pixels, of which the network is told (Podell et al. 2023).
            caption: as there.
            num_zero_noise_steps: the last steps to replay without their noise. Anything but 0 gives the exact
                reconstruction up; diffusers' default is 3.
        """
        conditioning = Conditioning(
            source_prompt, source_guidance_scale, negative_prompt or "", negative_prompt_2, cross_attention_kwargs,
            crop=(crops_coords_top_left[0], crops_coords_top_left[1]), caption=caption,
        )  # fmt: skip
        return self._invert(
            image, conditioning, num_inversion_steps, skip, generator, height, width, resize_mode, crops_coords,
            timesteps, num_zero_noise_steps,
        )  # fmt: skip

    @inputs.strict
    @torch.no_grad()
    def __call__(
        self,
        denoising_end: float | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        negative_prompt_2: str | Sequence[str] | None = None,
        negative_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
        ip_adapter_image: Any = None,
        output_type: str = "pil",
        return_dict: bool = True,
        cross_attention_kwargs: dict[str, Any] | None = None,
        guidance_rescale: float = 0.0,
        crops_coords_top_left: tuple[int, int] = (0, 0),
        target_size: tuple[int, int] | None = None,
        editing_prompt: str | Sequence[str | Sequence[str]] | None = None,
        editing_prompt_embeddings: Tensor | None = None,
        editing_pooled_prompt_embeds: Tensor | None = None,
        reverse_editing_direction: bool | Sequence[bool] = False,
        edit_guidance_scale: float | Sequence[float] = 5,
        edit_warmup_steps: int | Sequence[int] = 0,
        edit_cooldown_steps: int | Sequence[int | None] | None = None,
        edit_threshold: float | Sequence[float] = 0.9,
        sem_guidance: Sequence[Tensor] | None = None,
        use_cross_attn_mask: bool = False,
        use_intersect_mask: bool = False,
        user_mask: Any = None,
        attn_store_steps: Sequence[int] = (),
        store_averaged_over_steps: bool = True,
        clip_skip: int | None = None,
        callback_on_step_end: inputs.Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        *,
        generator: torch.Generator | list[torch.Generator] | None = None,
        inversion: LEditsPPInversionPipelineOutput | None = None,
        editing_prompt_token_counts: Sequence[int] | None = None,
        mask_upsampling: compat.Upsampling = "bilinear",
        noise_mask_below: float | None = None,
        region_threshold: float | Sequence[float | None] | None = None,
    ) -> LEditsPPDiffusionPipelineOutput | tuple[Any, ...]:
        """Edit the pictures of an inversion; see `LEditsPPPipelineStableDiffusion.__call__`.

        Args:
            denoising_end: share of the training times after which to stop, for a second model to go on; the result is
                noisy then, and wanted as output_type "latent".
            negative_prompt_2: of the second text encoder, where it differs.
            negative_pooled_prompt_embeds: (1 or b, d), beside the embeddings.
            editing_pooled_prompt_embeds: (k d), beside the embeddings.
            ip_adapter_image: a picture, or one for each loaded adapter, that every edit is guided by beside its text.
            crops_coords_top_left: (top, left) that the network is told; where inversion had others, the path is
                predicted again.
            target_size: (height, width) that the network is told; the same.
            generator: has no effect, for an edit draws nothing: the noise is the inversion's.
            editing_prompt_embeddings: (k tokens d) in place of texts; attention masks need editing_prompt_token_counts.

        Raises ValueError as that one does.
        """
        if denoising_end is not None and not 0 < denoising_end <= 1:
            raise ValueError(
                f"denoising_end {denoising_end}: the share of the training times after which to stop, 0..1"
            )
        changes = {
            "negative": inputs.negative(negative_prompt, negative_prompt_embeds, negative_pooled_prompt_embeds),
            "negative_2": negative_prompt_2, "attention": cross_attention_kwargs, "clip_skip": clip_skip,
            "crop": None if tuple(crops_coords_top_left) == (0, 0) else tuple(crops_coords_top_left),
            "target": None if target_size is None else tuple(target_size),
        }  # fmt: skip
        inputs.check_pooled("editing_prompt_embeddings", editing_prompt_embeddings, editing_pooled_prompt_embeds)
        inputs.check_pooled("negative_prompt_embeds", negative_prompt_embeds, negative_pooled_prompt_embeds)

        def stop(s: Schedule) -> int:
            train = int(self.scheduler.config.num_train_timesteps)
            return len(s) if denoising_end is None else sum(t >= round(train * (1 - denoising_end)) for t in s.t)

        mask_rule = inputs.rule(use_cross_attn_mask, use_intersect_mask)
        embedded = inputs.embedded(
            editing_prompt_embeddings, editing_pooled_prompt_embeds, editing_prompt_token_counts, mask_rule
        )
        edits = inputs.Edits(
            prompts=editing_prompt, embedded=embedded,
            scale=edit_guidance_scale, reverse=reverse_editing_direction, threshold=edit_threshold,
            warmup=edit_warmup_steps, cooldown=edit_cooldown_steps, user_mask=user_mask, rule=mask_rule,
            upsampling=mask_upsampling, noise_mask_below=noise_mask_below, rescale=guidance_rescale,
            sem_guidance=sem_guidance, store_steps=attn_store_steps, store_average=store_averaged_over_steps,
            callback=callback_on_step_end, callback_inputs=callback_on_step_end_tensor_inputs,
            region_threshold=region_threshold,
        )  # fmt: skip
        backbone, given, x, out = self._edit(inversion, changes, edits, ip_adapter_image, stop)
        if output_type == "latent":
            out.images = x
        else:
            decoded = backbone.decode(x)
            decoded = decoded if self.watermark is None else self.watermark.apply_watermark(decoded)
            out.images = self._pictures(decoded, given.sizes, output_type)
        self.maybe_free_model_hooks()
        return out if return_dict else (out.images,)

    def _text_encoders(self, conditioning: Conditioning) -> ClipPairPrompts:
        pairs = [(self.tokenizer, self.text_encoder), (self.tokenizer_2, self.text_encoder_2)]
        tokenizers, encoders = zip(*[pair for pair in pairs if pair[1] is not None], strict=True)
        return ClipPairPrompts(
            tokenizers, encoders, self._execution_device, bool(self.config["force_zeros_for_empty_prompt"]),
            conditioning.crop, conditioning.target,
        )  # fmt: skip

    def _embed(self, encoders: Any, text: str, second: str | None, clip_skip: int | None) -> PromptEmbedding:
        return encoders.embed(text, clip_skip=clip_skip, second=second)

    def upcast_vae(self) -> None:
        """The autoencoder in float32, as in diffusers; one that overflows in float16 is cast for a picture anyway."""
        self.vae.to(dtype=torch.float32)
