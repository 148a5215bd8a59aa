"""Schedules against the training times that diffusers' schedulers define."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler

from ledits.backbones.schedule import flow_shift, flow_skip, from_config, from_scheduler

VP = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}


@pytest.mark.parametrize(
    "change",
    [{}, {"beta_schedule": "linear"}, {"beta_schedule": "squaredcos_cap_v2"}, {"rescale_betas_zero_snr": True}],
)
def test_levels_are_those_of_diffusers(change):
    config = VP | change
    bars = DDPMScheduler(**config).alphas_cumprod
    schedule = from_config(config, 20, 0.0)
    times = [int(t) for t in schedule.t] + [0]
    assert torch.tensor(schedule.alpha) ** 2 == pytest.approx(bars[times], abs=1e-5)
    assert all(a**2 + s**2 == pytest.approx(1) for a, s in zip(schedule.alpha, schedule.sigma, strict=True))


def test_trained_betas_come_first():
    given = from_config(VP | {"trained_betas": [0.01] * 1000}, 5, 0.0)
    assert given.alpha[-1] == pytest.approx(0.99**0.5)


@pytest.mark.parametrize("skip", [0.0, 0.15, 0.5, 0.9])
@pytest.mark.parametrize("steps", [1, 2, 20, 50])
def test_times_are_the_authors(steps, skip):
    """From (1 - skip) T - 1 down to 1, then a level of its own sigma at 0."""
    schedule = from_config(VP, steps, skip)
    assert len(schedule) == steps
    assert schedule.t[0] == int(1000 * (1 - skip) - 1)
    assert steps == 1 or schedule.t[-1] == 1
    assert all(a > b for a, b in zip(schedule.t, schedule.t[1:], strict=False))
    assert schedule.sigma[-1] == pytest.approx(0.00085**0.5)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize(("kind", "order"), [(DPMSolverMultistepScheduler, 2), (DDIMScheduler, 1)])
def test_any_scheduler_can_have_the_times_of_the_authors(kind, order, spacing):
    config = {**VP, "timestep_spacing": spacing}
    if order == 2:
        config |= {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}
    assert from_scheduler(kind(**config), 20, 0.15, as_authors=True) == from_config(VP, 20, 0.15, order)


def test_flow_ends_clean_and_shifts():
    schedule = from_config({"num_train_timesteps": 1000, "shift": 3.0}, 4, 0.5)
    assert schedule.sigma == pytest.approx((0.75, 9 / 14, 0.5, 0.3, 0.0))
    assert schedule.t == pytest.approx([1000 * s for s in schedule.sigma[:-1]])


@pytest.mark.parametrize(
    ("config", "steps", "skip", "says"),
    [
        (VP, 0, 0.0, "at least 1"),
        (VP, 5, 1.0, "share"),
        (VP, 5, -0.1, "share"),
        (VP, 5, float("nan"), "share"),
        (VP, 1000, 0.0, "fewer steps"),
        (VP, 200, 0.85, "fewer steps"),
        (VP | {"beta_schedule": "odd"}, 5, 0.0, "odd"),
        ({"shift": 1.0, "use_karras_sigmas": True}, 5, 0.0, "use_karras_sigmas"),
        ({"_class_name": "EDMEulerScheduler", "sigma_min": 0.002}, 5, 0.0, "EDMEulerScheduler"),
    ],
)
def test_wrong_settings_are_refused(config, steps, skip, says):
    with pytest.raises(ValueError, match=says):
        from_config(config, steps, skip)


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 25])
def test_models_distilled_to_few_steps_get_their_times(steps):
    """Trailing spacing has diffusers' times; few steps are of first order, and more of second."""
    config = VP | {"timestep_spacing": "trailing"}
    scheduler = DPMSolverMultistepScheduler(**config)
    scheduler.set_timesteps(steps)
    schedule = from_config(config, steps, 0.0)
    assert list(schedule.t) == scheduler.timesteps.tolist()
    assert schedule.order == (1 if steps <= 8 else 2)
    assert from_config(config, 4, 0.5).t == (499, 374, 249, 124)


FLUX = {"shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15, "max_image_seq_len": 4096}
QWEN = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 0.9, "max_image_seq_len": 8192, "shift": 1.0,
        "shift_terminal": 0.02}  # fmt: skip


@pytest.mark.parametrize("config", [FLUX, QWEN, FLUX | {"time_shift_type": "linear"}, {"shift": 6.0}])
@pytest.mark.parametrize("tokens", [256, 1500, 4096])
def test_flows_that_shift_by_size_have_the_levels_of_diffusers(config, tokens):
    scheduler = FlowMatchEulerDiscreteScheduler(**config)
    mu = np.interp(tokens, [256, config.get("max_image_seq_len", 0)], [0.5, config.get("max_shift", 0)])
    if config.get("use_dynamic_shifting"):
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 20, 20), mu=float(mu))
    else:
        # Without sigmas of its own diffusers shifts the smallest one twice.
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 20, 20))
    schedule = from_config(scheduler.config, 20, 0.0, tokens=tokens)
    assert schedule.sigma == pytest.approx(scheduler.sigmas.tolist(), abs=1e-6)
    assert schedule.alpha == pytest.approx([1 - s for s in schedule.sigma])
    kept = from_scheduler(scheduler, 15, 0.25, tokens=tokens)
    assert kept.sigma == pytest.approx(scheduler.sigmas.tolist()[-16:], abs=1e-6)


def test_a_config_with_betas_and_flow_sigmas_is_a_flow():
    """Sana's."""
    schedule = from_config(VP | {"use_flow_sigmas": True, "flow_shift": 3.0}, 20, 0.0)
    assert all(a + s == pytest.approx(1) for a, s in zip(schedule.alpha, schedule.sigma, strict=True))
    assert schedule.sigma[10] == pytest.approx(0.75)


def test_few_steps_of_a_flow_are_of_first_order():
    assert [from_config({"shift": 3.0}, n, 0.1).order for n in (1, 8, 9)] == [1, 1, 2]


@pytest.mark.parametrize("shift", [1.0, 3.0, 6.0])
def test_the_same_default_skip_begins_at_the_same_noise(shift):
    """As noisy as Stable Diffusion is at skip 0.15; without a shift that is 0.13, shifted by 6 it is 0.48."""
    start = from_config({"shift": shift}, 20, flow_skip(shift))
    diffusion = from_config(VP, 50, 0.15)
    assert start.alpha[0] / start.sigma[0] == pytest.approx(diffusion.alpha[0] / diffusion.sigma[0], rel=0.05)
    assert flow_shift({"shift": shift}, None, 20) == shift
