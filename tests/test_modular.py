"""Modular repositories, whose index names where each part lies: of every family, by the one loading path."""

import json
import shutil
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

import tiny_families
from ledits import backbones
from ledits.backbones import hub, load
from ledits.cli import main
from ledits.files import checkpoints, modular

from conftest import random_xl_parts, scheduler, tiny

pytestmark = pytest.mark.skipif(not hasattr(diffusers, "Flux3AutoBlocks"), reason="needs a newer diffusers")

INDEX = "modular_model_index.json"
BLOCKS = {
    "sdxl": "StableDiffusionXLAutoBlocks", "flux": "FluxAutoBlocks", "qwen_image": "QwenImageAutoBlocks",
    "sd3": "StableDiffusion3AutoBlocks", "qwen_image_21": "QwenImage21AutoBlocks", "z_image": "ZImageAutoBlocks",
}  # fmt: skip


def plain(name):
    if name == "sdxl":
        return tiny(StableDiffusionXLPipeline, scheduler("ddim"), random_xl_parts())
    return tiny_families.make(name)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same parts as a plain checkpoint and as a modular repository, which diffusers saves."""
    made = {}

    def folder(name):
        if name not in made:
            path = tmp_path_factory.mktemp("modular")
            pipe = plain(name)
            pipe.save_pretrained(path / "plain")
            blocks = getattr(diffusers, BLOCKS[name])()
            wanted = {spec.name for spec in blocks.expected_components}
            parts = {part: each for part, each in pipe.components.items() if each is not None and part in wanted}
            whole = tiny_families.modular(blocks, **parts)
            whole.save_pretrained(path / "modular")
            made[name] = path / "plain", path / "modular"
        return made[name]

    return folder


@pytest.fixture
def flux(folders, tmp_path):
    """A modular FLUX of its own."""
    return Path(shutil.copytree(folders("flux")[1], tmp_path / "flux"))


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache of the hub, which is out of reach."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))

    def unreachable(repository, revision=None):
        raise ConnectionError

    monkeypatch.setattr(hub, "listed", unreachable)
    return tmp_path / "hub"


def answer(backbone):
    x = torch.randn(1, 1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    side = 16 * backbone.factor
    with backbone.denoiser(backbone.schedule(4, 0.15, side, side), maps=False) as denoise:
        return denoise(x, [1], ["a cat"])[0]


def put(cache, repository, folder, parts, commit="0123abcd", branch="main"):
    """Parts of a folder, as a repository in the hub's cache has them."""
    home = cache / f"models--{repository.replace('/', '--')}"
    (home / "refs").mkdir(parents=True, exist_ok=True)
    (home / "refs" / branch).write_text(commit)
    for part, there in parts.items():
        shutil.move(folder / part, home / "snapshots" / commit / there)
    return home / "snapshots" / commit


def said(folder, **changed):
    """The index of a folder with other places of some parts."""
    index = json.loads((folder / INDEX).read_text())
    for part, spec in changed.items():
        index[part] = [*index[part][:2], {**index[part][2], **spec}] if isinstance(spec, dict) else spec
    (folder / INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize("name", BLOCKS)
def test_a_modular_repository_answers_as_the_plain_one_of_its_parts(name, folders):
    both = [load(str(folder), device="cpu", dtype="float32") for folder in folders(name)]
    assert torch.equal(*map(answer, both))
    assert both[0].defaults == both[1].defaults
    assert both[0].fingerprint != both[1].fingerprint  # of other files


def test_a_copy_is_read_where_it_lies(flux, folders):
    """Its index still names the folder in which it was saved."""
    shutil.rmtree(flux / "vae")
    with pytest.raises(
        ValueError, match=r"its vae lies in '?/.*vae, which is no hub id: put it into the model's folder"
    ):
        load(str(flux), device="cpu")
    shutil.copytree(folders("flux")[1] / "vae", flux / "vae")
    load(str(flux), device="cpu")


def test_parts_come_from_the_repositories_that_the_index_names(flux, folders, cache):
    """By the newer key and the older, of a class in a hint alone, in a folder, in none, and of a revision."""
    whole = answer(load(str(folders("flux")[0]), device="cpu", dtype="float32"))
    put(cache, "a/words", flux, {"text_encoder_2": "", "tokenizer_2": "tokenizer_2"})
    put(cache, "b/net--v2", flux, {"transformer": "net", "scheduler": "levels"}, branch="v2")
    hint = {"type_hint": ["transformers", "T5EncoderModel"], "pretrained_model_name_or_path": "a/words"}
    said(
        flux, text_encoder_2=[None, None, {**hint, "subfolder": "", "revision": None}],
        tokenizer_2=["transformers", "AutoTokenizer", {"repo": "a/words", "subfolder": "tokenizer_2"}],
        transformer={"pretrained_model_name_or_path": "b/net--v2", "subfolder": "net", "revision": "v2"},
        scheduler={"pretrained_model_name_or_path": "b/net--v2", "subfolder": "levels", "revision": "v2"},
    )  # fmt: skip
    found = load(str(flux), device="cpu", dtype="float32")
    assert torch.equal(answer(found), whole)
    net = cache / "models--b--net--v2/snapshots/0123abcd/net"
    other = diffusers.FluxTransformer2DModel.from_pretrained(net)
    torch.nn.init.zeros_(other.proj_out.weight)
    other.save_pretrained(net)
    assert load(str(flux), device="cpu", dtype="float32").fingerprint != found.fingerprint


def test_a_repository_of_the_cache_loads_without_the_hub(flux, cache, monkeypatch):
    snapshot = put(
        cache, "owner/flux", flux, {"vae": "vae-2", "text_encoder": "text_encoder", "tokenizer": "tokenizer"}
    )
    words = {part: part for part in ("text_encoder_2", "tokenizer_2", "transformer", "scheduler")}
    put(cache, "other/parts", flux, words)
    own = {part: {"pretrained_model_name_or_path": "owner/flux"} for part in ("vae", "text_encoder", "tokenizer")}
    own["vae"]["subfolder"] = "vae-2"
    said(flux, **own, **{part: {"pretrained_model_name_or_path": "other/parts"} for part in words})
    shutil.copy(flux / INDEX, snapshot / INDEX)

    def snapshot_download(repository, **options):  # the hub's own library has read where its cache is already
        assert (repository, options["local_files_only"]) == ("owner/flux", True)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    found = checkpoints.examine(snapshot, "owner/flux")
    assert found.places["vae"] == snapshot / "vae-2"
    assert found.places["transformer"].parent.parent.parent.name == "models--other--parts"
    assert [name for name, _ in checkpoints.cached()] == ["owner/flux"]
    assert load("owner/flux", device="cpu").transformer.config.num_layers == 2
    assert hub.settings("owner/flux") == snapshot


@pytest.mark.parametrize("gone", ["transformer", "text_encoder_2", "tokenizer", "scheduler"])
def test_what_is_not_here_and_can_not_be_had_is_one_sentence(gone, flux, cache):
    shutil.rmtree(flux / gone)
    said(flux, **{gone: {"pretrained_model_name_or_path": "far/away"}})
    with pytest.raises(ValueError, match=f"its {gone} lies in far/away/{gone}, which is not cached, and the hub can"):
        load(str(flux), device="cpu")


def test_of_other_repositories_only_what_is_needed_is_downloaded(flux, monkeypatch, tmp_path):
    """A fake hub, and no network: settings first, then one kind of weights."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    remote = tmp_path / "remote"
    remote.mkdir()
    for part in ("transformer", "tokenizer"):
        shutil.move(flux / part, remote / part)
        said(flux, **{part: {"pretrained_model_name_or_path": "far/away"}})
    net = diffusers.FluxTransformer2DModel.from_pretrained(remote / "transformer")
    net.half().save_pretrained(remote / "transformer", variant="fp16")
    (remote / "extra.safetensors").write_bytes(b"")
    asked = []

    def listed(repository, revision=None):
        assert repository == "far/away"
        return [path.relative_to(remote).as_posix() for path in remote.rglob("*") if path.is_file()]

    def snapshot_download(repository, *, revision, allow_patterns):
        asked.append(allow_patterns)
        snapshot = tmp_path / "hub/models--far--away/snapshots/ff"
        (snapshot.parent.parent / "refs").mkdir(parents=True, exist_ok=True)
        (snapshot.parent.parent / "refs/main").write_text("ff")
        for name in allow_patterns:
            (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(remote / name, snapshot / name)

    monkeypatch.setattr(hub, "listed", listed)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    load(str(flux), device="cpu", variant="fp16")
    weights = "transformer/diffusion_pytorch_model.fp16.safetensors"
    assert ["transformer/config.json"] in asked
    assert asked[-1] == [weights]
    assert not any("safetensors" in name for names in asked[:-1] for name in names)
    asked.clear()
    load(str(flux), device="cpu", variant="fp16")
    assert not asked  # all of it is cached


@pytest.mark.parametrize(
    "kind",
    ["FluxKontextModularPipeline", "QwenImageEditModularPipeline", "QwenImageEditPlusModularPipeline",
     "QwenImageLayeredModularPipeline", "Flux2KleinKVPipeline"],
)  # fmt: skip
def test_models_for_instructions_are_refused_with_the_reason_as_modular_repositories_too(kind, tmp_path):
    (tmp_path / INDEX).write_text(json.dumps({"_class_name": kind}))
    with pytest.raises(ValueError, match=f"is a {kind}, which is told how to change a picture"):
        load(str(tmp_path), device="cpu")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"vae": {"pretrained_model_name_or_path": "a/b", "subfolder": "../../secret"}}, "no folder of a repository"),
        ({"vae": {"pretrained_model_name_or_path": "a/b", "subfolder": "/etc"}}, "no folder of a repository"),
        ({"vae": {"pretrained_model_name_or_path": "a/b", "revision": "../../x"}}, "no revision of one"),
        ({"vae": {"pretrained_model_name_or_path": ["a/b"]}}, "the name of a repository"),
        ({"vae": ["diffusers", "AutoencoderKL", {"type_hint": 3, "subfolder": 7}]}, "the name of a repository"),
        ({"vae": [None, None, {"type_hint": 3}]}, "no class"),
        ({"vae": [None, None, {"type_hint": ["os", "system"]}]}, "AutoencoderKL or AutoencoderTiny is accepted"),
        ({"vae": None}, "a FluxPipeline has a vae, and its modular_model_index.json none"),
        ({"_class_name": "WanModularPipeline"}, "is a WanModularPipeline: checkpoints of"),
        ({"_class_name": "ModularPipeline"}, "is a ModularPipeline: checkpoints of"),
        ({"auto_map": {"ModularPipelineBlocks": "block.MyBlocks"}}, "names code of its own"),
    ],
)
def test_a_strangers_index_is_one_sentence(changed, says, flux, cache):
    index = json.loads((flux / INDEX).read_text())
    for name, value in changed.items():
        spec = {**index["vae"][2], **value} if isinstance(value, dict) and name == "vae" else None
        index[name] = [*index["vae"][:2], spec] if spec else value
    (flux / INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError, match=says):
        load(str(flux), device="cpu")


def test_distilled_ones_are_known_by_their_class():
    assert modular.told("Krea2TurboModularPipeline", {})["is_distilled"]
    assert modular.told("Flux2KleinModularPipeline", {})["is_distilled"]
    assert "is_distilled" not in modular.told("Flux2KleinBaseModularPipeline", {})
    assert not modular.told("Flux2KleinModularPipeline", {"is_distilled": False})["is_distilled"]


def test_a_distilled_flux_3_is_told_to_jump_to_the_clean_picture(tmp_path):
    torch.manual_seed(0)
    distilled = tiny_families.flux_3(distilled=True)
    distilled.transformer.eval()
    distilled.set_progress_bar_config(disable=True)
    distilled.save_pretrained(tmp_path)
    latents = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(1))
    theirs = distilled(prompt="a cat", latents=latents, height=32, width=32, num_inference_steps=1, output="latents")
    x = torch.nn.functional.pixel_shuffle(latents, 2)
    for backbone in (load(str(tmp_path), device="cpu", dtype="float32"), backbones.from_pipe(distilled)):
        assert backbone.distilled
        assert backbone.defaults.steps == 8
        with backbone.denoiser(backbone.schedule(1, 0.0, 32, 32), maps=False) as denoise:
            ours = denoise(x[None], [0], ["a cat"])[0][0, 0]
        assert torch.allclose(ours, torch.nn.functional.pixel_shuffle(theirs, 2), atol=1e-5)


def test_info_and_models_know_a_modular_repository(flux, capsys, cache):
    def info(folder):
        with pytest.raises(SystemExit):
            main(["info", str(folder), "--json"])
        return json.loads(capsys.readouterr().out)

    found = info(flux)
    assert (found["family"], found["works"]) == ("FluxPipeline", True)
    assert set(found["parts"]) == {"transformer", "vae", "text_encoder", "text_encoder_2"}
    put(cache, "far/away", flux, {"transformer": "transformer"})
    said(flux, transformer={"pretrained_model_name_or_path": "far/away"})
    assert info(flux)["parts"] == found["parts"]
    shutil.rmtree(cache)
    assert "its transformer lies in far/away/transformer, which is not cached" in info(flux)["edits"]
