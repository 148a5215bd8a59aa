"""Schedules against the training times that diffusers' schedulers define."""

import pytest
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler

from ledits.schedule import from_config

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
        ({"shift": 1.0, "use_dynamic_shifting": True}, 5, 0.0, "not supported"),
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
