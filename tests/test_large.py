"""Models that are larger than memory: variants, offloading, one file of a transformer, quantised weights."""

import gc
import shutil
import weakref
from functools import partial

import pytest
import torch
from accelerate.hooks import CpuOffload
from safetensors.torch import save_file

import tiny_families
from ledits.backbones import from_pipe, hub, load
from ledits.method import core

from conftest import asked_again, relative

LISTED = [
    "README.md", "model_index.json", "sd3_medium.safetensors", "demo.png",
    "scheduler/scheduler_config.json", "tokenizer/vocab.json", "tokenizer/merges.txt", "tokenizer_3/spiece.model",
    "transformer/config.json", "transformer/diffusion_pytorch_model.safetensors",
    "transformer/diffusion_pytorch_model.fp16.safetensors", "transformer/diffusion_pytorch_model.bin",
    "text_encoder/config.json", "text_encoder/model.bf16.safetensors",
    "text_encoder_3/model-00001-of-00002.safetensors", "text_encoder_3/model-00002-of-00002.safetensors",
    "text_encoder_3/model.safetensors.index.json", "text_encoder_3/model.fp16-00001-of-00002.safetensors",
    "text_encoder_3/model.fp16-00002-of-00002.safetensors", "text_encoder_3/model.safetensors.index.fp16.json",
    "vae/config.json", "vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.non_ema.safetensors",
    "vae_decoder/model.onnx", "transformer/old/diffusion_pytorch_model.safetensors",
]  # fmt: skip


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_of_each_part_one_kind_of_weights_is_downloaded(variant):
    found = hub.wanted(LISTED, hub.preferred(torch.float32, variant))
    name = ".fp16" if variant else ""
    assert [file for file in found if ".safetensors" in file] == [
        "text_encoder/model.bf16.safetensors",
        *(f"text_encoder_3/model{name}-0000{k}-of-00002.safetensors" for k in (1, 2)),
        f"text_encoder_3/model.safetensors.index{name}.json",
        f"transformer/diffusion_pytorch_model{name}.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    assert {"model_index.json", "tokenizer_3/spiece.model", "tokenizer/merges.txt", "vae/config.json"} <= set(found)
    assert not any(file.endswith((".bin", ".md", ".png", ".onnx")) or "sd3_medium" in file for file in found)
    without = hub.wanted(LISTED, hub.preferred(torch.float32, variant), without=["transformer"])
    assert [file for file in found if file not in without] == [f"transformer/diffusion_pytorch_model{name}.safetensors"]


def test_only_what_is_needed_is_asked_of_the_hub(monkeypatch, folder):
    """A fake hub, and no network."""
    asked = []

    def snapshot_download(repository, **options):
        asked.append(options)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr("ledits.backbones.hub.listed", lambda name, revision: LISTED)
    with pytest.raises(ValueError, match="no weights of variant 'fp16'"):  # what came has none
        load("owner/name", device="cpu", variant="fp16")
    assert not any("safetensors" in file for file in asked[-2]["allow_patterns"])  # settings first
    assert "transformer/diffusion_pytorch_model.fp16.safetensors" in asked[-1]["allow_patterns"]
    assert "transformer/diffusion_pytorch_model.safetensors" not in asked[-1]["allow_patterns"]

    def unreachable(name, revision):
        raise ConnectionError

    monkeypatch.setattr("ledits.backbones.hub.listed", unreachable)
    load("owner/name", device="cpu")
    assert asked[-1]["local_files_only"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """FLUX.1's layout."""
    path = tmp_path_factory.mktemp("large") / "flux"
    tiny_families.make("flux").save_pretrained(path)
    return path


def seen(backbone):
    """What the network makes of noise, and of a picture by way of it."""
    x = torch.randn(1, 1, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    schedule = backbone.schedule(2, 0.3, 32, 32)
    with backbone.denoiser(schedule, maps=True) as denoise:
        found, maps = denoise(x, [1], ["a cat"])
        inversion = core.invert(denoise, schedule, x[0], torch.randn(2, *x[0].shape))
        last = asked_again(denoise, inversion)
    assert maps.isfinite().all()
    assert torch.equal(last, x[0])  # exact, whatever the network is made of
    return torch.cat([found.flatten(), backbone.decode(backbone.encode(torch.zeros(1, 3, 32, 32))).flatten()])


@pytest.fixture(scope="module")
def expected(folder):
    return seen(load(str(folder), device="cpu"))


@pytest.mark.parametrize("offload", ["model", "group"])
def test_offloaded_parts_give_the_same_numbers(folder, expected, offload):
    """With the CPU in an accelerator's place: the hooks run, and nothing moves."""
    backbone = load(str(folder), device="cpu", offload=offload)
    hooks = ("_hf_hook", "_diffusers_hook")
    parts = [list(part.modules()) for part in (backbone.net, backbone.codec.vae)]
    hooked = [any(hasattr(module, hook) for module in part for hook in hooks) for part in parts]
    assert hooked == [True, offload == "model"]
    assert relative(seen(backbone), expected) < 1e-5


def test_offloading_on_a_cpu_copies_nothing(folder):
    backbone = load(str(folder), device="cpu", offload="model")
    parts = (backbone.prompts.t5[1], backbone.net, backbone.codec.vae)
    before = [p.data_ptr() for part in parts for p in part.parameters()]
    seen(backbone)
    assert [p.data_ptr() for part in parts for p in part.parameters()] == before


def test_language_models_and_the_network_are_never_on_the_device_together(folder, monkeypatch):
    """With a set in the device's place: accelerate's hooks, which move parts, have two methods that do it there."""
    there, together = set(), []
    backbone = load(str(folder), device="cpu", offload="model")
    encoder, net = backbone.prompts.t5[1], backbone.net

    def pre_forward(hook, module, *inputs, **named):
        if hook.prev_module_hook is not None:
            there.discard(hook.prev_module_hook.model)
        there.add(module)
        together.append({encoder, net, backbone.prompts.clip[1]} & there)
        return inputs, named

    monkeypatch.setattr(CpuOffload, "pre_forward", pre_forward)
    monkeypatch.setattr(CpuOffload, "init_hook", lambda hook, module: there.discard(module))
    for _ in range(2):  # the second time the network has run already
        seen(backbone)
    assert {encoder} in together
    assert {net} in together
    assert max(map(len, together)) == 1


@pytest.mark.parametrize("offload", [None, "model", "group"])
def test_a_model_that_is_dropped_leaves_memory(folder, offload):
    backbone = load(str(folder), device="cpu", offload=offload)
    seen(backbone)
    parts = (backbone.prompts.t5[1], backbone.net, backbone.codec.vae)
    kept = [weakref.ref(p) for part in parts for p in part.parameters()]
    del backbone, parts
    gc.collect()
    assert not any(each() is not None for each in kept)


def test_a_pixel_network_has_no_autoencoder_to_offload(tmp_path):
    tiny_families.make("deepfloyd_if").save_pretrained(tmp_path / "if")
    backbone = load(str(tmp_path / "if"), device="cpu", offload="group")
    x = torch.zeros(1, 1, 3, 32, 32)
    with backbone.denoiser(backbone.schedule(2, 0.15), maps=False) as denoise:
        assert denoise(x, [1], ["a cat"])[0].isfinite().all()


def test_a_variant_is_read_and_is_part_of_the_fingerprint(folder, expected, tmp_path):
    path = shutil.copytree(folder, tmp_path / "both")
    pipe = tiny_families.make("flux")
    with torch.no_grad():
        pipe.transformer.x_embedder.weight.mul_(2)
    pipe.transformer.save_pretrained(path / "transformer", variant="fp16")
    plain, other = load(str(path), device="cpu"), load(str(path), device="cpu", variant="fp16")
    assert torch.equal(plain.net.x_embedder.weight * 2, other.net.x_embedder.weight)
    assert plain.fingerprint != other.fingerprint
    (path / "transformer/diffusion_pytorch_model.safetensors").unlink()
    alone = load(str(path), device="cpu")  # where there is no other, it needs no name
    assert torch.equal(alone.net.x_embedder.weight, other.net.x_embedder.weight)


def test_one_part_may_have_its_weights_in_another_kind_alone(folder, expected, tmp_path):
    path = shutil.copytree(folder, tmp_path / "mixed")
    weights = path / "text_encoder_2/model.safetensors"
    weights.rename(weights.with_name("model.bf16.safetensors"))
    parts = ("text_encoder_2", "vae")
    assert hub.kinds({part: folder / part for part in parts}, parts, [""]) == {"text_encoder_2": None, "vae": None}
    assert hub.kinds({part: path / part for part in parts}, parts, [""]) == {"text_encoder_2": "bf16", "vae": None}
    assert relative(seen(load(str(path), device="cpu")), expected) < 1e-6


def test_a_transformer_is_read_from_one_file(folder, expected, tmp_path):
    without = shutil.copytree(folder, tmp_path / "without")
    weights = without / "transformer/diffusion_pytorch_model.safetensors"
    shutil.move(weights, tmp_path / "mine.safetensors")
    backbone = load(str(without), device="cpu", transformer=tmp_path / "mine.safetensors")
    assert relative(seen(backbone), expected) < 1e-6
    assert backbone.fingerprint != load(str(folder), device="cpu").fingerprint


def test_a_transformer_is_read_from_a_gguf_file(folder, expected, tmp_path):
    gguf = pytest.importorskip("gguf")
    file = tmp_path / "mine.gguf"
    writer = gguf.GGUFWriter(str(file), "flux")
    eight = gguf.GGMLQuantizationType.Q8_0
    for name, value in tiny_families.make("flux").transformer.state_dict().items():
        array = value.float().numpy()
        if array.ndim == 2 and array.shape[1] % 32 == 0:
            writer.add_tensor(name, gguf.quants.quantize(array, eight), raw_dtype=eight)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    backbone = load(str(folder), device="cpu", transformer=file)
    assert any(type(p).__name__ == "GGUFParameter" for p in backbone.net.parameters())
    assert 1e-6 < relative(seen(backbone), expected) < 0.05


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_weights_are_quantised_while_they_are_read(folder, expected, kind):
    pytest.importorskip("torchao")
    backbone = load(str(folder), device="cpu", quantize=kind)
    assert any("8" in type(p.data).__name__ for p in backbone.net.parameters())
    assert 1e-6 < relative(seen(backbone), expected) < 0.1


def test_a_pipelines_quantised_part_stays_as_it_is(folder, expected):
    ao = pytest.importorskip("torchao.quantization")
    pipe = tiny_families.make("flux")
    ao.quantize_(pipe.transformer, ao.Int8WeightOnlyConfig())
    kinds = [type(p.data) for p in pipe.transformer.parameters()]
    backbone = from_pipe(pipe)
    assert 1e-6 < relative(seen(backbone), expected) < 0.1
    assert [type(p.data) for p in pipe.transformer.parameters()] == kinds


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"offload": "disk"}, "model, group, sequential are accepted"),
        ({"offload": "sequential"}, "accelerator"),
        ({"quantize": "int2"}, "int8, fp8, nf4 are accepted"),
        ({"quantize": "nf4"}, "CUDA"),
        ({"transformer": "nowhere.gguf"}, "file is needed"),
        ({"transformer": __file__}, "file is needed"),
    ],
)
def test_options_that_can_not_be_had_are_one_sentence(folder, given, says):
    with pytest.raises(ValueError, match=says):
        load(str(folder), device="cpu", **given)


@pytest.mark.parametrize(("package", "given"), [("torchao", {"quantize": "int8"}), ("gguf", {"transformer": "x.gguf"})])
def test_a_missing_package_is_named(folder, monkeypatch, tmp_path, package, given):
    (tmp_path / "x.gguf").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=f"pip install {package}"):
        load(str(folder), device="cpu", **given)


def test_a_broken_file_of_a_transformer_is_one_sentence(folder, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="broken"):
        load(str(folder), device="cpu", transformer=tmp_path / "x.safetensors")
    save_file({"odd.weight": torch.zeros(2)}, tmp_path / "odd.safetensors")
    with pytest.raises(ValueError, match="broken"):
        load(str(folder), device="cpu", transformer=tmp_path / "odd.safetensors")


def test_longer_texts_are_counted_where_batches_are_sized(folder):
    backbone, x = load(str(folder), device="cpu"), torch.zeros(1, 1, 4, 16, 16)
    need = partial(backbone.row_bytes, x)
    assert need(512) - need(256) == need(256) - need(0) > 0
    assert need(0) == 24 * 32 * 64 * 4  # 24 numbers of 4 bytes for each of 32 channels and 64 tokens
