"""The method's properties, on random networks: exactness, what is evaluated, masks, independence of order and batch."""

import ast
import dataclasses
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

from ledits.backbones.schedule import from_config
from ledits.method import core
from ledits.method.core import Concept

from conftest import SCHEDULER, relative

SOURCE = Path(core.__file__)


def pictures(b: int = 1, h: int = 16, w: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(b, 4, h, w, generator=torch.Generator().manual_seed(seed))


def noise_for(schedule: core.Schedule, x0: torch.Tensor, seed: int = 1) -> torch.Tensor:
    """Each picture's noise depends on the picture's place alone."""
    parts = [
        torch.randn(len(schedule), *x0.shape[1:], generator=torch.Generator().manual_seed(seed + k))
        for k in range(len(x0))
    ]
    return torch.stack(parts, 1)


def invert(model, schedule, x0, **options) -> tuple[core.Inversion, int]:
    with torch.inference_mode(), model.denoiser(schedule, maps=False) as denoise:
        return core.invert(denoise, schedule, x0, noise_for(schedule, x0), **options), denoise.evaluations


def edit(model, inversion, concepts, mask="intersect") -> tuple[list[core.Step], int]:
    with torch.inference_mode(), model.denoiser(inversion.schedule, maps=mask in core.WITH_MAPS) as denoise:
        return list(core.edit(denoise, inversion, concepts, mask)), denoise.evaluations


def test_core_stays_small_and_alone():
    text = SOURCE.read_text()
    assert len(text.splitlines()) < 300, "core.py reads like the paper: shorten it, or put a helper elsewhere"
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert imported <= {"torch", "math", "collections", "dataclasses", "functools", "typing"}


@pytest.mark.parametrize("order", [1, 2])
def test_mean_is_the_solvers_of_diffusers(order):
    """Twenty steps of x -> mean + std z against diffusers' own step with the same noise."""
    config = SCHEDULER | {"prediction_type": "sample"}
    if order == 1:
        scheduler = DDIMScheduler(**config, clip_sample=False, set_alpha_to_one=False, timestep_spacing="leading")
    else:
        scheduler = DPMSolverMultistepScheduler(
            **config, algorithm_type="sde-dpmsolver++", final_sigmas_type="sigma_min", timestep_spacing="leading"
        )
    scheduler.set_timesteps(20)
    times = [int(t) for t in scheduler.timesteps]
    bars = [scheduler.alphas_cumprod[t].double().item() for t in (*times, 0)]
    alpha, sigma = tuple(bar**0.5 for bar in bars), tuple((1 - bar) ** 0.5 for bar in bars)
    schedule = core.Schedule(tuple(map(float, times)), alpha, sigma, order)
    generator = torch.Generator().manual_seed(0)
    x, before = torch.randn(1, 4, 8, 8, generator=generator), None
    theirs = x
    for i, t in enumerate(times):
        x0, z = torch.randn(2, 1, 4, 8, 8, generator=generator)
        x, before = schedule.mean(i, x, x0, before) + schedule.std(i) * z, x0
        noise = {"eta": 1.0} if order == 1 else {}
        theirs = scheduler.step(x0, t, theirs, variance_noise=z, **noise).prev_sample
        assert relative(x, theirs) < 2e-6, i


def handed_back(model, inversion) -> tuple[torch.Tensor, int]:
    """The end of a replay without edits in which the network is asked at every level, and its evaluations."""
    with torch.inference_mode(), model.denoiser(inversion.schedule, maps=False) as denoise:
        steps = core.edit(denoise, inversion, [])
        x = next(steps).x
        for _ in range(len(inversion.schedule) - 1):
            x = steps.send(x).x
        return x, denoise.evaluations


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("skip", [0, 0.15, 0.5])
@pytest.mark.parametrize("steps", [5, 10, 20, 50])
def test_reconstruction_is_exact(random_model, prediction, order, skip, steps):
    """Every level is evaluated again, for each step is handed back: nothing is taken over from the inversion."""
    model, x0 = random_model(prediction), pictures(h=8, w=12)
    schedule = dataclasses.replace(model.schedule(steps, skip), order=order)
    for storage, bound in ((torch.float32, 1e-5), (torch.float16, 1e-3)):
        inversion, _ = invert(model, schedule, x0, storage=storage)
        x, evaluations = handed_back(model, inversion)
        assert evaluations == steps - 1
        assert relative(x, x0) <= bound, storage


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_few_steps_are_exact_too(random_model, prediction, steps):
    """As a model has them that was distilled to few; an edit moves the picture in every one."""
    model, x0 = random_model(prediction), pictures(h=8, w=12)
    schedule = from_config(SCHEDULER | {"timestep_spacing": "trailing"}, steps, 0.0)
    for storage, bound in ((torch.float32, 1e-5), (torch.float16, 1e-3)):
        inversion, evaluations = invert(model, schedule, x0, storage=storage)
        assert evaluations == steps
        assert relative(handed_back(model, inversion)[0], x0) <= bound, storage
        assert relative(edit(model, inversion, [Concept("dog", 5.0)], "none")[0][-1].x, x0) > 1e-2


@pytest.mark.parametrize(
    "options", [{"source": "a cat"}, {"base_prompt": "a dog"}, {"source": "a cat", "base_prompt": "a dog"}]
)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("skip", [0, 0.15])
def test_reconstruction_is_exact_with_prompts(random_model, prediction, skip, options):
    model, x0 = random_model(prediction), pictures(b=3)
    for storage, bound in ((torch.float32, 1e-5), (torch.float16, 1e-3)):
        inversion, _ = invert(model, model.schedule(10, skip), x0, storage=storage, **options)
        assert relative(handed_back(model, inversion)[0], x0) <= bound, storage


def test_source_prompt_guides_the_path(random_model):
    """The path's predictions are null + s (source - null)."""
    model, x0 = random_model(), pictures()
    schedule = model.schedule(5, 0.15)
    guided, evaluations = invert(model, schedule, x0, source="a cat", source_scale=3.5)
    assert evaluations == 2 * 5
    plain, _ = invert(model, schedule, x0)
    with torch.inference_mode(), model.denoiser(schedule, maps=False) as denoise:
        cat = denoise(guided.x[:-1], range(5), ["a cat"])[0][0]
    assert relative(guided.denoised, plain.denoised + 3.5 * (cat - plain.denoised)) < 1e-5
    assert relative(guided.base_denoised, plain.denoised) < 1e-5


def test_a_last_level_free_of_noise_is_exact_too(random_model):
    model, x0 = random_model(), pictures()
    s = model.schedule(10, 0.15)
    clean = core.Schedule(s.t, (*s.alpha[:-1], 1.0), (*s.sigma[:-1], 0.0))
    inversion, _ = invert(model, clean, x0)
    assert clean.std(9) == 0
    assert relative(edit(model, inversion, [Concept("dog", 0.0)])[0][-1].x, x0) <= 1e-5


def test_replay_is_mean_plus_residual(random_model):
    """The form that stays on the path to the last bit is the published one: mean + std z, z = residual / std."""
    model = random_model()
    inversion, _ = invert(model, model.schedule(10, 0.15), pictures())
    x, x0, before = (pictures(seed=seed) for seed in (7, 8, 9))
    for i in (0, 4, 9):
        mean = inversion.schedule.mean(i, x, x0, before if i else None)
        assert relative(inversion.replay(i, x, x0, before if i else None), mean + inversion.residual(i)) < 1e-5


def test_flow_models_fit_the_same_formulas():
    schedule = from_config({"num_train_timesteps": 1000, "shift": 3.0}, 8, 0.0)
    assert schedule.sigma[0] == 1
    assert schedule.sigma[-1] == 0
    assert all(a + s == pytest.approx(1) for a, s in zip(schedule.alpha, schedule.sigma, strict=True))
    x0 = pictures()
    noise = noise_for(schedule, x0)

    class Shrink:
        evaluations, precision = 0, 2**-17

        def __call__(self, x, levels, prompts):
            return torch.stack([0.5 * x + len(str(prompt)) for prompt in prompts]), None

    inversion = core.invert(Shrink(), schedule, x0, noise)
    assert inversion.x.isfinite().all()
    last = list(core.edit(Shrink(), inversion, [Concept("dog", 0.0)], "noise"))[-1]
    assert relative(last.x, x0) < 1e-6
    moved = list(core.edit(Shrink(), inversion, [Concept("dog", 1.0)], "none"))[-1]
    assert moved.x.isfinite().all()
    assert relative(moved.x, x0) > 0.1


def test_evaluations_are_what_is_due(random_model):
    """T for inversion; then one for each active edit and one for the null prompt, but for the first step, which knows
    it.
    """
    model, x0 = random_model(), pictures(h=8, w=8)
    schedule = model.schedule(20, 0.15)
    inversion, inverting = invert(model, schedule, x0)
    assert inverting == 20
    assert edit(model, inversion, [])[1] == 0
    assert edit(model, inversion, [Concept("dog")])[1] == 39
    for warmup in (1, 7, 19):
        assert edit(model, inversion, [Concept("dog", warmup=warmup)])[1] == 2 * (20 - warmup) - 1


def test_a_prompt_is_asked_for_once(random_model):
    """Two edits by the same words cost no further evaluation."""
    model = random_model()
    inversion, _ = invert(model, model.schedule(5, 0.15), pictures(h=8, w=8))
    assert edit(model, inversion, [Concept("dog", 1.0), Concept("dog", 2.0, 0.5)])[1] == 5 + 4


def test_the_source_prompt_guides_the_replay(random_model):
    """An edit of a picture that was described is another than that of one that was not."""
    model, x0 = random_model(), pictures()
    edited = []
    for options in ({}, {"source": "a cat"}, {"source": "a cat", "source_scale": 1.0}):
        inversion, _ = invert(model, model.schedule(6, 0.15), x0, **options)
        done, evaluations = edit(model, inversion, [Concept("dog", 5.0)], "none")
        assert evaluations == 6 + 5 + 5 * bool(options)
        edited.append(done[-1].x)
    assert relative(edited[0], edited[1]) > 1e-3
    assert relative(edited[1], edited[2]) > 1e-3


def test_warm_up_equals_the_full_replay(random_model):
    """Jumping to the first active step is the same as walking there."""
    model = random_model()
    inversion, _ = invert(model, model.schedule(10, 0.15), pictures())
    jumped, _ = edit(model, inversion, [Concept("dog", 5.0, warmup=4)])
    walked, _ = edit(model, inversion, [Concept("dog", 5.0, warmup=4), Concept("owl", 0.0, cooldown=4)])
    assert relative(jumped[-1].x, inversion.x[-1]) > 1e-3
    assert relative(jumped[-1].x, walked[-1].x) < 1e-4


def test_order_of_edits_is_irrelevant(random_model):
    model = random_model()
    inversion, _ = invert(model, model.schedule(10, 0.15), pictures())
    concepts = [Concept("dog", 5.0), Concept("hat", -3.0, 0.7, warmup=2), Concept("snow", 2.0, 0.5, cooldown=6)]
    forth, back = (edit(model, inversion, c)[0] for c in (concepts, concepts[::-1]))
    assert relative(forth[-1].x, back[-1].x) < 1e-4
    assert torch.equal(forth[0].masks[0], back[0].masks[2])


def soft(_i, psi, attention, _concept):
    """A mask without a threshold, which rounding can't throw to either side of it."""
    large = torch.nn.functional.interpolate(attention[:, None], psi.shape[-2:], mode="bilinear")[:, 0]
    return (large * psi.abs().mean(1)).sigmoid()


@pytest.mark.parametrize("mask", [soft, "none"])
def test_a_batch_equals_its_pictures_one_by_one(random_model, mask):
    model, x0 = random_model(), pictures(b=3)
    schedule = model.schedule(8, 0.15)
    prompts = ("dog", "a red hat", "snow")

    def run(inversion, concepts):
        with torch.inference_mode(), model.denoiser(schedule, maps=mask is soft) as denoise:
            return list(core.edit(denoise, inversion, concepts, mask))

    batch, evaluations = invert(model, schedule, x0)
    assert evaluations == 3 * 8
    together = run(batch, [Concept(prompts, 4.0, 0.7), Concept("owl", -2.0, 0.6)])
    for k in range(3):
        with torch.inference_mode(), model.denoiser(schedule, maps=False) as denoise:
            single = core.invert(denoise, schedule, x0[k : k + 1], noise_for(schedule, x0)[:, k : k + 1])
        alone = run(single, [Concept(prompts[k], 4.0, 0.7), Concept("owl", -2.0, 0.6)])
        for a, b in zip(together, alone, strict=True):
            assert relative(a.masks[:, k : k + 1], b.masks) < 1e-4
            assert relative(a.x[k : k + 1], b.x) < 1e-4


@pytest.mark.parametrize("rule", ["intersect", "attention", "noise", "none"])
def test_masks_of_a_batch_are_each_pictures_own(rule):
    """To the last bit, of the same predictions."""
    generator = torch.Generator().manual_seed(0)
    psi, attention = torch.randn(3, 4, 16, 16, generator=generator), torch.rand(3, 4, 4, generator=generator)
    region = torch.rand(3, 1, 16, 16, generator=generator)
    together = core.implicit_mask(0, psi, attention, Concept("cat", 3.0, 0.7, region=region), rule)
    for k in range(3):
        concept = Concept("cat", 3.0, 0.7, region=region[k : k + 1])
        alone = core.implicit_mask(0, psi[k : k + 1], attention[k : k + 1], concept, rule)
        assert torch.equal(together[k : k + 1], alone)


def test_chunks_change_nothing(random_model):
    x0 = pictures()
    whole, parts = random_model(), random_model(max_batch=3)
    a, b = (invert(model, model.schedule(10, 0.15), x0)[0] for model in (whole, parts))
    assert relative(a.denoised, b.denoised) < 1e-5
    a, b = (edit(model, a, [Concept("dog"), Concept("red hat"), Concept("snow")])[0] for model in (whole, parts))
    assert relative(a[-1].x, b[-1].x) < 1e-4


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("mask", ["attention", "noise"])
def test_mask_share_is_one_minus_threshold(random_model, mask, threshold):
    model = random_model()
    inversion, _ = invert(model, model.schedule(3, 0.15), pictures(b=2))
    for step in edit(model, inversion, [Concept("dog", 3.0, threshold)], mask)[0]:
        share = step.masks.mean((2, 3))
        assert (share - (1 - threshold)).abs().max() <= 1 / 256 + 1e-6
        assert set(step.masks.unique().tolist()) <= {0.0, 1.0}


def test_intersection_is_the_product(random_model):
    model = random_model()
    inversion, _ = invert(model, model.schedule(2, 0.15), pictures())
    m = {
        rule: edit(model, inversion, [Concept("dog", 3.0, 0.6)], rule)[0][0].masks
        for rule in ("intersect", "attention", "noise")
    }
    assert torch.equal(m["intersect"], m["attention"] * m["noise"])
    assert edit(model, inversion, [Concept("dog", 3.0, 0.6)], "none")[0][0].masks.min() == 1


def test_the_last_step_changes_nothing_outside_the_mask(random_model):
    """With one active step, the state outside its mask is the path itself, to the last bit."""
    model, x0 = random_model(), pictures()
    inversion, _ = invert(model, model.schedule(6, 0.15), x0)
    last = edit(model, inversion, [Concept("dog", 5.0, 0.6, warmup=5)])[0][-1]
    outside = (last.masks[0] == 0)[:, None].expand_as(x0)
    assert torch.equal(last.x[outside], x0[outside])
    assert not torch.equal(last.x[~outside], x0[~outside])


def test_a_region_holds_an_edit_and_its_quantile(random_model):
    """Quantiles are taken inside the region: 1 - threshold of the region is let through, and none of the rest."""
    model = random_model()
    inversion, _ = invert(model, model.schedule(3, 0.15), pictures(b=2))
    region = torch.zeros(1, 1, 32, 32)
    region[..., :16, :16] = 1
    for step in edit(model, inversion, [Concept("dog", 3.0, 0.5, region=region)], "noise")[0]:
        assert step.masks[..., 8:, :].max() == 0
        assert step.masks[..., :8, :8].mean() == pytest.approx(0.5, abs=1 / 64)
    soft = edit(model, inversion, [Concept("dog", 3.0, 0.5, region=0.25 * region)], "none")[0][0].masks
    assert soft.max() == 0.25


def test_an_edit_moves_with_its_scale(random_model):
    model, x0 = random_model(), pictures()
    inversion, _ = invert(model, model.schedule(10, 0.15), x0)
    moved = [
        relative(edit(model, inversion, [Concept("dog", scale, 0.5)])[0][-1].x, x0) for scale in (0.0, 1.0, 3.0, 9.0)
    ]
    assert moved == sorted(moved)
    forth, back = (
        edit(model, inversion, [Concept("dog", s, 0.5, warmup=9)], "noise")[0][-1].x - x0 for s in (3.0, -3.0)
    )
    assert relative(forth, -back) < 1e-3


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"scale": float("nan")}, "finite"),
        ({"scale": float("inf")}, "finite"),
        ({"threshold": -0.1}, "between 0 and 1"),
        ({"threshold": 1.0}, "between 0 and 1"),
        ({"threshold": 2.0}, "between 0 and 1"),
        ({"warmup": -1}, "begin at 0"),
        ({"warmup": 5, "cooldown": 5}, "end after"),
    ],
)
def test_a_wrong_concept_is_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        Concept("dog", **wrong)


def test_a_wrong_call_is_refused(random_model):
    model, x0 = random_model(), pictures()
    inversion, _ = invert(model, model.schedule(3, 0.15), x0)
    with pytest.raises(ValueError, match="past the end"):
        edit(model, inversion, [Concept("dog", warmup=3)])
    with pytest.raises(ValueError, match="shape"):
        core.invert(lambda *_: None, inversion.schedule, x0, torch.zeros(2, *x0.shape))
    with pytest.raises(ValueError, match="attention maps"), model.denoiser(inversion.schedule, maps=False) as denoise:
        list(core.edit(denoise, inversion, [Concept("dog")], "attention"))
    for t, alpha, sigma, order in (
        ((), (1.0,), (0.0,), 2),
        ((1.0,), (0.5, 1.0), (0.5,), 2),
        ((1.0,), (0.5, 1.0), (0.5, 0.0), 3),
        ((1.0, 2.0), (0.5, 0.6, 1.0), (0.5, 0.0, 0.0), 2),
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            core.Schedule(t, alpha, sigma, order)
