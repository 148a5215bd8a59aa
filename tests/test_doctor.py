"""`ledits doctor`: whole models are healthy, damage is found and named, of random weights it can tell nothing."""

import inspect
import json
import shutil
from dataclasses import replace
from functools import cache, partial
from types import SimpleNamespace

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

import tiny_families
from ledits import Editor
from ledits.backbones import load
from ledits.backbones.schedule import from_config
from ledits.cli import main
from ledits.doctor import beside, checks, examine, readings
from ledits.doctor.known import Known, stacked
from ledits.doctor.page import page
from ledits.files import checkpoints
from ledits.pipelines import published

from conftest import picture, random_parts, random_vae, random_xl_parts, scheduler, tiny


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def says_of_scheduler(**changes):
    return lambda folder: rewrite(folder / "scheduler/scheduler_config.json", **changes)


def another_scheduler(**said):
    """In place of a flow's own."""
    config = {"_class_name": "DDIMScheduler", "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012,
              "beta_schedule": "scaled_linear", **said}  # fmt: skip
    return lambda folder: (folder / "scheduler/scheduler_config.json").write_text(json.dumps(config))


def latents_times(size):
    def change(folder):
        path = folder / "vae/config.json"
        rewrite(path, scaling_factor=size * json.loads(path.read_text())["scaling_factor"])

    return change


def tensors_of(part, change):
    """Another content of a part's weights."""

    def apply(folder):
        for path in folder.glob(f"{part}/*.safetensors"):
            save_file({n: each.contiguous() for n, each in change(load_file(path)).items()}, path, {"format": "pt"})

    return apply


def emptied(block):
    """The first block whose layers' names hold this is nothing but zeros."""

    def change(tensors):
        begun = next(name for name in tensors if block in name and name.endswith("weight")).rpartition(block)[0] + block
        return {name: torch.zeros_like(each) if name.startswith(begun) else each for name, each in tensors.items()}

    return change


def words_mean(order):
    """The same words by another encoder: each means another one, and the marks at their ends what they did."""

    def change(tensors):
        name = next(name for name in tensors if name.endswith("token_embedding.weight"))
        table, words = tensors[name].clone(), ~torch.isin(torch.arange(len(tensors[name])), torch.tensor(marks()))
        table[words] = order(table[words])
        return tensors | {name: table}

    return change


@cache
def marks():
    """The numbers of the tokens that begin and end a text, the same in both models."""
    return CLIPTokenizer.from_pretrained(checkpoints.bundled("scenes") / "tokenizer").all_special_ids


def shuffled(seed):
    return lambda table: table[torch.randperm(len(table), generator=torch.Generator().manual_seed(seed))]


def random_layers(tensors):
    """An encoder that was never trained."""
    draw = torch.Generator().manual_seed(3)
    return {n: 0.1 * torch.randn(e.shape, generator=draw) if e.dim() > 1 else e for n, e in tensors.items()}


def swapped(one, other):
    def change(folder):
        aside = (folder / one).rename(folder / "aside")
        (folder / other).rename(folder / one)
        aside.rename(folder / other)

    return change


PREDICTS, READS, SIZE, EMPTY = "what it predicts", "what it reads", "autoencoder", "weights"
TEXTS = {
    **{f"words in another order, {seed}": (shuffled(seed), READS, "text encoder") for seed in range(3)},
    **{f"words moved by {by}": (partial(torch.roll, shifts=by, dims=0), READS, "text encoder") for by in (1, 37, 200)},
    "words backwards": (lambda table: table.flip(0), READS, "text encoder"),
}
EITHER = {
    **{
        f"latents {size} times as large": (latents_times(size), SIZE, "scaling_factor") for size in (0.3, 0.78, 1.25, 5)
    },
    **{
        name: (tensors_of("text_encoder*", words_mean(order)), check, says)
        for name, (order, check, says) in TEXTS.items()
    },
    "text encoders of random weights": (tensors_of("text_encoder*", random_layers), READS, "text encoder"),
}
DAMAGE = {
    "noise for v": (says_of_scheduler(prediction_type="epsilon"), PREDICTS, "prediction_type v_prediction"),
    "the picture for v": (says_of_scheduler(prediction_type="sample"), PREDICTS, "prediction_type v_prediction"),
    "linear betas": (
        says_of_scheduler(beta_schedule="linear", beta_start=0.0001, beta_end=0.02), PREDICTS, "schedule scaled_linear"
    ),
    "cosine betas": (says_of_scheduler(beta_schedule="squaredcos_cap_v2"), PREDICTS, "schedule scaled_linear"),
    "an end that is all noise": (says_of_scheduler(rescale_betas_zero_snr=True), PREDICTS, "zero_snr false"),
    "a block of attention": (tensors_of("unet", emptied("attn1")), EMPTY, "nothing but zeros"),
    "a block of convolutions": (tensors_of("unet", emptied("resnets.0")), EMPTY, "nothing but zeros"),
    "a layer of the text encoder": (tensors_of("text_encoder", emptied("layers.1")), EMPTY, "nothing but zeros"),
    **EITHER,
}  # fmt: skip
FLOW_DAMAGE = {
    "noise for a flow": (another_scheduler(prediction_type="epsilon"), PREDICTS, "prediction_type flow_prediction"),
    "v for a flow": (another_scheduler(prediction_type="v_prediction"), PREDICTS, "prediction_type flow_prediction"),
    "a block": (tensors_of("transformer", emptied("transformer_blocks.3.")), EMPTY, "nothing but zeros"),
    "two text encoders swapped": (swapped("text_encoder", "text_encoder_2"), READS, "two are swapped"),
    "one text encoder's words": (tensors_of("text_encoder_2", words_mean(shuffled(1))), READS, "text encoder"),
    **EITHER,
}


def damaged(model, change, tmp_path):
    folder = shutil.copytree(checkpoints.find(model), tmp_path / "model")
    change(folder)
    return load(str(folder), device="cpu", dtype="float32")


def claim(backbone, name):
    """The check of this name. Those after it are not made."""
    made = checks.claims(backbone, Known.scenes(128), checks.Report("a"))
    return next(check for check in made if check.name == name)


@cache
def undamaged(model):
    """What a whole model's predictions say of its claims."""
    backbone = load(model, device="cpu", dtype="float32")
    x0 = backbone.encode(stacked(Known.scenes(128)))
    return readings.compare(backbone, x0, readings.levels(backbone, 128))


@pytest.mark.parametrize("model", ["scenes", "scenes-flow"])
def test_a_whole_model_is_healthy(model):
    heard = list[tuple[str, int, int]]()
    report = examine(Editor(model, device="cpu", dtype="float32"), told=lambda *said: heard.append(said))
    assert report.healthy, report.to_json()
    assert heard[0][0] == "weights: ok"
    done, (total, *more) = [each[1] for each in heard], {each[2] for each in heard}
    assert done == sorted(done)
    assert not more
    assert 0.8 * total < done[-1] <= total
    verdicts = {check.name: check.verdict for check in report.checks}
    assert set(verdicts.values()) == {"ok"}, report.to_json()
    written = page(report)
    assert written.count("<img") == len(report.pictures) >= 7
    assert "Nothing wrong was found" in written


ALL = [("scenes", name) for name in DAMAGE] + [("scenes-flow", name) for name in FLOW_DAMAGE]


@pytest.mark.parametrize(("model", "damage"), ALL)
def test_damage_is_found_and_named(model, damage, tmp_path, monkeypatch):
    change, name, says = (DAMAGE if model == "scenes" else FLOW_DAMAGE)[damage]
    if damage in TEXTS:  # told of nothing, the network sees what it did
        found = undamaged(model)
        monkeypatch.setattr(readings, "compare", lambda *_: found)
    check = claim(damaged(model, change, tmp_path), name)
    assert (check.verdict, says in check.says) == ("wrong", True), check


def test_a_model_with_two_damages_is_examined_to_the_end(tmp_path):
    def change(folder):
        latents_times(3)(folder)
        tensors_of("text_encoder", emptied("layers.1"))(folder)

    damaged("scenes-flow", change, tmp_path)
    report = examine(Editor(str(tmp_path / "model"), device="cpu", dtype="float32"))
    verdicts = {check.name: check.verdict for check in report.checks}
    assert (verdicts["weights"], verdicts["autoencoder"]) == ("wrong", "wrong"), report.to_json()
    assert list(verdicts)[-1] == "time and memory"
    assert len(verdicts) == 10
    assert "Something is wrong" in page(report)


@pytest.mark.parametrize("said", [True, False])
def test_a_network_that_was_trained_to_zero_snr_is_told_from_one_that_was_not(said, tmp_path):
    """The bundled one as if it had been trained so: it hears the time at which its own schedule has that level."""
    backbone = damaged("scenes", says_of_scheduler(rescale_betas_zero_snr=said), tmp_path)
    own, zero = (
        from_config({**backbone.scheduler, "rescale_betas_zero_snr": flag}, 999, 0.0) for flag in (False, True)
    )

    def hear(_, args, kwargs):
        form = inspect.signature(backbone.net.forward).bind(*args, **kwargs)
        meant = [min(range(999), key=lambda i: abs(zero.t[i] - t)) for t in form.arguments["timestep"].tolist()]
        same = [min(range(999), key=lambda i: abs(own.alpha[i] - zero.alpha[j])) for j in meant]
        form.arguments["timestep"] = torch.tensor([own.t[i] for i in same])
        return form.args, form.kwargs

    backbone.net.register_forward_pre_hook(hear, with_kwargs=True)
    check = claim(backbone, "what it predicts")
    assert check.verdict == ("ok" if said else "wrong"), check
    assert said or "zero_snr true" in check.says


def test_beside_diffusers_a_wrong_prompt_is_found(monkeypatch):
    """Somebody's network is told something else than in diffusers' pipeline: named by what it is told."""
    backbone = load("scenes", device="cpu", dtype="float32")
    embed = type(backbone.prompts).embed

    def louder(self, text):
        found = embed(self, text)
        return replace(found, states=1.01 * found.states)

    monkeypatch.setattr(type(backbone.prompts), "embed", louder)
    check = checks._beside(backbone, "a cat", 128)
    assert check.verdict == "wrong"
    assert check.figures["encoder_hidden_states"] == 0.01
    monkeypatch.setattr(type(backbone.prompts), "embed", embed)
    assert checks._beside(backbone, "a cat", 128).verdict == "ok"


@pytest.mark.parametrize("name", ["sd", "sdxl", *tiny_families.MAKE])
def test_each_family_is_told_what_it_is_in_diffusers_own_pipeline(name, tmp_path):
    made(name, tmp_path)
    backbone = load(str(tmp_path), device="cpu", dtype="float32")
    away = beside.compare(backbone, "a cat", max(32, backbone.multiple))
    assert away[beside.ANSWER] < 1e-5, away
    assert len(away) > 2


def made(name, folder, **parts):
    """A family's random checkpoint, in a folder; `parts` are in the place of its own."""
    if name in ("sd", "sdxl"):
        kind = StableDiffusionXLPipeline if name == "sdxl" else StableDiffusionPipeline
        own = random_xl_parts() if name == "sdxl" else random_parts(levels=3)
        pipe = tiny(kind, scheduler("ddim"), own | parts)
    else:
        pipe = tiny_families.make(name)
    pipe.save_pretrained(folder)


RANDOM = ("sd", "sdxl", "sd3", "flux")


@pytest.mark.parametrize("name", RANDOM)
def test_of_random_weights_it_says_what_can_not_be_told(name, tmp_path):
    """And an empty block of them is found and named all the same."""
    made(name, tmp_path)
    editor = Editor(str(tmp_path), device="cpu", dtype="float32")
    editor.backbone.area = 64**2  # FLUX's are trained at 1024, and this one's autoencoder makes a picture half as large
    report = examine(editor)
    verdicts = {check.name: check.verdict for check in report.checks}
    assert verdicts["what it predicts"] == verdicts["what it reads"] == "can't tell", report.to_json()
    assert verdicts["weights"] == verdicts["beside diffusers"] == verdicts["reconstruction"] == "ok", report.to_json()
    part, block = ("unet", "resnets.0") if name.startswith("sd") and name != "sd3" else ("transformer", "attn.to_q")
    tensors_of(part, emptied(block))(tmp_path)
    check = checks._weights(load(str(tmp_path), device="cpu", dtype="float32"))
    assert (check.verdict, block.split(".")[0] in check.says) == ("wrong", True), check


WIDER = {
    "sd": ("text_encoder", {"hidden_size": 24}), "sdxl": ("text_encoder_2", {"projection_dim": 20}),
    "sd3": ("text_encoder_3", {"d_model": 24}), "flux": ("text_encoder", {"hidden_size": 24}),
}  # fmt: skip


@pytest.mark.parametrize("name", WIDER)
def test_a_text_encoder_of_another_width_is_refused_before_loading(name, tmp_path):
    made(name, tmp_path)
    part, changes = WIDER[name]
    rewrite(tmp_path / part / "config.json", **changes)
    with pytest.raises(ValueError, match=r"have \d+ numbers and its \w+ takes \d+: one of the two is another model's"):
        load(str(tmp_path), device="cpu")


def test_swapped_text_encoders_of_another_kind_are_refused_before_loading(tmp_path):
    made("flux", tmp_path)
    swapped("text_encoder", "text_encoder_2")(tmp_path)
    with pytest.raises(ValueError, match="its text_encoder is a t5, where a CLIPTextModel is needed: two are swapped"):
        load(str(tmp_path), device="cpu")


def test_the_published_tests_say_how_far_off_they_lie(tmp_path, capsys, monkeypatch):
    """Of random weights: what is told is how far, and that is all."""
    monkeypatch.setattr(published, "SIDE", 160)  # the nine pixels are within it, and the tiny network has all places
    # As the real one, an eighth as large as its picture: a quarter of the sides of our random one's latents.
    made("sd", tmp_path / "sd", vae=random_vae(levels=4))
    picture(width=64, height=64).save(tmp_path / "cat_6.png")
    options = ["--model", str(tmp_path / "sd"), "--device", "cpu", "--json", "-o", str(tmp_path / "d.html")]
    options += ["--size", "64"]
    with pytest.raises(SystemExit):
        main(["doctor", *options, "--published", str(tmp_path / "cat_6.png")])
    said = json.loads(capsys.readouterr().out)
    (check,) = [check for check in said["checks"] if check["name"] == "published tests"]
    assert check["verdict"] == "can't tell"
    assert len(check["figures"]["here"]) == len(check["figures"]["published"]) == 9
    assert "Stable Diffusion 1.5 in float16" in check["says"]
    made("sd3", tmp_path / "sd3")
    with pytest.raises(SystemExit):
        main(["doctor", "--model", str(tmp_path / "sd3"), "--device", "cpu", "--published", str(tmp_path / "cat_6.png"),
              "-o", str(tmp_path / "e.html")])  # fmt: skip
    assert "no published numbers for a StableDiffusion3Pipeline" in capsys.readouterr().err


def test_random_weights_are_said_to_be_nothing_that_can_be_told(tmp_path, capsys, monkeypatch):
    """At the size that is asked for; and captions, a third of the time, are not tried where they can tell nothing."""
    made("sd", tmp_path / "sd")
    command = ["doctor", "--model", str(tmp_path / "sd"), "--device", "cpu", "--json", "-o", str(tmp_path / "d.html")]
    with pytest.raises(SystemExit):
        main([*command, "--size", "5"])
    assert "size 5: from 32 to 64 pixels are accepted" in capsys.readouterr().out
    monkeypatch.setattr(checks.captions, "ask", None)
    # Weights in a file that is mapped are in the process's pages, and nobody's memory.
    held = SimpleNamespace(rss=10 * 2**30, shared=6 * 2**30)
    monkeypatch.setattr(checks.psutil, "Process", lambda: SimpleNamespace(memory_info=lambda: held))
    with pytest.raises(SystemExit):
        main([*command, "--size", "50"])
    said = json.loads(capsys.readouterr().out)
    (time,) = [check for check in said["checks"] if check["name"] == "time and memory"]
    assert time["figures"]["side"] == 48
    assert time["figures"]["GiB"] == 4
    verdicts = {check["name"]: check["verdict"] for check in said["checks"]}
    assert verdicts["what it predicts"] == verdicts["what it reads"] == "can't tell"
    assert verdicts["reconstruction"] == "ok"
    assert (tmp_path / "d.html").stat().st_size > 1000
