"""LEDITS++ with Stable Diffusion 3 and 3.5, named as diffusers names its pipelines."""

from typing import Any

from diffusers.loaders.lora_pipeline import SD3LoraLoaderMixin
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

from ledits.backbones import stable_diffusion_3
from ledits.pipelines.transformer import LEditsPPTransformer


class LEditsPPPipelineStableDiffusion3(LEditsPPTransformer, SD3LoraLoaderMixin):
    """LEDITS++ with Stable Diffusion 3 and 3.5.

    The components are those of StableDiffusion3Pipeline; T5, text_encoder_3, may be None. Pictures as prompts
    (image_encoder) are kept, and not used.
    """

    model_cpu_offload_seq = "text_encoder->text_encoder_2->text_encoder_3->image_encoder->transformer->vae"
    _family = stable_diffusion_3.FAMILY
    _start = 1

    def __init__(
        self,
        transformer: SD3Transformer2DModel,
        scheduler: Any,
        vae: AutoencoderKL,
        text_encoder: Any,
        tokenizer: Any,
        text_encoder_2: Any,
        tokenizer_2: Any,
        text_encoder_3: Any,
        tokenizer_3: Any,
        image_encoder: Any = None,
        feature_extractor: Any = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            transformer=transformer, scheduler=scheduler, vae=vae, text_encoder=text_encoder, tokenizer=tokenizer,
            text_encoder_2=text_encoder_2, tokenizer_2=tokenizer_2, text_encoder_3=text_encoder_3,
            tokenizer_3=tokenizer_3, image_encoder=image_encoder, feature_extractor=feature_extractor,
        )  # fmt: skip
