"""LEDITS++ with FLUX.1, named as diffusers names its pipelines."""

from typing import Any

from diffusers.loaders.lora_pipeline import FluxLoraLoaderMixin
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

from ledits.backbones import flux
from ledits.pipelines.transformer import LEditsPPTransformer


class LEditsPPPipelineFlux(LEditsPPTransformer, FluxLoraLoaderMixin):
    """LEDITS++ with FLUX.1 dev and schnell. schnell is distilled: give `invert` a caption.

    The components are those of FluxPipeline. Pictures as prompts (image_encoder) are kept, and not used.
    """

    model_cpu_offload_seq = "text_encoder->text_encoder_2->image_encoder->transformer->vae"
    _family = flux.FAMILY
    _start = 0  # T5's

    def __init__(
        self,
        scheduler: Any,
        vae: AutoencoderKL,
        text_encoder: Any,
        tokenizer: Any,
        text_encoder_2: Any,
        tokenizer_2: Any,
        transformer: FluxTransformer2DModel,
        image_encoder: Any = None,
        feature_extractor: Any = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            scheduler=scheduler, vae=vae, text_encoder=text_encoder, tokenizer=tokenizer,
            text_encoder_2=text_encoder_2, tokenizer_2=tokenizer_2, transformer=transformer,
            image_encoder=image_encoder, feature_extractor=feature_extractor,
        )  # fmt: skip
