"""Stable Diffusion's parts as one file with the names that its authors gave, as most people have it; made for tests."""

import re

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from conftest import BUNDLED_FOLDER

_RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
           "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}  # fmt: skip
_UNET = {
    "conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2", "conv_norm_out": "out.0",
    "conv_out": "out.2",
}  # fmt: skip
_VAE = {"conv_shortcut": "nin_shortcut", "conv_norm_out": "norm_out", "group_norm": "norm", "to_q": "q", "to_k": "k",
        "to_v": "v", "to_out.0": "proj_out"}  # fmt: skip


def unet_name(name: str) -> str:
    for ours, theirs in _UNET.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    kind, *rest = name.split(".")
    if kind == "mid_block":
        part, k, *rest = rest
        place = f"middle_block.{1 if part == 'attentions' else 2 * int(k)}"
    else:
        level, part, k, *rest = rest
        row, down = 3 * int(level) + int(k) + (kind == "down_blocks"), kind == "down_blocks"
        block = "input_blocks" if down else "output_blocks"
        if part == "downsamplers":
            return f"{block}.{3 * int(level) + 3}.0.op.{rest[-1]}"
        if part == "upsamplers":
            return f"{block}.{3 * int(level) + 2}.UP.conv.{rest[-1]}"
        place = f"{block}.{row}.{1 if part == 'attentions' else 0}"
    if part == "resnets":
        rest[0] = _RESNET[rest[0]]
    return f"{place}.{'.'.join(rest)}"


def unet_tensors(unet: UNet2DConditionModel) -> dict[str, torch.Tensor]:
    found = {unet_name(name): each for name, each in unet.state_dict().items()}
    rows = {name.split(".")[1] for name in found if re.match(r"output_blocks\.\d+\.1\.(norm|proj_in)", name)}
    return {
        re.sub(r"^(output_blocks\.(\d+))\.UP", lambda m: f"{m[1]}.{2 if m[2] in rows else 1}", name): each
        for name, each in found.items()
    }


def vae_tensors(vae: AutoencoderKL) -> dict[str, torch.Tensor]:
    levels, found = len(vae.config.block_out_channels), {}
    for name, each in vae.state_dict().items():
        for ours, theirs in _VAE.items():
            name = re.sub(rf"\b{re.escape(ours)}\b", theirs, name)
        name = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", name)
        name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"up.{levels - 1 - int(m[1])}.block.{m[2]}", name)
        name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", name)
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        name = name.replace("mid_block.attentions.0", "mid.attn_1")
        if "mid.attn_1" in name and each.dim() == 2:
            each = each[:, :, None, None]
        found[name] = each
    return found


def clip_tensors(encoder: CLIPTextModel) -> dict[str, torch.Tensor]:
    return {
        name if name.startswith("text_model.") else f"text_model.{name}": each
        for name, each in encoder.state_dict().items()
    }


def open_clip_tensors(encoder: CLIPTextModel | CLIPTextModelWithProjection) -> dict[str, torch.Tensor]:
    """OpenCLIP's names: queries, keys and values in one."""
    found, plain = {}, clip_tensors(encoder)
    for name, each in plain.items():
        name = name.removeprefix("text_model.")
        if name == "text_projection.weight" or plain and name.endswith("text_projection.weight"):
            found["text_projection"] = each.T.contiguous()
            continue
        if (match := re.match(r"encoder\.layers\.(\d+)\.(.*)", name)) is None:
            name = {
                "embeddings.token_embedding.weight": "token_embedding.weight",
                "embeddings.position_embedding.weight": "positional_embedding",
                "final_layer_norm.weight": "ln_final.weight", "final_layer_norm.bias": "ln_final.bias",
            }.get(name, "")  # fmt: skip
            if name:
                found[name] = each
            continue
        begun, rest = f"transformer.resblocks.{match[1]}", match[2]
        if rest.startswith("self_attn.q_proj"):
            kind = rest.rpartition(".")[2]
            three = [plain[f"text_model.encoder.layers.{match[1]}.self_attn.{k}_proj.{kind}"] for k in "qkv"]
            found[f"{begun}.attn.in_proj_{kind}"] = torch.cat(three)
        elif not rest.startswith(("self_attn.k_proj", "self_attn.v_proj")):
            for ours, theirs in (("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"), ("mlp.fc1", "mlp.c_fc"),
                                 ("mlp.fc2", "mlp.c_proj"), ("self_attn.out_proj", "attn.out_proj")):  # fmt: skip
                rest = rest.replace(ours, theirs)
            found[f"{begun}.{rest}"] = each
    return found


def whole(parts: dict, kind: str) -> dict[str, torch.Tensor]:
    """All of a model in one: "1", "2" or "xl"."""
    found = {f"model.diffusion_model.{name}": each for name, each in unet_tensors(parts["unet"]).items()}
    found |= {f"first_stage_model.{name}": each for name, each in vae_tensors(parts["vae"]).items()}
    if kind == "1":
        found |= {f"cond_stage_model.transformer.{n}": each for n, each in clip_tensors(parts["text_encoder"]).items()}
    elif kind == "2":
        found |= {f"cond_stage_model.model.{n}": each for n, each in open_clip_tensors(parts["text_encoder"]).items()}
    else:
        first, second = clip_tensors(parts["text_encoder"]), open_clip_tensors(parts["text_encoder_2"])
        found |= {f"conditioner.embedders.0.transformer.{n}": each for n, each in first.items()}
        found |= {f"conditioner.embedders.1.model.{n}": each for n, each in second.items()}
    return {name: each.detach().clone().contiguous() for name, each in found.items()}


def parts(kind: str) -> dict:
    """The real levels and layers, narrow."""
    torch.manual_seed(3)
    xl, width = kind == "xl", 48 if kind == "xl" else 16
    cross, plain = "CrossAttn{}Block2D", "{}Block2D"
    down = [plain, cross, cross] if xl else [cross, cross, cross, plain]
    more = {
        "addition_embed_type": "text_time", "addition_time_embed_dim": 8, "transformer_layers_per_block": (1, 1, 2),
        "projection_class_embeddings_input_dim": 32 + 6 * 8,
    }  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(16, 16, 32) if xl else (16, 16, 32, 32), cross_attention_dim=width,
        down_block_types=[each.format("Down") for each in down], norm_num_groups=8,
        up_block_types=[each.format("Up") for each in reversed(down)], attention_head_dim=2,
        use_linear_projection=kind != "1", **(more if xl else {}),
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), latent_channels=4, norm_num_groups=4, layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    tokenizer = CLIPTokenizer.from_pretrained(BUNDLED_FOLDER / "tokenizer")

    def text(cls: type, layers: int, width: int = 16) -> torch.nn.Module:
        return cls(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=width,
                intermediate_size=32,
                num_hidden_layers=layers,
                num_attention_heads=2,
                max_position_embeddings=32,
                projection_dim=width,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        ).eval()

    found = {"unet": unet.eval(), "vae": vae.eval(), "text_encoder": text(CLIPTextModel, 2), "tokenizer": tokenizer}
    if xl:
        # Told by its width, and by its tenth layer.
        found |= {"text_encoder_2": text(CLIPTextModelWithProjection, 10, 32), "tokenizer_2": tokenizer}
    return found
