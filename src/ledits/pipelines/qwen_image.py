"""LEDITS++ with Qwen-Image, named as diffusers names its pipelines."""

from typing import Any

from diffusers.loaders.lora_pipeline import QwenImageLoraLoaderMixin
from diffusers.models.autoencoders.autoencoder_kl_qwenimage import AutoencoderKLQwenImage
from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformer2DModel

from ledits.backbones import qwen_image
from ledits.pipelines.transformer import LEditsPPTransformer


class LEditsPPPipelineQwenImage(LEditsPPTransformer, QwenImageLoraLoaderMixin):
    """LEDITS++ with Qwen-Image.

    The components are those of QwenImagePipeline. Its prompts have no pooled embeddings.
    """

    model_cpu_offload_seq = "text_encoder->transformer->vae"
    _family = qwen_image.FAMILY
    _start = 0
    _is_pooled = False
    _callback_tensor_inputs = ["latents", "prompt_embeds", "negative_prompt_embeds"]  # noqa: RUF012

    def __init__(
        self,
        scheduler: Any,
        vae: AutoencoderKLQwenImage,
        text_encoder: Any,
        tokenizer: Any,
        transformer: QwenImageTransformer2DModel,
    ) -> None:
        super().__init__()
        self.register_modules(
            scheduler=scheduler, vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, transformer=transformer
        )
