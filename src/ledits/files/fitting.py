"""Whether a checkpoint's parts belong together, by the sizes in their configurations: a text encoder of another model
has mostly another width, and its network would fail in the middle of an edit.
"""

from collections.abc import Callable, Mapping
from typing import Any

Configs = Mapping[str, Mapping[str, Any]]
# What a size is called, where it is said, and where the network says it.
_Sizes = tuple[str, Callable[[Configs], Any], Callable[[Mapping[str, Any]], Any]]


def _states(unet: Mapping[str, Any]) -> int:
    return unet.get("encoder_hid_dim") or unet["cross_attention_dim"]


def _told(unet: Mapping[str, Any]) -> tuple[int, ...]:
    """SDXL is told six numbers of sizes beside the pooled text, its refiner five."""
    told, each = unet["projection_class_embeddings_input_dim"], unet["addition_time_embed_dim"]
    return told - 6 * each, told - 5 * each


def _width(part: str, name: str = "hidden_size") -> Callable[[Configs], Any]:
    def read(configs: Configs) -> Any:
        config = configs[part]
        return config.get("text_config", config).get(name) or config[name]

    return read


def _both(name: str) -> Callable[[Configs], Any]:
    return lambda configs: sum(configs[part][name] for part in ("text_encoder", "text_encoder_2") if part in configs)


_TEXT, _POOLED, _LATENT = "states of texts", "pooled texts", "latents"
_FITS: Mapping[str, tuple[_Sizes, ...]] = {
    "StableDiffusionPipeline": ((_TEXT, _width("text_encoder"), _states),),
    "StableDiffusionXLPipeline": (
        (_TEXT, _both("hidden_size"), _states),
        (_POOLED, _width("text_encoder_2", "projection_dim"), _told),
    ),
    "IFPipeline": ((_TEXT, _width("text_encoder", "d_model"), _states),),
    "StableDiffusion3Pipeline": (
        (_POOLED, _both("projection_dim"), lambda net: net["pooled_projection_dim"]),
        (_TEXT, _width("text_encoder_3", "d_model"), lambda net: net["joint_attention_dim"]),
        (_LATENT, _width("vae", "latent_channels"), lambda net: net["in_channels"]),
    ),
    "FluxPipeline": (
        (_POOLED, _width("text_encoder"), lambda net: net["pooled_projection_dim"]),
        (_TEXT, _width("text_encoder_2", "d_model"), lambda net: net["joint_attention_dim"]),
        (_LATENT, _width("vae", "latent_channels"), lambda net: net["in_channels"] // 4),
    ),
    "ChromaPipeline": (
        (_TEXT, _width("text_encoder", "d_model"), lambda net: net["joint_attention_dim"]),
        (_LATENT, _width("vae", "latent_channels"), lambda net: net["in_channels"] // 4),
    ),
    "PixArtSigmaPipeline": ((_TEXT, _width("text_encoder", "d_model"), lambda net: net["caption_channels"]),),
    "SanaPipeline": ((_TEXT, _width("text_encoder"), lambda net: net["caption_channels"]),),
    "ZImagePipeline": ((_TEXT, _width("text_encoder"), lambda net: net["cap_feat_dim"]),),
    "Lumina2Pipeline": ((_TEXT, _width("text_encoder"), lambda net: net["cap_feat_dim"]),),
}  # fmt: skip


def refused(family: str, network: str, configs: Configs, classes: Mapping[str, str]) -> str:
    """Why parts don't belong together; empty where they do, or where their configurations don't say it.

    `classes` are those that text encoders are built as.
    """
    for part, cls in classes.items():
        kind = str(configs.get(part, {}).get("model_type") or "").partition("_")[0]
        if kind and not cls.lower().startswith(kind.lower()):
            return f"its {part} is a {kind}, where a {cls} is needed: two are swapped, or one is another model's"
    for what, given, wanted in _FITS.get(family, ()):
        try:
            has, takes = given(configs), wanted(configs[network])
        except (KeyError, TypeError, AttributeError):
            continue
        accepted = takes if isinstance(takes, tuple) else (takes,)
        if isinstance(has, int) and isinstance(accepted[0], int) and has not in accepted:
            return (
                f"its {what} have {has} numbers and its {network} takes {accepted[0]}: one of the two is another "
                "model's"
            )
    return ""
