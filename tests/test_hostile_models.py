"""Models are data (audit D1, A3, B2, D15): folders that would run code, take all memory, or leave tensors to chance.

Each is one sentence, in no time, and nothing of it has run.
"""

import json
import os
import shutil
import struct

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

import tiny_families
from ledits.backbones import load
from ledits.cli import main
from ledits.files import checkpoints

from conftest import SCHEDULER, random_parts

CODE = "import pathlib\npathlib.Path('RAN').write_text('')\nclass Mine: pass\n"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "tiny"
    StableDiffusionPipeline(
        **random_parts(), scheduler=DDIMScheduler(**SCHEDULER), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def sd3(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "sd3"
    tiny_families.make("sd3").save_pretrained(folder)
    return folder


@pytest.fixture
def folder(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Somebody who says yes to everything that he is asked.
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    return shutil.copytree(checkpoint, tmp_path / "model")


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(folder, says):
    with pytest.raises(ValueError, match=says) as error:
        load(str(folder), device="cpu")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    assert not os.path.exists("RAN")
    assert torch.get_default_dtype() == torch.float32  # a load that stops half way left it as it was


def auto_model(folder):
    """Asked for Python of the folder's own, transformers asks y or n."""
    rewrite(folder / "model_index.json", text_encoder=["transformers", "AutoModel"])
    rewrite(folder / "text_encoder/config.json", auto_map={"AutoModel": "mine.Mine"}, model_type="mine")
    (folder / "text_encoder/mine.py").write_text(CODE)


def own_pipeline(folder):
    rewrite(folder / "model_index.json", _class_name=["mine", "MyPipeline"])
    (folder / "mine.py").write_text(CODE)


def own_part(folder):
    rewrite(folder / "model_index.json", unet=["mine", "MyUNet"])
    (folder / "unet/mine.py").write_text(CODE)


def in_config(part, **changes):
    return lambda folder: rewrite(folder / part, **changes)


def pickled(folder):
    torch.save({}, folder / "text_encoder/pytorch_model.bin")
    (folder / "text_encoder/model.safetensors").unlink()


def pickled_shard(folder):
    torch.save(load_file(folder / "unet/diffusion_pytorch_model.safetensors"), folder / "unet/part.bin")
    names = load_file(folder / "unet/diffusion_pytorch_model.safetensors")
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "part.bin")}
    (folder / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


def shard_elsewhere(folder):
    index = {"metadata": {}, "weight_map": {"a": "../../etc/secret.safetensors"}}
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    (folder / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


def drop(part, name):
    def change(folder):
        path = next((folder / part).glob("*.safetensors"))
        tensors = load_file(path)
        save_file({key: each for key, each in tensors.items() if name not in key}, path, {"format": "pt"})

    return change


def more(part):
    def change(folder):
        path = next((folder / part).glob("*.safetensors"))
        save_file(load_file(path) | {"odd.weight": torch.zeros(2)}, path, {"format": "pt"})

    return change


def pipe_for_config(folder):
    (folder / "unet/config.json").unlink()
    os.mkfifo(folder / "unet/config.json")


def nested(folder):
    (folder / "unet/config.json").write_text('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}")


def long_number(folder):
    (folder / "unet/config.json").write_text('{"sample_size": ' + "9" * 5000 + "}")


def claims_all_memory(folder):
    """A header that says that its tensors are larger than the file."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)


HOSTILE = {
    "a text encoder by AutoModel": (auto_model, "a 'transformers.AutoModel' as its text_encoder"),
    "a pipeline of its own": (own_pipeline, "checkpoints of"),
    "a network of its own": (own_part, "'mine.MyUNet' as its unet"),
    "a library that is no model's": (
        in_config("model_index.json", text_encoder=["os", "CLIPTextModel"]),
        "'os.CLIPTextModel'",
    ),
    "a class that is no text": (in_config("model_index.json", vae=["diffusers", 5]), "and no class"),
    "a class of another part": (
        in_config("model_index.json", vae=["diffusers", "UNet2DConditionModel"]),
        "where a AutoencoderKL or",
    ),
    "a part that is missing": (in_config("model_index.json", tokenizer=[None, None]), "incomplete"),
    "a custom pipeline": (in_config("model_index.json", custom_pipeline="owner/code"), "names code of its own"),
    "code of a config that is ours": (
        in_config("text_encoder/config.json", auto_map={"AutoModel": "mine.Mine"}),
        "names code of its own",
    ),
    "code of a tokenizer": (
        in_config("tokenizer/tokenizer_config.json", auto_map={"AutoTokenizer": ["mine.Mine", None]}),
        "code of its own",
    ),
    "code deep inside": (
        in_config("text_encoder/config.json", text_config={"auto_map": {"AutoConfig": "owner/code--mine.Mine"}}),
        "code of its own",
    ),
    "a kernel of the hub": (
        in_config("text_encoder/config.json", _attn_implementation="kernels-community/flash-attn"),
        "names a kernel",
    ),
    "a kernel by its version": (
        in_config("text_encoder/config.json", attn_implementation="a/b@main:fn"),
        "names a kernel",
    ),
    "kernels asked for": (in_config("text_encoder/config.json", use_kernels=True), "code of its own"),
    "a quantiser that reads pickles": (
        in_config("unet/config.json", quantization_config={"quant_method": "torchao"}),
        "quantised by 'torchao'",
    ),
    "a quantiser of its own": (
        in_config("unet/config.json", quantization_config={"quant_method": "mine.Mine"}),
        "quantised by",
    ),
    "weights in a pickle": (pickled, "only as a pickle"),
    "a pickle among its shards": (pickled_shard, "safetensors files beside it"),
    "a shard in another folder": (shard_elsewhere, "safetensors files beside it"),
    "ten million channels": (in_config("unet/config.json", block_out_channels=[10**7, 10**7]), "block_out_channels of"),
    "ten million layers": (in_config("text_encoder/config.json", num_hidden_layers=10**7), "num_hidden_layers of"),
    "more layers than weights": (in_config("text_encoder/config.json", num_hidden_layers=500), "asks for .* numbers"),
    "wider layers than weights": (
        in_config("text_encoder/config.json", intermediate_size=10**6),
        "asks for .* numbers",
    ),
    "a table of all positions": (in_config("unet/config.json", sample_size=10**9), "sample_size of"),
    "a hundred thousand layers a block": (in_config("unet/config.json", layers_per_block=10**5), "layers_per_block of"),
    "a list without an end": (in_config("unet/config.json", block_out_channels=[16] * 10**5), "a list of 100000"),
    "all times of all clocks": (
        in_config("scheduler/scheduler_config.json", num_train_timesteps=10**12),
        "num_train_timesteps of",
    ),
    "betas that are words": (in_config("scheduler/scheduler_config.json", beta_end="x"), "broken"),
    "a prediction that is unknown": (
        in_config("scheduler/scheduler_config.json", prediction_type="../x"),
        "it predicts",
    ),
    "EDM": (in_config("scheduler/scheduler_config.json", _class_name="EDMEulerScheduler"), "one of EDM"),
    "channels that are words": (in_config("unet/config.json", block_out_channels=["a", "b"]), "broken"),
    "an activation that is unknown": (in_config("unet/config.json", act_fn="__import__('os')"), "broken"),
    "an inpainting UNet": (in_config("unet/config.json", in_channels=9), "an inpainting model"),
    "a named pipe": (pipe_for_config, "is no file"),
    "a nesting without an end": (nested, "nested too deep"),
    "a number of 5000 digits": (long_number, "can't be read"),
    "a header that lies": (claims_all_memory, "was cut off"),
    "a text encoder without a layer": (drop("text_encoder", "q_proj"), "text_encoder lacks"),
    "a UNet without a layer": (drop("unet", "attn2.to_q"), "unet lacks"),
    "an autoencoder without a layer": (drop("vae", "conv_out"), "vae lacks"),
    "a tensor too many in the UNet": (more("unet"), "odd.weight"),
    "a tensor too many in the autoencoder": (more("vae"), "odd.weight"),
    "a tensor too many in the text encoder": (more("text_encoder"), "odd.weight"),
}
OWN = {
    "defaults that are none": ({"defaults": None}, "has defaults None"),
    "steps that are text": ({"defaults": {"steps": "25"}}, "has steps 25"),
    "steps without an end": ({"defaults": {"steps": 10**9}}, "asks for a steps of"),
    "half a step": ({"defaults": {"steps": 2.5}}, "whole number"),
    "a scale that is no number": ({"defaults": {"add_scale": float("nan")}}, "has add_scale nan"),
    "a default of no name": ({"defaults": {"speed": 3}}, "'speed', which nothing is known by"),
    "a map scale of nothing": ({"map_scale": 0}, "has map_scale 0"),
    "blocks that are no list": ({"map_blocks": 5}, "map_blocks"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_folder_is_one_sentence(folder, kind):
    change, says = HOSTILE[kind]
    change(folder)
    refused(folder, says)


@pytest.mark.parametrize("kind", OWN)
def test_settings_of_its_own_that_can_not_be_meant_are_one_sentence(folder, kind):
    said, says = OWN[kind]
    (folder / "ledits.json").write_text(json.dumps(said))
    refused(folder, says)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"pos_embed_max_size": 10**6}, "pos_embed_max_size of"),
        ({"num_layers": 10**6}, "num_layers of"),
        ({"dual_attention_layers": list(range(10**5))}, "a list of"),
    ],
)
def test_a_transformer_asks_for_no_more_than_it_has(sd3, tmp_path, changes, says):
    folder = shutil.copytree(sd3, tmp_path / "sd3")
    rewrite(folder / "transformer/config.json", **changes)
    refused(folder, says)


def test_a_tokenizer_does_not_choose_its_class(folder):
    """Whatever it calls itself, it is read as the table says."""
    rewrite(folder / "tokenizer/tokenizer_config.json", tokenizer_class="MyTokenizer")
    assert type(load(str(folder), device="cpu").prompts.tokenizer).__name__.startswith("CLIPTokenizer")


def test_the_command_line_says_it_before_torch_is_loaded(folder, capsys, tmp_path):
    auto_model(folder)
    with pytest.raises(SystemExit) as exit:
        main(["edit", "x.png", "+cat", "--model", str(folder)])
    assert exit.value.code == 2
    assert "AutoModel" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit:
        main(["info", str(folder)])
    assert exit.value.code == 0
    assert "edits: no: model" in capsys.readouterr().out


def test_a_whole_folder_is_read_as_it_is(checkpoint):
    said = checkpoints.examine(checkpoint, "tiny")
    assert said.parts == ["unet", "vae", "text_encoder", "tokenizer"]
    load(str(checkpoint), device="cpu")
