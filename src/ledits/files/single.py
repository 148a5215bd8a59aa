"""What a lone file of weights is, by the names and shapes of its tensors: a model, or a part or an addition of one."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ledits.files import weights
from ledits.files.weights import Header

WEIGHTS = (".safetensors", ".gguf")
PICKLES = (".ckpt", ".pt", ".pth", ".bin")

# Under which names a network lies in files that hold more than it, or were saved from another program.
PREFIXES = ("model.diffusion_model.", "diffusion_model.", "net.", "transformer.")

# What tells of the scheduler and is no weight.
SETTINGS = ("v_pred", "ztsnr", "edm_mean", "edm_std")

# Names that only this family's network has, without such a prefix: those of its authors, then diffusers'. All of one
# row must be there, and none that begins with "!"; the first row that fits.
_NETWORKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Flux2Pipeline", ("single_stream_modulation.lin.weight",)),
    ("Flux2Pipeline", ("single_stream_modulation.linear.weight",)),
    ("ChromaPipeline", ("distilled_guidance_layer.in_proj.bias",)),
    ("FluxPipeline", ("double_blocks.0.img_attn.norm.key_norm.scale", "vector_in.in_layer.weight")),
    ("FluxPipeline", ("context_embedder.weight", "single_transformer_blocks.0.norm.linear.weight")),
    ("StableDiffusion3Pipeline", ("joint_blocks.0.context_block.adaLN_modulation.1.bias",)),
    ("StableDiffusion3Pipeline", ("context_embedder.weight", "pos_embed.proj.weight")),
    ("ZImagePipeline", ("cap_pad_token", "layers.0.adaLN_modulation.0.weight")),
    ("Lumina2Pipeline", ("cap_embedder.0.weight", "layers.0.adaLN_modulation.1.weight")),
    ("Lumina2Pipeline", ("time_caption_embed.caption_embedder.1.weight",)),
    ("Krea2Pipeline", ("txtfusion.projector.weight", "tproj.1.weight")),
    ("Krea2Pipeline", ("text_fusion.projector.weight", "time_mod_proj.weight")),
    ("ErnieImagePipeline", ("adaLN_modulation.1.weight", "layers.0.self_attention.to_q.weight")),
    ("SanaPipeline", ("blocks.0.cross_attn.q_linear.weight", "attention_y_norm.weight")),
    ("SanaPipeline", ("caption_norm.weight", "transformer_blocks.0.ff.conv_inverted.weight")),
    ("AnimaPipeline", ("patch_embed.proj.weight", "time_embed.t_embedder.linear_1.weight")),
    ("Flux3Pipeline", ("early_stream_modulations.image.lin.weight",)),
    ("Flux3Pipeline", ("early_stream_modulations.image.linear.weight",)),
    ("QwenImage21Pipeline", ("txt_in.text_norm.weight", "modulation.1.weight")),
    ("QwenImagePipeline", ("txt_norm.weight", "transformer_blocks.0.attn.add_q_proj.weight", "!text_norm.weight")),
    ("StableDiffusionXLPipeline", ("label_emb.0.0.weight", "input_blocks.0.0.weight")),
    ("StableDiffusionXLPipeline", ("add_embedding.linear_1.weight", "down_blocks.0.resnets.0.conv1.weight")),
    ("StableDiffusionPipeline", ("input_blocks.0.0.weight", "time_embed.0.weight")),
    ("StableDiffusionPipeline", ("conv_in.weight", "down_blocks.0.resnets.0.time_emb_proj.weight")),
)
_LORA = re.compile(r"lora_(A|B|up|down)\b|\.lora\.(up|down)\.|lora_linear_layer")
_LYCORIS = {"hada_w1_a": "LoHa", "lokr_w1": "LoKr", "lokr_w1_a": "LoKr", "oft_blocks": "OFT", "a1.weight": "GLoRA",
            "on_input": "IA3", "diff": "full weights"}  # fmt: skip
# Files that people have beside models, by the beginning of a tensor's name or a part of it: what they are.
_BESIDE: tuple[tuple[str, str], ...] = (
    (r"control_model\.|controlnet_|zero_convs\.|input_hint_block\.|.*\bcontrolnet_blocks\.", "a ControlNet"),
    (r"(adapter\.)?body\.\d+\.(block[12]|in_conv|resnets)\.", "a T2I-Adapter"),
    (r"ip_adapter\.|image_proj\.|.*\.to_k_ip\.", "an IP-Adapter"),
    (r"(.*\.)?motion_modules\.", "a motion module of AnimateDiff"),
    (r".*\.(time_stack|time_mixer)\.|.*\.temporal_transformer_blocks\.", "a model of videos (Stable Video Diffusion)"),
    (r"vision_model\.embeddings\.|visual\.(conv1|transformer)", "an encoder of pictures (CLIP vision)"),
    (r"concept_embeds|special_care_embeds", "a safety checker"),
    (r"(conv_first|RRDB_trunk\.\d+\.|body\.\d+\.rdb1\.|model\.\d+\.sub\.\d+\.RDB1\.)", "an upscaler (ESRGAN)"),
    (r"(model\.)?head\.modulation$|(.*\.)?txt_in\.individual_token_refiner\.", "a model of videos"),
    (r"(.*\.)?patchify_proj\.", "a model of videos (LTX)"),
)
# Inputs of networks that draw a picture from noise alone, those of packed latents being four times as many.
_INPUTS = {
    "StableDiffusionPipeline": (("input_blocks.0.0.weight", "conv_in.weight"), 4),
    "StableDiffusionXLPipeline": (("input_blocks.0.0.weight", "conv_in.weight"), 4),
    "FluxPipeline": (("img_in.weight", "x_embedder.weight"), 64),
}
_TAKES = {
    9: "an inpainting model", 8: "a model for instructions (InstructPix2Pix)", 7: "an upscaler", 5: "a model for depth",
    384: "FLUX Fill, an inpainting model", 128: "FLUX for edges or depth", 96: "an inpainting model",
}  # fmt: skip
# Beside a picture and its time SDXL is told a pooled text and sizes, so many numbers.
_SDXL, _REFINER, _SMALL = 2816, 2560, 256  # less than the last has no real model
_ADDED = "add_embedding.linear_1.weight"


@dataclass(frozen=True)
class File:
    """A file of weights: "model" (a network with its autoencoder and text encoders), "network", "vae", "tiny vae",
    "text encoder", "lora" or "embedding".
    """

    path: Path
    kind: str
    header: Header
    family: str | None = None  # of a model, a network and, where it can be told, of the others
    prefix: str = ""  # of the network's tensors
    note: str = ""  # what more is to be said: the kind of a text encoder, the vectors of an embedding

    def network(self) -> dict[str, weights.Stored]:
        """The network's tensors, without the prefix."""
        return {
            name.removeprefix(self.prefix): each
            for name, each in self.header.tensors.items()
            if name.startswith(self.prefix)
        }

    @property
    def size(self) -> int:
        return self.path.stat().st_size


def told(path: Path) -> File:
    """What a file is; ValueError, one sentence, where it is none that is known."""
    if path.suffix in PICKLES:
        raise ValueError(f"{path} is a pickle, {pickle_remedy(path)}")
    if path.suffix not in WEIGHTS or not path.is_file():
        raise ValueError(f"{path}: a .safetensors or .gguf file is needed")
    header = weights.header(path)
    names = header.tensors.keys()
    for sign, what in _BESIDE:
        if any(re.match(sign, name.removeprefix("model.diffusion_model.")) for name in names):
            raise ValueError(f"{path} is {what}, which is not used here: a model is needed, or an addition to one")
    if any(_LORA.search(name) for name in names) or lycoris(names):
        return File(path, "lora", header, lora_family(header), note=lycoris(names))
    if vectors := embedding(header):
        sizes = " and ".join(f"{count} vectors of {width}" for count, width in vectors.values())
        return File(path, "embedding", header, note=sizes)
    for prefix in (*PREFIXES, ""):
        inside = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
        for family, row in _NETWORKS:
            if all((name[1:] not in inside) if name[0] == "!" else (name in inside) for name in row):
                return File(path, "model" if _is_whole(names, prefix) else "network", header, family, prefix)
    if {"encoder.conv_in.weight", "decoder.conv_out.weight"} <= {_bare(name) for name in names}:
        return File(path, "vae", header)
    if any(re.match(r"(taesd_)?(encoder|decoder)\.(layers\.)?\d+\.(conv\.0\.)?weight", name) for name in names):
        return File(path, "tiny vae", header)
    if kind := _text_encoder(names):
        return File(path, "text encoder", header, note=kind)
    some = ", ".join(sorted(names)[:3])
    raise ValueError(f"{path} is a file of weights of a kind that is not known here; its tensors are {some}, ...")


def with_article(kind: str) -> str:
    """ "a vae", "an embedding"."""
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def unusable(file: File) -> str:
    """Why one can't edit with a network, by the sizes of its tensors; empty where one can."""
    network = file.network()
    firsts, wanted = _INPUTS.get(str(file.family), ((), 0))
    takes = next((network[name].shape[1] for name in firsts if name in network and len(network[name].shape) > 1), 0)
    # A network alone may be of other latents, which its folder knows.
    if takes and takes != wanted and (takes in _TAKES or file.kind == "model"):
        kind = f" ({_TAKES[takes]})" if takes in _TAKES else ""
        return f"its network takes {takes} channels{kind}, and a picture has {wanted}: take a text-to-image checkpoint"
    told = [each.shape[-1] for name, each in network.items() if name in ("label_emb.0.0.weight", _ADDED) and each.shape]
    if _REFINER in told:
        return "it is SDXL's refiner, of which a file does not say all: give its folder in diffusers' layout"
    if told and told[0] < _SDXL and told[0] > _SMALL:
        return f"its network is told {told[0]} numbers beside the text (unCLIP, or a model of videos), and SDXL {_SDXL}"
    if "edm_mean" in file.header.tensors:
        return "its scheduler is one of EDM, which is not known here"
    return ""


def pickle_remedy(path: Path) -> str:
    """What to say of a file that can run code when it is opened: how to make a safe one of it, in a process of its own.

    With `weights_only` PyTorch reads tensors alone, and refuses a file that holds anything else.
    """
    safe = path.with_suffix(".safetensors")
    code = (
        f"import torch, safetensors.torch as s; w = torch.load({str(path)!r}, map_location='cpu', weights_only=True); "
        "w = w.get('state_dict', w); s.save_file({k: v.contiguous() for k, v in w.items() if hasattr(v, 'shape')}, "
        f"{str(safe)!r})"
    )
    return f'which can run code when it is opened: convert it first, python -c "{code}"'


def _bare(name: str) -> str:
    for prefix in ("first_stage_model.", "vae."):
        name = name.removeprefix(prefix)
    return name


def _is_whole(names: Iterable[str], prefix: str) -> bool:
    """Whether a file has an autoencoder and text encoders beside the network."""
    begun = tuple(name for name in names if not prefix or not name.startswith(prefix))
    return bool(prefix) and any(name.startswith(("first_stage_model.", "vae.")) for name in begun)


def _text_encoder(names: Iterable[str]) -> str:
    listed = set(names)
    for sign, kind in (
        ("encoder.block.0.layer.0.SelfAttention.q.weight", "T5"),
        ("enc.blk.0.attn_q.weight", "T5"),
        ("text_model.encoder.layers.0.self_attn.q_proj.weight", "CLIP"),
        ("encoder.layers.0.self_attn.q_proj.weight", "CLIP"),
        ("transformer.resblocks.0.attn.in_proj_weight", "OpenCLIP"),
        ("model.layers.0.self_attn.q_proj.weight", "language model"),
        ("model.language_model.layers.0.self_attn.q_proj.weight", "language model"),
        ("language_model.model.layers.0.self_attn.q_proj.weight", "language model"),
        ("blk.0.attn_q.weight", "language model"),
    ):
        if sign in listed:
            return kind
    return ""


def lycoris(names: Iterable[str]) -> str:
    """The kind of a LoRA that is none in the plain sense; empty for a plain one."""
    for name in names:
        for sign, kind in _LYCORIS.items():
            if name.endswith(f".{sign}"):
                return kind
    return ""


# Of what trainers write about the model that they began with; the first that fits.
_SAID = (
    ("flux-2", "Flux2Pipeline"), ("flux2", "Flux2Pipeline"), ("flux", "FluxPipeline"),
    ("sdxl", "StableDiffusionXLPipeline"), ("stable-diffusion-xl", "StableDiffusionXLPipeline"),
    ("sd3", "StableDiffusion3Pipeline"), ("stable-diffusion-3", "StableDiffusion3Pipeline"),
    ("qwen", "QwenImagePipeline"), ("z_image", "ZImagePipeline"), ("z-image", "ZImagePipeline"),
    ("chroma", "ChromaPipeline"), ("lumina", "Lumina2Pipeline"), ("sd_v", "StableDiffusionPipeline"),
    ("stable-diffusion-v", "StableDiffusionPipeline"),
)  # fmt: skip


def lora_family(header: Header) -> str | None:
    """The family whose network a LoRA is for, by what its trainer says and by the names of layers; None: not told."""
    said = " ".join(header.metadata.get(key, "") for key in ("modelspec.architecture", "ss_base_model_version")).lower()
    for word, family in _SAID:
        if word in said:
            return family
    names = header.tensors.keys()
    if any("single_transformer_blocks" in name or "single_blocks" in name for name in names):
        return "FluxPipeline"
    if any("lora_te2_" in name or "text_encoder_2." in name for name in names):
        return "StableDiffusionXLPipeline"
    widths = {
        each.shape[-1]
        for name, each in header.tensors.items()
        if re.search(r"attn2[._]to_[kv].*(lora_down|lora_A|lora\.down)", name) and len(each.shape) == 2
    }
    if widths:
        return "StableDiffusionXLPipeline" if 2048 in widths else "StableDiffusionPipeline"
    return None


def lora_rank(header: Header) -> int | None:
    """The largest rank of its layers."""
    ranks = [
        each.shape[0] for name, each in header.tensors.items()
        if re.search(r"lora_down|lora_A|lora\.down|hada_w1_b|lokr_w1_b", name) and each.shape
    ]  # fmt: skip
    return max(ranks, default=None)


def embedding(header: Header) -> Mapping[str, tuple[int, int]]:
    """The vectors of a textual inversion, how many and how wide, by their key; empty where it is none."""
    tensors = header.tensors
    if not 1 <= len(tensors) <= 2 or any(len(each.shape) not in (1, 2) for each in tensors.values()):
        return {}
    keys = set(tensors)
    if not keys <= {"clip_l", "clip_g"} and keys != {"emb_params"} and not (len(keys) == 1 and _is_token(*keys)):
        return {}
    return {
        key: (1 if len(each.shape) == 1 else each.shape[0], each.shape[-1]) for key, each in sorted(tensors.items())
    }


def _is_token(key: str) -> bool:
    return "." not in key and not key.endswith(("weight", "bias"))


def prediction(file: File) -> dict[str, object]:
    """What a file of Stable Diffusion says of its scheduler, as A1111 and ComfyUI read it: keys without a weight's
    meaning, "v_pred" and "ztsnr", or its trainer's metadata.
    """
    names, said = file.header.tensors.keys(), file.header.metadata
    spoken = " ".join(
        said.get(key, "") for key in ("modelspec.prediction_type", "ss_v_parameterization", "prediction_type")
    ).lower()
    found = dict[str, object]()
    if "v_pred" in names or spoken.split()[:1] in (["v"], ["true"], ["v_prediction"], ["v-prediction"]):
        found["prediction_type"] = "v_prediction"
    zero = said.get("ss_zero_terminal_snr", "").lower() == "true"
    if "ztsnr" in names or zero:
        found |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return found
