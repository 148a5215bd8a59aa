"""What the invocations hand to each other, and the models behind the names in it."""

import hashlib
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, Field

from invokeai.invocation_api import CLIPField, ImageField, InvocationContext, UNetField, VAEField
from ledits import Editor
from ledits.backbones.latent_unet import LatentUNet
from ledits.backbones.stable_diffusion import ClipPrompts
from ledits.backbones.stable_diffusion_xl import ClipPairPrompts


class LeditsModelField(BaseModel):
    """A model: by ledits' own loader where it has a name, else parts of InvokeAI's model manager."""

    name: str = Field(default="", description="scenes, a folder in diffusers' layout, or a hub id")
    unet: UNetField | None = Field(default=None, description="UNet, scheduler and LoRAs")
    clip: CLIPField | None = Field(default=None, description="The first text encoder")
    clip2: CLIPField | None = Field(default=None, description="The second text encoder, of SDXL")
    vae: VAEField | None = Field(default=None, description="Autoencoder")


class LeditsInversionField(BaseModel):
    """An inverted picture: a file of ledits, the picture and the model."""

    path: str = Field(description="The file")
    image: ImageField = Field(description="The picture that it belongs to")
    model: LeditsModelField = Field(description="The model that it was made with")


class LeditsEdit(BaseModel):
    """One edit, in ledits' grammar."""

    edit: str = Field(description="Such as cat->dog:5@0.8")
    mask: ImageField | None = Field(default=None, description="Where it may act; white is open")


class LeditsEditsField(BaseModel):
    """Edits that are carried out at once."""

    edits: list[LeditsEdit] = Field(description="In order")


@contextmanager
def opened(context: InvocationContext, model: LeditsModelField) -> Generator[Editor]:
    """An editor on the model, which is where the manager has put it for as long as the block lasts."""
    if model.name:
        yield _named(model.name)
        return
    with ExitStack() as stack:
        yield Editor(_parts(context, model, stack))


@lru_cache(maxsize=1)
def _named(name: str) -> Editor:
    """The last one stays in memory; InvokeAI's manager does not know of it."""
    return Editor(name)


def _parts(context: InvocationContext, model: LeditsModelField, stack: ExitStack) -> LatentUNet:
    if model.unet is None or model.clip is None or model.vae is None:
        raise ValueError("the LEDITS++ model has no parts: connect UNet, CLIP and VAE, or name a model")
    scheduler = stack.enter_context(context.models.load(model.unet.scheduler))
    encoders = [
        _encoder(context, clip, stack, f"lora_te{'' if model.clip2 is None else at}_")
        for at, clip in enumerate((model.clip, model.clip2), 1)
        if clip is not None
    ]
    vae: Any = stack.enter_context(context.models.load(model.vae.vae))
    loaded = context.models.load(model.unet.unet)
    weights, unet = stack.enter_context(loaded.model_on_device())
    _patch(context, unet, weights, model.unet.loras, "lora_unet_", stack)
    tokenizers, texts = zip(*encoders, strict=True)
    device = loaded.compute_device
    prompts = (
        ClipPrompts(tokenizers[0], texts[0], device)
        if model.clip2 is None
        else ClipPairPrompts(tokenizers, texts, device)
    )
    return LatentUNet(
        unet, vae, prompts, scheduler.config, name=model.unet.unet.name, fingerprint=fingerprint(model), device=device
    )


def _encoder(context: InvocationContext, clip: CLIPField, stack: ExitStack, prefix: str) -> tuple[Any, Any]:
    """Tokenizer and text encoder, with the LoRAs and the skipped layers that the graph put on it."""
    tokenizer = stack.enter_context(context.models.load(clip.tokenizer))
    weights, encoder = stack.enter_context(context.models.load(clip.text_encoder).model_on_device())
    _patch(context, encoder, weights, clip.loras, prefix, stack)
    if clip.skipped_layers:
        from invokeai.backend.model_patcher import ModelPatcher

        stack.enter_context(ModelPatcher.apply_clip_skip(encoder, clip.skipped_layers))
    return tokenizer, encoder


def _patch(context: InvocationContext, net: Any, weights: Any, loras: list[Any], prefix: str, stack: ExitStack) -> None:
    """LoRAs as InvokeAI's own nodes apply them, which its public interface has no call for."""
    if not loras:
        return
    from invokeai.backend.patches.layer_patcher import LayerPatcher

    def patches() -> Generator[tuple[Any, float, Any]]:
        for lora in loras:
            loaded = context.models.load(lora.lora)
            yield loaded.model, lora.weight, loaded.model_in_ram()

    stack.enter_context(
        LayerPatcher.apply_smart_model_patches(
            model=net, patches=patches(), prefix=prefix, dtype=net.dtype, cached_weights=weights
        )
    )


def fingerprint(model: LeditsModelField) -> str:
    """A name for the weights, 32 digits: the manager's hashes, and the LoRAs."""
    whole = hashlib.sha256()
    for part in (model.unet, model.clip, model.clip2, model.vae):
        whole.update(("" if part is None else part.model_dump_json()).encode())
    return whole.hexdigest()[:32]
