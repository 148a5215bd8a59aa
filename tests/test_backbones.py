"""One contract for every model family, and checkpoints as they lie on disk and on the hub."""

import contextlib
import json
import shutil
import socket
import threading

import huggingface_hub
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

from ledits.backbones import fingerprint, hub, load, reading
from ledits.method import core
from ledits.testing import ToyBackbone

from conftest import BUNDLED_FOLDER, SCHEDULER, asked_again, random_parts, random_xl_parts, relative


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A Stable Diffusion checkpoint of random weights in the real layout; tests copy it before they break it."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    StableDiffusionPipeline(
        **random_parts(), scheduler=DDIMScheduler(**SCHEDULER, prediction_type="v_prediction"),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    (folder / "ledits.json").write_text(json.dumps({"map_scale": 2, "defaults": {"steps": 7}}))
    return folder


@pytest.fixture(scope="module")
def xl_checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny-xl"
    StableDiffusionXLPipeline(
        **random_xl_parts(), scheduler=DDIMScheduler(**SCHEDULER), add_watermarker=False
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture
def broken(checkpoint, tmp_path):
    return shutil.copytree(checkpoint, tmp_path / "broken")


@pytest.fixture(params=["bundled", "sd", "sdxl", "toy"])
def backbone(request, checkpoint, xl_checkpoint):
    if request.param == "toy":
        return ToyBackbone()
    return load(
        {"bundled": "scenes", "sd": str(checkpoint), "sdxl": str(xl_checkpoint)}[request.param],
        device="cpu",
        dtype="float32",
    )


def images(b: int, h: int, w: int) -> torch.Tensor:
    return torch.rand(b, 3, h, w, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_contract_latents(backbone):
    """Encoding and decoding keep the batch and the picture's shape; each picture's latents are its own."""
    m = backbone.multiple
    pictures = images(2, 2 * m, 3 * m)
    x = backbone.encode(pictures)
    assert x.dtype == torch.float32
    assert backbone.decode(x).shape == pictures.shape
    assert backbone.decode(x).abs().max() <= 1
    assert torch.allclose(backbone.encode(pictures[1:]), x[1:], atol=1e-4)


def test_contract_denoiser(backbone):
    """Clean pictures and maps (p l b ...), one evaluation a row, each row by its own level, picture and prompt."""
    schedule = backbone.schedule(4, 0.15)
    x = torch.stack([backbone.encode(images(2, backbone.multiple, 2 * backbone.multiple))] * 3)
    with backbone.denoiser(schedule, maps=True) as denoise:
        x0, maps = denoise(x, [0, 2, 3], ["", "a cat", ("a dog", "a star")])
        assert denoise.evaluations == 18
        assert x0.shape == (3, *x.shape)
        assert maps.shape[:3] == (3, 3, 2)
        assert maps[0].max() == 0
        assert 0 < maps[1].min() < maps[1].max() < 1
        one, one_map = denoise(x[2:, 1:], [3], ["a star"])
    assert torch.allclose(one[0, 0], x0[2, 2, 1:], atol=1e-4)
    assert torch.allclose(one_map[0, 0], maps[2, 2, 1:], atol=1e-5)
    assert not torch.allclose(x0[1], x0[2], atol=1e-4)
    with backbone.denoiser(schedule, maps=False) as denoise:
        assert denoise(x, [0, 2, 3], ["a cat"])[1] is None


def test_contract_words(backbone):
    """A prompt has a map where it has words and none where it has none, whatever the padding is: neither start, end nor
    padding count. Too long a prompt is refused.
    """
    schedule = backbone.schedule(2, 0.15)
    x = backbone.encode(images(1, backbone.multiple, backbone.multiple))[None]
    with torch.no_grad(), backbone.denoiser(schedule, maps=True) as denoise:
        _, maps = denoise(x, [0], ["", "cat", "a red heart"])
        assert maps[0].max() == 0
        # Attention over all tokens sums to 1: what start, end and padding get is missing.
        assert 0 < maps[1].mean() < maps[2].mean() < 1
        with pytest.raises(ValueError, match="shorten it"):
            denoise(x, [0], ["cat " * 2000])


def test_the_refiner_is_told_its_score(tmp_path):
    """What the network gets beside the text is what diffusers' own pipeline of the refiner tells it."""
    pipe = StableDiffusionXLImg2ImgPipeline(
        **random_xl_parts(refiner=True), scheduler=DDIMScheduler(**SCHEDULER), requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False, add_watermarker=False,
    )  # fmt: skip
    pipe.save_pretrained(tmp_path / "refiner")
    backbone = load(str(tmp_path / "refiner"), device="cpu", dtype="float32")
    text = backbone.prompts.embed("a cat")
    told = backbone.prompts.conditions([text, text], 64, 48)["time_ids"]
    theirs, _ = pipe._get_add_time_ids(
        (64, 48), (0, 0), (64, 48), 6.0, 2.5, (64, 48), (0, 0), (64, 48), torch.float32, text_encoder_projection_dim=16
    )
    assert torch.equal(told, theirs.expand(2, -1))
    picture = backbone.encode(images(1, backbone.multiple, backbone.multiple))
    schedule = backbone.schedule(3, 0.15)
    with backbone.denoiser(schedule, maps=True) as denoise:
        clean, maps = denoise(picture[None], [0], ["a cat"])
    assert clean.isfinite().all()
    assert maps.max() > 0


def test_prediction_types_mean_the_same_picture(random_model):
    """The same network output read as epsilon or v gives the x0 that (x, level) and output determine."""
    x = torch.randn(1, 1, 4, 16, 16)
    schedule = random_model().schedule(3, 0.15)
    alpha, sigma = schedule.alpha[1], schedule.sigma[1]
    found = {}
    for kind in ("epsilon", "v_prediction", "sample"):
        with random_model(kind).denoiser(schedule, maps=False) as denoise:
            found[kind] = denoise(x, [1], ["cat"])[0][0, 0]
    output = found["sample"]
    assert torch.allclose(found["epsilon"], (x[0] - sigma * output) / alpha, atol=1e-5)
    assert torch.allclose(found["v_prediction"], alpha * x[0] - sigma * output, atol=1e-5)
    with pytest.raises(ValueError, match="known"):
        random_model("flow")


def test_a_checkpoint_on_disk_says_what_it_is(checkpoint):
    backbone = load(str(checkpoint), device="cpu")
    assert backbone.prediction == "v_prediction"
    assert backbone.defaults.steps == 7
    assert backbone.map_scale == 2
    assert (backbone.multiple, backbone.area) == (8, 32 * 32)
    assert backbone.fingerprint == fingerprint(checkpoint) != load(device="cpu").fingerprint


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_networks(checkpoint, dtype):
    """The solver stays in fp32, and the picture is reached again within a half-precision network's noise."""
    backbone = load(str(checkpoint), device="cpu", dtype=dtype)
    schedule = backbone.schedule(5, 0.15)
    x0 = backbone.encode(images(1, 32, 32))
    assert x0.dtype == torch.float32
    with torch.inference_mode(), backbone.denoiser(schedule, maps=True) as denoise:
        inversion = core.invert(denoise, schedule, x0, torch.randn(5, *x0.shape))
        last = asked_again(denoise, inversion)
    assert ((last - x0).norm() / x0.norm()) < 5e-2


def test_the_bundled_model_loads_with_stock_diffusers(bundled):
    pipe = StableDiffusionPipeline.from_pretrained(BUNDLED_FOLDER, use_safetensors=True)
    pipe.set_progress_bar_config(disable=True)
    picture = pipe("a cat on a meadow", num_inference_steps=3, generator=torch.Generator().manual_seed(0)).images[0]
    assert picture.size == (128, 128)
    inputs = torch.randn(2, 16, 16, 16), torch.tensor([100.0, 900.0]), torch.randn(2, 24, 128)
    with torch.inference_mode():
        assert relative(bundled.unet(*inputs).sample, pipe.unet(*inputs).sample) < 1e-5


def test_bundled_weights_stay_small():
    assert sum(path.stat().st_size for path in BUNDLED_FOLDER.parent.rglob("*") if path.is_file()) < 60e6


def test_the_fingerprint_sees_weights_and_configs(broken):
    before = fingerprint(broken)
    weights = broken / "unet/diffusion_pytorch_model.safetensors"
    save_file({name: value + 1e-3 for name, value in load_file(weights).items()}, weights)
    changed = fingerprint(broken)
    config = broken / "scheduler/scheduler_config.json"
    config.write_text(config.read_text().replace("v_prediction", "epsilon"))
    assert len({before, changed, fingerprint(broken)}) == 3


def rewrite(path, change):
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


@pytest.mark.parametrize(
    ("breakage", "says"),
    [
        (lambda f: (f / "model_index.json").unlink(), "model_index.json"),
        (lambda f: (f / "model_index.json").write_text("{"), "can't be read"),
        (lambda f: (f / "model_index.json").write_text("[]"), "holds no object"),
        (lambda f: rewrite(f / "model_index.json", lambda v: v | {"_class_name": "LTXPipeline"}), "is a LTXPipeline"),
        (lambda f: shutil.rmtree(f / "unet"), "incomplete"),
        (lambda f: shutil.rmtree(f / "tokenizer"), "broken"),
        (lambda f: (f / "vae/diffusion_pytorch_model.safetensors").write_bytes(b"no weights"), "broken"),
        (lambda f: (f / "vae/config.json").write_text("{"), "broken"),
        (lambda f: (f / "scheduler/scheduler_config.json").unlink(), "broken"),
        (lambda f: rewrite(f / "scheduler/scheduler_config.json", lambda v: v | {"prediction_type": "odd"}), "odd"),
    ],
)
def test_a_broken_checkpoint_is_one_sentence(broken, breakage, says):
    breakage(broken)
    with pytest.raises(ValueError, match=says) as error:
        load(str(broken), device="cpu")
    assert "\n" not in str(error.value)


def test_pickles_are_never_opened(broken):
    weights = broken / "unet/diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(ValueError, match="only as a pickle"):
        load(str(broken), device="cpu")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("no/such/folder", "no such folder"),
        ("nothing", "no such folder"),
        ("/nowhere", "no such folder"),
        ("own er/na me", "a hub id has the form"),
    ],
)
def test_an_unknown_model_is_one_sentence(model, says):
    with pytest.raises(ValueError, match=says):
        load(model)


def test_a_file_that_is_no_model_is_one_sentence(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="no safetensors file"):
        load(str(tmp_path / "model.safetensors"))
    with pytest.raises(ValueError, match="name one of its files"):
        load(str(tmp_path))
    (tmp_path / "model.txt").write_bytes(b"")
    with pytest.raises(ValueError, match="file of another kind"):
        load(str(tmp_path / "model.txt"))


def test_the_hub_out_of_reach_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"neither a folder nor cached.*HF_HUB_OFFLINE"):
        load("owner/name")


@pytest.mark.parametrize("answers", [True, False], ids=["hangs up", "says nothing"])
@pytest.mark.parametrize(
    "ask", [load, hub.settings, lambda name: hub.one_file(name, None), lambda name: hub.one_file(name, "x.safetensors")]
)
def test_a_hub_that_can_not_be_reached_is_asked_once_and_then_told_of(monkeypatch, tmp_path, ask, answers):
    """Its own functions ask five times and wait in between: 23 s to know that there is no network."""
    asked = []

    def listen():
        with contextlib.suppress(OSError):  # closed
            while True:
                asked.append(there.accept()[0])
                if answers:
                    asked[-1].close()

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for name in ("reset_sessions", "close_session"):  # by its version; one that was made offline stays so
        getattr(huggingface_hub.utils._http, name, lambda: None)()
    monkeypatch.setattr(hub, "_PATIENCE", 0.5)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as there:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{there.getsockname()[1]}")
        listening = threading.Thread(target=listen)
        listening.start()
        with pytest.raises(
            ValueError, match=r"'owner/name' is neither a (folder|file) nor cached, and the hub .*reach"
        ):
            ask("owner/name")
        there.shutdown(socket.SHUT_RDWR)
        listening.join()
    for connection in asked:
        connection.close()
    assert len(asked) == 1


def test_a_hub_repository_loads_like_a_folder(monkeypatch, checkpoint):
    asked = {}

    def snapshot_download(repository, **options):
        if options.get("local_files_only"):
            raise LocalEntryNotFoundError("nothing of it is cached")
        asked[repository] = options
        return str(checkpoint)

    files = [str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*") if path.is_file()]
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr("ledits.backbones.hub.listed", lambda name, revision: [*files, "unet/model.bin", "x.ckpt"])
    backbone = load("owner/name", device="cpu", revision="main")
    assert backbone.name == "owner/name"
    assert asked["owner/name"]["revision"] == "main"
    assert not any(pattern.endswith((".bin", ".ckpt", ".pt")) for pattern in asked["owner/name"]["allow_patterns"])


@pytest.mark.parametrize(
    ("option", "value"), [("device", "abacus"), ("device", "cuda:99"), ("device", "meta"), ("dtype", "int4")]
)
def test_wrong_devices_and_dtypes_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{option} '{value}'"):
        load(**{option: value})


def test_a_network_that_is_not_finite_gives_no_picture(random_model):
    """Where the network, its autoencoder or a stored path overflow there was a black picture, and no word."""
    model = random_model()
    x = torch.zeros(1, 4, 8, 8)
    assert model.decode(x).isfinite().all()
    for bad in (torch.nan, torch.inf):
        x[0, 0, 3, 3] = bad
        with pytest.raises(ValueError, match="edited latents are not finite"):
            model.decode(x)
    with pytest.raises(ValueError, match="picture's latents are not finite"):
        model.encode(torch.full((1, 3, 16, 16), torch.nan))
    weight = model.vae.decoder.conv_out.weight
    kept = weight.detach().clone()
    try:
        weight.data[0, 0, 0, 0] = torch.nan
        with pytest.raises(ValueError, match="decoded pictures are not finite"):
            model.decode(torch.zeros(1, 4, 8, 8))
    finally:
        weight.data.copy_(kept)


def test_a_weight_of_other_programs_is_said_to_be_plain_text(caplog):
    from ledits.backbones.texts import check_length

    for text in ("a cat (in a hat)", "a clock at 10:30 (morning)"):
        check_length(text, 5, 75)
    assert not caplog.records
    for _ in range(2):
        check_length("a cat, (a red hat:1.2)", 9, 75)
    (said,) = caplog.messages
    assert "'a cat, (a red hat:1.2)' has a weight" in said


@pytest.mark.parametrize(
    ("wanted", "held", "renamed"),
    [
        ("text_model.encoder.layers.0.x", "encoder.layers.0.x", True),  # transformers 4.56 and 5.5, a file of 5.23
        ("text_model.encoder.layers.0.x", "text_model.encoder.layers.0.x", False),
        ("encoder.layers.0.x", "encoder.layers.0.x", False),
        ("encoder.layers.0.x", "text_model.encoder.layers.0.x", False),  # transformers reads these by itself
    ],
)
def test_a_text_encoders_tensors_are_renamed_by_what_its_class_wants_and_not_by_a_version(wanted, held, renamed):
    assert reading.lengthened([wanted], [held]) == renamed
