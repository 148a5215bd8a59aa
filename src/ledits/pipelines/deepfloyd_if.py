"""LEDITS++ with DeepFloyd IF, stage I, named as diffusers names its pipelines."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from ledits.backbones import deepfloyd_if
from ledits.backbones.latent_unet import LatentUNet
from ledits.pipelines import inputs
from ledits.pipelines.outputs import Conditioning, LEditsPPDiffusionPipelineOutput, LEditsPPInversionPipelineOutput
from ledits.pipelines.shared import LEditsPP


class LEditsPPPipelineIF(LEditsPP, StableDiffusionLoraLoaderMixin):
    """LEDITS++ with DeepFloyd IF, stage I, which works on pixels, 64 a side. Its results go into diffusers'
    IFSuperResolutionPipeline as any of stage I (docs/families.md).

    The components are those of IFPipeline. The noise levels are those of the scheduler's configuration, whatever its
    class, spaced as the authors of LEDITS++ do; it is read and never changed.
    """

    model_cpu_offload_seq = "text_encoder->unet"
    _optional_components = [  # noqa: RUF012
        "tokenizer", "text_encoder", "safety_checker", "feature_extractor", "watermarker",
    ]  # fmt: skip
    _exclude_from_cpu_offload = ["watermarker"]  # noqa: RUF012
    _callback_tensor_inputs = ["latents", "prompt_embeds", "negative_prompt_embeds"]  # noqa: RUF012

    unet: Any
    safety_checker: Any
    feature_extractor: Any
    watermarker: Any

    def __init__(
        self,
        tokenizer: Any,
        text_encoder: Any,
        unet: UNet2DConditionModel,
        scheduler: Any,
        safety_checker: Any,
        feature_extractor: Any,
        watermarker: Any,
        requires_safety_checker: bool = True,
    ) -> None:
        super().__init__()
        inputs.check_safety_checker(safety_checker, feature_extractor, required=requires_safety_checker)
        self.register_modules(
            tokenizer=tokenizer, text_encoder=text_encoder, unet=unet, scheduler=scheduler,
            safety_checker=safety_checker, feature_extractor=feature_extractor, watermarker=watermarker,
        )  # fmt: skip
        self.register_to_config(requires_safety_checker=requires_safety_checker)

    @inputs.strict
    @torch.no_grad()
    def invert(
        self,
        image: inputs.Picture,
        source_prompt: str | Sequence[str] = "",
        source_guidance_scale: float = 3.5,
        num_inversion_steps: int = 50,
        skip: float = 0.15,
        generator: torch.Generator | list[torch.Generator] | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        height: int | None = None,
        width: int | None = None,
        resize_mode: str = "default",
        crops_coords: tuple[int, int, int, int] | None = None,
        *,
        negative_prompt: str | Sequence[str] | None = None,
        caption: str | Sequence[str] | None = None,
    ) -> LEditsPPInversionPipelineOutput:
        """Invert one or several pictures, exactly; see `LEditsPPPipelineStableDiffusion.invert`.

        The network was trained on 64 x 64 pixels: give height and width for larger pictures.
        """
        conditioning = Conditioning(
            source_prompt, source_guidance_scale, negative_prompt or "", None, cross_attention_kwargs, caption=caption
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
        negative_prompt_embeds: Tensor | None = None,
        reverse_editing_direction: bool | Sequence[bool] = False,
        edit_guidance_scale: float | Sequence[float] = 8,
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
        callback_on_step_end: inputs.Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        *,
        inversion: LEditsPPInversionPipelineOutput | None = None,
        editing_prompt_token_counts: Sequence[int] | None = None,
        region_threshold: float | Sequence[float | None] | None = None,
    ) -> LEditsPPDiffusionPipelineOutput | tuple[Any, ...]:
        """Edit the pictures of an inversion; see `LEditsPPPipelineStableDiffusion.__call__`.

        Pictures that are shown, all but "latent", go through the safety checker where there is one, and PIL pictures
        get the watermark where there is one, as in IFPipeline. With return_dict False the tuple is (images,
        nsfw_content_detected).
        """
        changes = {
            "negative": inputs.negative(negative_prompt, negative_prompt_embeds, None),
            "attention": cross_attention_kwargs,
        }
        mask_rule = inputs.rule(use_cross_attn_mask, use_intersect_mask)
        edits = inputs.Edits(
            prompts=editing_prompt,
            embedded=inputs.embedded(editing_prompt_embeds, None, editing_prompt_token_counts, mask_rule, start=0),
            scale=edit_guidance_scale, reverse=reverse_editing_direction, threshold=edit_threshold,
            warmup=edit_warmup_steps, cooldown=edit_cooldown_steps, user_mask=user_mask, rule=mask_rule,
            upsampling="bilinear", noise_mask_below=None, rescale=guidance_rescale,
            sem_guidance=sem_guidance, store_steps=attn_store_steps, store_average=store_averaged_over_steps,
            callback=callback_on_step_end, callback_inputs=callback_on_step_end_tensor_inputs,
            region_threshold=region_threshold,
        )  # fmt: skip
        backbone, given, x, out = self._edit(inversion, changes, edits)
        if output_type == "latent":
            out.images = x
        else:
            decoded, out.nsfw_content_detected = self._checked(backbone.decode(x))
            out.images = self._pictures(decoded, given.sizes, output_type)
            if output_type == "pil" and self.watermarker is not None:
                out.images = self.watermarker.apply_watermark(out.images, self.unet.config.sample_size)
        self.maybe_free_model_hooks()
        return out if return_dict else (out.images, out.nsfw_content_detected)

    def _checked(self, decoded: Tensor) -> tuple[Tensor, list[bool] | None]:
        """Pictures (b 3 H W) in -1..1 with what the safety checker refuses made black, and what it found.

        It refuses its own watermark too, as in IFPipeline.
        """
        if self.safety_checker is None:
            return decoded, None
        device = self._execution_device
        shown = self.image_processor.postprocess(decoded, "pil")
        seen = self.feature_extractor(shown, return_tensors="pt").pixel_values.to(device, self.unet.dtype)
        array = np.asarray(self.image_processor.postprocess(decoded, "np"))
        checked, refused, _ = self.safety_checker(images=array, clip_input=seen)
        return torch.from_numpy(checked).permute(0, 3, 1, 2) * 2 - 1, refused

    def _backbone(self, conditioning: Conditioning) -> LatentUNet:
        device = self._execution_device
        return LatentUNet(
            self.unet, None, deepfloyd_if.Prompts(self.components, device), self.scheduler.config,
            name=type(self).__name__, fingerprint="", device=device, attention=conditioning.attention,
        )  # fmt: skip
