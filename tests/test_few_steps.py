"""Checkpoints distilled to few steps: the shifted path of TurboEdit, the times and the guidance input of LCMs."""

import json
from collections.abc import Callable

import pytest
import torch
from diffusers import (
    DDPMScheduler,
    EulerAncestralDiscreteScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionXLPipeline,
    TCDScheduler,
    UNet2DConditionModel,
)

from ledits.backbones import fingerprint, load
from ledits.backbones.latent_unet import LatentUNet
from ledits.backbones.schedule import from_config
from ledits.backbones.stable_diffusion import ClipPrompts
from ledits.backbones.stable_diffusion_xl import ClipPairPrompts
from ledits.cli import main
from ledits.method import core
from ledits.method.core import Concept
from ledits.picture import image

from conftest import SCHEDULER, asked_again, picture, random_parts, random_xl_parts, relative, seeded

TRAILING = SCHEDULER | {"timestep_spacing": "trailing"}
LCM = SCHEDULER | {"_class_name": "LCMScheduler", "original_inference_steps": 50}


def told_guidance(parts):
    """The parts with a network that takes a guidance scale, as LCMs do."""
    torch.manual_seed(2)
    # Names under "_use_default_values" would be set back.
    config = {k: v for k, v in parts["unet"].config.items() if not k.startswith("_")}
    unet = UNet2DConditionModel.from_config(config | {"time_cond_proj_dim": 12})
    return {**parts, "unet": unet.eval()}


@pytest.fixture(scope="module")
def make() -> Callable[..., LatentUNet]:
    """make("sdxl", prediction, scheduler, settings) is a backbone over random weights."""
    cpu, small, xl = torch.device("cpu"), random_parts(), random_xl_parts()
    pair = ClipPairPrompts([xl["tokenizer"], xl["tokenizer_2"]], [xl["text_encoder"], xl["text_encoder_2"]], cpu)
    kinds = {
        "sd": (small, one := ClipPrompts(small["tokenizer"], small["text_encoder"], cpu)),
        "sdxl": (xl, pair),
        "lcm": (told_guidance(small), one),
    }

    def build(kind, prediction="epsilon", scheduler=TRAILING, settings=None) -> LatentUNet:
        parts, prompts = kinds[kind]
        return LatentUNet(
            parts["unet"], parts["vae"], prompts, {**scheduler, "prediction_type": prediction}, name=kind,
            fingerprint="0", settings=settings,
        )  # fmt: skip

    return build


@pytest.fixture
def hear(request):
    """hear(model) is the list of (timestep, timestep_cond) that its network is asked with from now on."""

    def listen(model):
        heard = []
        hook = model.unet.register_forward_pre_hook(
            lambda _, args, named: heard.append((args[1].tolist(), named["timestep_cond"])), with_kwargs=True
        )
        request.addfinalizer(hook.remove)
        return heard

    return listen


def invert(model, steps, skip=0.0, **options):
    """An inversion of a random picture's latents, and the latents and the noise it was made of."""
    schedule = model.schedule(steps, skip)
    x0, noise = torch.randn(1, 4, 8, 8, generator=seeded()), torch.randn(steps, 1, 4, 8, 8, generator=seeded(1))
    with torch.inference_mode(), model.denoiser(schedule, maps=False) as denoise:
        return core.invert(denoise, schedule, x0, noise, **options), x0, noise


def replay(model, inversion, concepts):
    with torch.inference_mode(), model.denoiser(inversion.schedule, maps=False) as denoise:
        *_, last = core.edit(denoise, inversion, concepts, "none")
        return last.x, denoise.evaluations


@pytest.mark.parametrize("kind", [LCMScheduler, TCDScheduler])
@pytest.mark.parametrize("skip", [0.0, 0.15, 0.9])
def test_consistency_models_get_the_times_of_their_scheduler(kind, skip):
    scheduler = kind(**SCHEDULER)
    config = {**scheduler.config, "_class_name": kind.__name__}
    for steps in (1, 2, 3, 4, 5):
        scheduler.set_timesteps(steps, strength=round(1 - skip, 6))
        schedule = from_config(config, steps, skip)
        assert list(schedule.t) == scheduler.timesteps.tolist()
        assert schedule.order == 1
        bars = scheduler.alphas_cumprod[[*scheduler.timesteps.tolist(), 0]]
        assert torch.tensor(schedule.alpha) ** 2 == pytest.approx(bars, abs=1e-5)
    with pytest.raises(ValueError, match="use fewer steps"):
        from_config(config, 51, skip)


def test_a_shift_moves_the_path_and_not_what_the_network_is_told():
    """TurboEdit's own four steps: told 799, 599, 399, 199, noised as at 599, 399, 199 and not at all."""
    shifted, plain = from_config(TRAILING, 4, 0.2, time_shift=0.2), from_config(TRAILING, 4, 0.2)
    assert shifted.t == (799, 599, 399, 199)
    assert (shifted.t, shifted.alpha, shifted.sigma, shifted.order) == (plain.t, plain.alpha, plain.sigma, plain.order)
    bars = DDPMScheduler(**SCHEDULER).alphas_cumprod[[599, 399, 199]].tolist()
    assert plain.noised is None
    assert shifted.noised is not None
    alpha, sigma = shifted.noised
    assert [a**2 for a in alpha] == pytest.approx([*bars, 1], abs=1e-5)
    assert [s**2 for s in sigma] == pytest.approx([*(1 - bar for bar in bars), 0], abs=1e-5)


def test_a_shift_is_a_share_of_the_training_times():
    few = from_config(TRAILING | {"num_train_timesteps": 100}, 4, 0.2, time_shift=0.2)
    same = from_config(TRAILING | {"num_train_timesteps": 100}, 4, 0.4)
    assert few.noised is not None
    assert few.noised[0][0] == same.alpha[0]


@pytest.mark.parametrize(
    ("config", "skip", "shift", "says"),
    [
        (TRAILING, 0.0, 1.0, "share"),
        (TRAILING, 0.0, -0.1, "share"),
        (TRAILING, 0.0, float("nan"), "share"),
        (TRAILING, 0.5, 0.5, "no level would hold noise"),
        ({"shift": 3.0}, 0.0, 0.2, "flow"),
    ],
)
def test_wrong_shifts_are_refused(config, skip, shift, says):
    with pytest.raises(ValueError, match=says):
        from_config(config, 4, skip, time_shift=shift)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("kind", ["sd", "sdxl", "lcm"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_a_shifted_path_is_replayed_exactly(make, kind, prediction, steps):
    """To the last bit with no edit, the network asked again at every level; an edit still acts."""
    model = make(kind, prediction, LCM if kind == "lcm" else TRAILING, {"time_shift": 0.2})
    for storage in (torch.float32, torch.float16):
        inversion, x0, _ = invert(model, steps, storage=storage)
        with torch.inference_mode(), model.denoiser(inversion.schedule, maps=False) as denoise:
            last = asked_again(denoise, inversion)
            assert denoise.evaluations == steps - 1
        assert torch.equal(last, x0.to(storage).float())
        assert relative(replay(model, inversion, [Concept("a cat", 5.0)])[0], x0) > 1e-3


def test_the_path_is_noised_at_its_own_levels(make, hear):
    model = make("sd", settings={"time_shift": 0.2})
    heard = hear(model)
    inversion, x0, noise = invert(model, 4, 0.2)
    assert [t for asked, _ in heard for t in asked] == [799, 599, 399, 199]
    bars = DDPMScheduler(**SCHEDULER).alphas_cumprod[[599, 399, 199]].view(-1, 1, 1, 1, 1)
    assert torch.allclose(inversion.x[:3], bars.sqrt() * x0 + (1 - bars).sqrt() * noise[:3], atol=1e-5)
    assert torch.equal(inversion.x[3:], torch.stack([x0, x0]))


def test_a_shifted_edit_is_turboedits(make):
    """Four steps against TurboEdit's own update, written out plainly over DDPM's step and the network alone:

    path + (step(x, source) - step(path, source)) + w (step(x, target) - step(x, source)).
    """
    model, w = make("sd", settings={"time_shift": 0.2}), 1.5
    inversion, *_ = invert(model, 4, 0.2)
    ours = replay(model, inversion, [Concept("a dog", w)])[0]
    bars = DDPMScheduler(**SCHEDULER).alphas_cumprod.double()
    times = [799, 599, 399, 199, 0]

    def step(i, x, prompt):
        before, after = bars[times[i]], bars[times[i + 1]]
        states = model.prompts.embed(prompt).states[None]
        with torch.inference_mode():
            noise = model.unet(x.float(), torch.tensor(times[i]), states).sample.double()
        x0 = (x - (1 - before).sqrt() * noise) / before.sqrt()
        ratio = before / after
        return after.sqrt() * (1 - ratio) / (1 - before) * x0 + ratio.sqrt() * (1 - after) / (1 - before) * x

    path = inversion.x.double()
    x = path[0]
    for i in range(4):
        source = step(i, x, "")
        x = path[i + 1] + (source - step(i, path[i], "")) + w * (step(i, x, "a dog") - source)
    assert relative(ours, path[-1]) > 1e-2
    assert relative(ours, x) < 1e-4


@pytest.mark.parametrize(("settings", "scale"), [(None, 8.0), ({"guidance_scale": 3.5}, 3.5)])
def test_a_network_distilled_with_guidance_is_told_its_scale(make, hear, settings, scale):
    """As diffusers' LCM pipeline embeds it, in inversion and replay, in every row."""
    model = make("lcm", scheduler=LCM, settings=settings)
    heard = hear(model)
    inversion, *_ = invert(model, 3)
    replay(model, inversion, [Concept("a cat", 1.0)])
    embed = LatentConsistencyModelPipeline.get_guidance_scale_embedding
    for times, told in heard:
        expected = embed(None, torch.tensor([scale - 1.0]), embedding_dim=12).expand(len(times), -1)
        assert torch.allclose(told, expected, atol=1e-6)
    assert len(heard) > 2


@pytest.mark.parametrize("value", ["0.2", None, float("nan")])
@pytest.mark.parametrize("key", ["time_shift", "guidance_scale"])
def test_settings_that_are_no_numbers_are_refused(make, key, value):
    with pytest.raises(ValueError, match=f"{key} .* is no number"):
        make("lcm", settings={key: value})


def test_other_networks_are_told_no_guidance(make, hear):
    heard = hear(model := make("sdxl"))
    invert(model, 2)
    assert [told for _, told in heard] == [None]


def test_the_defaults_of_consistency_models_are_for_few_steps(make):
    assert make("lcm", scheduler=LCM).defaults.steps == 4
    assert make("lcm", scheduler=LCM, settings={"defaults": {"steps": 2}}).defaults.steps == 2
    assert make("sd").defaults.steps == 50


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """An LCM and an SDXL-Turbo of random weights, saved in diffusers' layout."""
    folder = tmp_path_factory.mktemp("few")
    LatentConsistencyModelPipeline(
        **told_guidance(random_parts()), scheduler=LCMScheduler(**SCHEDULER), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder / "lcm")  # fmt: skip
    scheduler = EulerAncestralDiscreteScheduler(**TRAILING)
    StableDiffusionXLPipeline(**random_xl_parts(), scheduler=scheduler, add_watermarker=False).save_pretrained(
        folder / "turbo"
    )
    settings = {"time_shift": 0.2, "defaults": {"steps": 4, "skip": 0.2, "described_skip": 0.2, "described_scale": 1.5}}
    (folder / "turbo/ledits.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def ledits(capfd):
    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([*map(str, arguments)])
        return (stop.value.code, *capfd.readouterr())

    return run


@pytest.mark.parametrize(("model", "steps"), [("lcm", 2), ("lcm", None), ("turbo", 3), ("turbo", None)])
def test_a_few_steps_from_file_to_file(checkpoints, ledits, tmp_path, model, steps):
    """`ledits edit` at the checkpoint's own settings or other steps; its recipe repeats it to the last byte."""
    cat, out, again = tmp_path / "cat.png", tmp_path / "out.png", tmp_path / "again.png"
    picture().save(cat)
    chosen = ["--model", checkpoints / model, "--device", "cpu", "--source", "a cat"]
    chosen += [] if steps is None else ["--steps", steps]
    code, text, errors = ledits("edit", cat, "cat->dog", "-o", out, "--json", *chosen)
    assert code == 0, errors
    answer = json.loads(text)
    assert answer["steps"] == (steps or 4)
    assert answer["network_evaluations"] == {2: 2 + 1 + 3, 3: 3 + 2 + 5, 4: 4 + 2 + 7}[steps or 4]
    assert image.read_recipe(out)["fingerprint"] == fingerprint(checkpoints / model)
    code, _, errors = ledits(
        "edit", "--recipe", out, cat, "-o", again, "--model", checkpoints / model, "--device", "cpu"
    )
    assert code == 0, errors
    assert again.read_bytes() == out.read_bytes()
    code, text, _ = ledits("invert", cat, "-o", tmp_path / "cat.safetensors", "--check", "--json", *chosen)
    assert json.loads(text)["relative_latent_error"] == 0


def test_another_shift_is_another_checkpoint(checkpoints):
    """So that a recipe or an inversion made with one shift is refused under another."""
    settings = checkpoints / "turbo/ledits.json"
    before, text = fingerprint(settings.parent), settings.read_text()
    assert load(str(settings.parent), device="cpu").time_shift == 0.2
    settings.write_text(text.replace("0.2,", "0.1,", 1))
    try:
        assert fingerprint(settings.parent) != before
        assert load(str(settings.parent), device="cpu").time_shift == 0.1
    finally:
        settings.write_text(text)
