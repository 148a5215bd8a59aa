"""Files that people have beside models, given as one: each is one sentence, by its header, and nothing is loaded."""

import pytest

from ledits.backbones import load
from ledits.cli import main
from test_single_files import _ATTENTION, FILES, claimed

SD, XL, FLUX = FILES["SD 1"][0], FILES["SDXL"][0], FILES["FLUX.1"][0]
_FIRST, _LABEL = "input_blocks.0.0.weight", "label_emb.0.0.weight"
VAE = {"encoder.conv_in.weight": (128, 3, 3, 3), "decoder.conv_out.weight": (3, 128, 3, 3)}
LORA = {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": (4, 320)}


def whole(shapes):
    """Within a file that has an autoencoder too."""
    return {f"model.diffusion_model.{name}": shape for name, shape in shapes.items()} | {"first_stage_model.a": (1,)}


def network(shapes):
    return {f"model.diffusion_model.{name}": shape for name, shape in shapes.items()}


ODD = {
    "SD for inpainting": (whole({**SD, _FIRST: (320, 9, 3, 3)}), "an inpainting model"),
    "SD for inpainting, its network": (network({**SD, _FIRST: (320, 9, 3, 3)}), "an inpainting model"),
    "SDXL for inpainting": (whole({**XL, _FIRST: (320, 9, 3, 3)}), "an inpainting model"),
    "InstructPix2Pix": (whole({**SD, _FIRST: (320, 8, 3, 3)}), "a model for instructions"),
    "SD 2 for depth": (whole({**FILES["SD 2"][0], _FIRST: (320, 5, 3, 3)}), "a model for depth"),
    "SD's upscaler": (whole({**FILES["SD 2"][0], _FIRST: (256, 7, 3, 3)}), "an upscaler"),
    "SDXL's refiner": (whole({**XL, _LABEL: (1536, 2560)}), "SDXL's refiner"),
    "SDXL's refiner, its network": (network({**XL, _LABEL: (1536, 2560)}), "SDXL's refiner"),
    "SD 2 for pictures (unCLIP)": (whole({**XL, _LABEL: (1280, 2048)}), "unCLIP"),
    "SD of another width": (whole({**SD, _ATTENTION: (320, 512)}), "of another kind"),
    "Playground's EDM": (whole(XL) | {"edm_mean": (4,), "edm_std": (4,)}, "one of EDM"),
    "SVD": (
        whole({**SD, "input_blocks.1.1.time_stack.0.attn1.to_q.weight": (320, 320), _FIRST: (320, 8, 3, 3)}),
        "Stable Video Diffusion",
    ),
    "AnimateDiff": ({"down_blocks.0.motion_modules.0.temporal_transformer.norm.weight": (320,)}, "AnimateDiff"),
    "Wan": ({"head.modulation": (1, 2, 1536), "blocks.0.self_attn.q.weight": (1536, 1536)}, "a model of videos"),
    "ControlNet, SD's": ({"control_model.input_blocks.0.0.weight": (320, 4, 3, 3)}, "a ControlNet"),
    "ControlNet, diffusers'": ({"controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3)}, "a ControlNet"),
    "ControlNet, FLUX's": ({**FLUX, "controlnet_blocks.0.weight": (3072, 3072)}, "a ControlNet"),
    "T2I-Adapter": ({"adapter.body.0.resnets.0.block1.weight": (320, 320, 3, 3)}, "a T2I-Adapter"),
    "IP-Adapter": ({"image_proj.proj.weight": (3072, 1024), "ip_adapter.1.to_k_ip.weight": (320, 768)}, "IP-Adapter"),
    "CLIP for pictures": ({"vision_model.embeddings.class_embedding": (1024,)}, "an encoder of pictures"),
    "a safety checker": ({"concept_embeds": (17, 768), "special_care_embeds": (3, 768)}, "a safety checker"),
    "ESRGAN": ({"conv_first.weight": (64, 3, 3, 3), "body.0.rdb1.conv1.weight": (32, 64, 3, 3)}, "ESRGAN"),
    "ESRGAN, older": ({"model.1.sub.0.RDB1.conv1.0.weight": (32, 64, 3, 3)}, "ESRGAN"),
    "FLUX Fill": ({**FLUX, "img_in.weight": (3072, 384)}, "FLUX Fill, an inpainting model"),
    "FLUX for depth": ({**FLUX, "img_in.weight": (3072, 128)}, "FLUX for edges or depth"),
    "FLUX alone": ({**FLUX, "img_in.weight": (3072, 64)}, "network of a FluxPipeline alone: give a folder"),
    "an autoencoder": (VAE, "is a vae and no model: give it as vae"),
    "a tiny autoencoder": ({"decoder.1.weight": (64, 4, 3, 3)}, "is a tiny vae and no model: give it as tiny_vae"),
    "CLIP": (
        {"text_model.encoder.layers.0.self_attn.q_proj.weight": (768, 768)},
        "is a text encoder and no model: give it as text_encoder",
    ),
    "T5": (
        {"encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096)},
        "is a text encoder and no model: give it as text_encoder",
    ),
    "a LoRA": (LORA, "is a lora and no model: give it as lora"),
    "a LyCORIS": ({"lora_unet_x.lokr_w1": (4, 4)}, "is a lora and no model: give it as lora"),
    "an embedding": ({"emb_params": (2, 768)}, "is an embedding and no model: give it as embedding"),
    "nothing known": ({"what.weight": (2, 2)}, "of a kind that is not known here; its tensors are what.weight"),
    "nothing at all": ({}, "of a kind that is not known here|holds no tensors"),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_file_given_as_a_model_is_one_sentence(tmp_path, kind, capsys):
    shapes, says = ODD[kind]
    path = claimed(tmp_path / "odd.safetensors", shapes)
    with pytest.raises(ValueError, match=says) as error:
        load(str(path), device="cpu")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400
    # `info` says the same, or what the file is for.
    with pytest.raises(SystemExit):
        main(["info", str(path)])
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err


@pytest.mark.parametrize("given", ["lora", "embedding", "vae", "tiny_vae", "text_encoder"])
@pytest.mark.parametrize(
    "kind", ["SD for inpainting", "FLUX alone", "an autoencoder", "a LoRA", "an embedding", "CLIP"]
)
def test_an_odd_file_given_as_an_addition_is_one_sentence(tmp_path, kind, given):
    """Whatever is given where something else is wanted."""
    fits = {"lora": "a LoRA", "embedding": "an embedding", "vae": "an autoencoder", "text_encoder": "CLIP"}
    path = claimed(tmp_path / "odd.safetensors", ODD[kind][0])
    value = str(path) if "vae" in given else [f"{path}:word" if given == "embedding" else str(path)]
    with pytest.raises(ValueError, match=r"odd\.safetensors") as error:
        load("scenes", device="cpu", dtype="float32", **{given: value})
    assert "\n" not in str(error.value)
    if fits.get(given) != kind:
        assert " is a" in str(error.value), error.value
