"""The one table of families, without torch: whose checkpoints can be edited with, and what each of their parts is.

A checkpoint's files are data. They may name their pipeline and their parts, and are refused where they name anything
that is not here; what is built is always the first class that this table has for the part.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

_KL = ("AutoencoderKL", "AutoencoderTiny")
_CLIP, _CLIP_PROJECTED = ("CLIPTextModel",), ("CLIPTextModelWithProjection",)
_CLIP_WORDS = ("CLIPTokenizer", "CLIPTokenizerFast")
_T5, _T5_PIECES = ("T5EncoderModel",), ("T5TokenizerFast", "T5Tokenizer")
_QWEN_WORDS = ("Qwen2TokenizerFast", "Qwen2Tokenizer")
_GEMMA = ("Gemma2Model", "Gemma2ForCausalLM")
_GEMMA_PIECES = ("GemmaTokenizerFast", "GemmaTokenizer")
# Read from tokenizer.json as it stands, which all of these have.
_ANY_WORDS = (
    "PreTrainedTokenizerFast", "TokenizersBackend", "LlamaTokenizerFast", "LlamaTokenizer", *_QWEN_WORDS,
)  # fmt: skip

_SD = {"unet": ("UNet2DConditionModel",), "vae": _KL, "text_encoder": _CLIP, "tokenizer": _CLIP_WORDS}
_SDXL = {**_SD, "text_encoder_2": _CLIP_PROJECTED, "tokenizer_2": _CLIP_WORDS}


@dataclass(frozen=True)
class Known:
    """A family: where its code is, and the classes that a checkpoint may name for each part, the one that is built
    first. diffusers has networks and autoencoders, transformers what reads texts.
    """

    code: str  # of `ledits.backbones`: a module, or a name in one
    parts: Mapping[str, tuple[str, ...]]
    optional: tuple[str, ...] = ()  # parts that may be left out, each with its tokenizer
    scheduler: Mapping[str, Any] | None = None  # the one that diffusers makes where a modular repository names none

    @property
    def network(self) -> str:
        """The part that predicts."""
        return "unet" if "unet" in self.parts else "transformer"

    def load(self) -> Any:
        """The family's own object, with `backbone`."""
        module, _, name = self.code.partition(".")
        return getattr(import_module(f"ledits.backbones.{module}"), name or "FAMILY")


# By the names of diffusers' text-to-image pipelines.
FAMILIES: Mapping[str, Known] = {
    "StableDiffusionPipeline": Known("stable_diffusion", _SD),
    "StableDiffusionXLPipeline": Known("stable_diffusion_xl", _SDXL, ("text_encoder",)),
    "IFPipeline": Known(
        "deepfloyd_if", {"unet": ("UNet2DConditionModel",), "text_encoder": _T5, "tokenizer": _T5_PIECES}
    ),
    "StableDiffusion3Pipeline": Known(
        "stable_diffusion_3",
        {
            "transformer": ("SD3Transformer2DModel",), "vae": _KL, "text_encoder": _CLIP_PROJECTED,
            "tokenizer": _CLIP_WORDS, "text_encoder_2": _CLIP_PROJECTED, "tokenizer_2": _CLIP_WORDS,
            "text_encoder_3": _T5, "tokenizer_3": _T5_PIECES,
        },
        ("text_encoder_3",),
    ),
    "FluxPipeline": Known(
        "flux",
        {
            "transformer": ("FluxTransformer2DModel",), "vae": _KL, "text_encoder": _CLIP, "tokenizer": _CLIP_WORDS,
            "text_encoder_2": _T5, "tokenizer_2": _T5_PIECES,
        },
    ),
    "ChromaPipeline": Known(
        "chroma",
        {"transformer": ("ChromaTransformer2DModel",), "vae": _KL, "text_encoder": _T5, "tokenizer": _T5_PIECES},
    ),
    "ZImagePipeline": Known(
        "z_image",
        {
            "transformer": ("ZImageTransformer2DModel",), "vae": _KL,
            "text_encoder": ("Qwen3Model", "Qwen3ForCausalLM"), "tokenizer": _QWEN_WORDS,
        },
    ),
    "QwenImagePipeline": Known(
        "qwen_image",
        {
            "transformer": ("QwenImageTransformer2DModel",), "vae": ("AutoencoderKLQwenImage",),
            "text_encoder": ("Qwen2_5_VLForConditionalGeneration",), "tokenizer": _QWEN_WORDS,
        },
    ),
    "Flux2KleinPipeline": Known(
        "flux_2.KLEIN",
        {
            "transformer": ("Flux2Transformer2DModel",), "vae": ("AutoencoderKLFlux2",),
            "text_encoder": ("Qwen3ForCausalLM",), "tokenizer": _QWEN_WORDS,
        },
    ),
    "Flux2Pipeline": Known(
        "flux_2.DEV",
        {
            "transformer": ("Flux2Transformer2DModel",), "vae": ("AutoencoderKLFlux2",),
            "text_encoder": ("Mistral3ForConditionalGeneration",), "tokenizer": ("PixtralProcessor", *_QWEN_WORDS),
        },
    ),
    "SanaPipeline": Known(
        "gemma.SANA",
        {
            "transformer": ("SanaTransformer2DModel",), "vae": ("AutoencoderDC",), "text_encoder": _GEMMA,
            "tokenizer": _GEMMA_PIECES,
        },
    ),
    "PixArtSigmaPipeline": Known(
        "pixart",
        {"transformer": ("PixArtTransformer2DModel",), "vae": _KL, "text_encoder": _T5, "tokenizer": _T5_PIECES},
    ),
    "Lumina2Pipeline": Known(
        "gemma.LUMINA",
        {
            "transformer": ("Lumina2Transformer2DModel",), "vae": _KL, "text_encoder": _GEMMA,
            "tokenizer": _GEMMA_PIECES,
        },
    ),
    "Krea2Pipeline": Known(
        "krea_2",
        {
            "transformer": ("Krea2Transformer2DModel",), "vae": ("AutoencoderKLQwenImage",),
            "text_encoder": ("Qwen3VLModel",), "tokenizer": _QWEN_WORDS,
        },
    ),
    "ErnieImagePipeline": Known(
        "ernie_image",
        {
            "transformer": ("ErnieImageTransformer2DModel",), "vae": ("AutoencoderKLFlux2",),
            "text_encoder": ("Mistral3Model",), "tokenizer": _ANY_WORDS,
        },
    ),
    "QwenImage21Pipeline": Known(
        "qwen_image_21",
        {
            "transformer": ("QwenImage21Transformer2DModel",), "vae": ("AutoencoderKLQwenImage21",),
            "text_encoder": ("Qwen3VLForConditionalGeneration",), "processor": ("Qwen3VLProcessor", *_QWEN_WORDS),
        },
    ),
    # diffusers has these two as modular pipelines only.
    "AnimaPipeline": Known(
        "anima",
        {
            "transformer": ("CosmosTransformer3DModel",), "vae": ("AutoencoderKLQwenImage",),
            "text_encoder": ("Qwen3Model", "Qwen3ForCausalLM"), "tokenizer": _QWEN_WORDS,
            "text_conditioner": ("AnimaTextConditioner",), "t5_tokenizer": _T5_PIECES,
        },
    ),
    "Flux3Pipeline": Known(
        "flux_3",
        {
            "transformer": ("Flux3Transformer2DModel",), "vae": ("AutoencoderKLFlux2",),
            "text_encoder": ("Qwen3VLForConditionalGeneration",), "tokenizer": ("Qwen3VLProcessor", *_QWEN_WORDS),
        },
        scheduler={"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 6.93},
    ),
}  # fmt: skip

# Pipelines with other names and the same parts.
_ALSO = {
    "LatentConsistencyModelPipeline": "StableDiffusionPipeline", "Flux2KleinBasePipeline": "Flux2KleinPipeline",
    "Krea2TurboPipeline": "Krea2Pipeline", "QwenImage21TurboPipeline": "QwenImage21Pipeline",
    "Flux3DistilledPipeline": "Flux3Pipeline",
}  # fmt: skip
_INSTRUCTED = ("Kontext", "Edit", "Layered", "InstructPix2Pix", "KleinKV")


def is_words(part: str) -> bool:
    """Whether a part is a tokenizer, or one inside a processor: it has no weights."""
    return part == "processor" or "tokenizer" in part


def named(pipeline: str) -> str:
    """The family of a pipeline's class: ours, modular ones, and those for pictures to pictures, are named after
    text-to-image's.
    """
    name = pipeline.replace("LEditsPPPipeline", "")
    for kind in ("Modular", "Img2Img", "Inpaint"):
        name = name.replace(kind, "")
    name = name if name.endswith("Pipeline") else f"{name}Pipeline"
    return _ALSO.get(name, name)


def find(pipeline: str, what: str) -> tuple[str, Known]:
    """A pipeline's family, by its class; ValueError, one sentence about `what`, where it is none of these."""
    name = named(pipeline)
    if (known := FAMILIES.get(name)) is not None:
        return name, known
    if any(word in pipeline for word in _INSTRUCTED):
        raise ValueError(
            f"{what} is a {pipeline[:100]}, which is told how to change a picture: a text-to-image checkpoint is "
            "needed, which draws what a caption says"
        )
    raise ValueError(f"{what} is a {pipeline[:100]}: checkpoints of {', '.join(FAMILIES)} are accepted")
