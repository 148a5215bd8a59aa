"""Outside the used mask not a bit changes, and an edit that changes nothing gives the source back."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from ledits import Editor, scenes
from ledits.asked import regions
from ledits.asked.recipe import parse
from ledits.picture import composite, image
from ledits.picture.frame import Frame
from ledits.scenes.samples import SIDE
from ledits.testing import ToyBackbone

FRAME = Frame(width=60, height=44, working_width=60, working_height=44, padded_width=64, padded_height=48)


def test_weights_are_1_in_the_mask_and_0_beyond_one_cell():
    mask = torch.zeros(2, 12, 16)
    mask[1, 4:6, 4:8] = 1  # cells of 4 pixels
    w = composite.weights([torch.zeros(2, 12, 16), mask], FRAME, [None, None])
    assert w.shape == (44, 60)
    assert (w[16:24, 16:32] == 1).all()
    outside = np.ones_like(w, bool)
    outside[16 - 6 : 24 + 6, 16 - 6 : 32 + 6] = False  # the cell beside it, and half of one of interpolation
    assert (w[outside] == 0).all()
    assert ((w > 0) & (w < 1)).any()
    assert not composite.weights([], FRAME, []).any()


@pytest.mark.parametrize("scale", [1, 3])
def test_weights_follow_a_picture_that_was_scaled(scale):
    mask = torch.zeros(1, 12, 16)
    mask[0, :6] = 1
    large = dataclasses.replace(FRAME, width=60 * scale, height=44 * scale)
    w = composite.weights([mask], large, [None])
    assert w.shape == (44 * scale, 60 * scale)
    assert (w[: 24 * scale] == 1).all()
    assert (w[32 * scale :] == 0).all()


def test_nothing_changes_where_the_weight_is_0_or_the_edit_is_none():
    rng = np.random.default_rng(0)
    source, edited, rebuilt = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    weight = np.zeros((8, 8), np.float32)
    weight[:, 4:] = 0.5
    out = composite.onto(source, edited, rebuilt, weight)
    assert (out[:, :4] == source[:, :4]).all()
    assert (out[:, 4:] != source[:, 4:]).any()
    whole = np.ones((8, 8), np.float32)
    assert (composite.onto(source, rebuilt, rebuilt, whole) == source).all()


def test_what_is_new_is_drawn_without_the_old_details():
    source, rebuilt = np.full((16, 16, 3), 100, np.uint8), np.full((16, 16, 3), 100, np.uint8)
    source[::2] = 120  # a pattern that the autoencoder lost
    edited = rebuilt.copy()
    edited[:, 8:] = 200
    out = composite.onto(source, edited, rebuilt, np.ones((16, 16), np.float32))
    assert (out[:, 8:] == 200).all()
    assert (out[:, :6] == source[:, :6]).all()


def test_an_edit_of_the_bundled_model_keeps_the_rest_of_the_picture(bundled):
    scene = scenes.Scene((scenes.Placed("red heart", 20, 32, 28),), "meadow", 7)
    picture = image.Picture(scene.render(SIDE), None, "")
    inversion = Editor(bundled).invert(picture, steps=10, skip=0.4)
    steps = [step.step for step in inversion.steps("red heart->blue heart")]
    w = composite.weights([step.masks[:, 0] for step in steps], inversion.frame, [None] * len(steps[0].masks))
    out = inversion.edit("red heart->blue heart", composite=True).rgb
    assert 0.02 < (w == 0).mean() < 0.98
    assert (out[w == 0] == picture.rgb[w == 0]).all()
    assert (out[w == 1] != picture.rgb[w == 1]).any()


# What a person drew is a promise


def shape(kind: str, height: int, width: int) -> np.ndarray:
    """A region (H W) in 0..1: half of the picture, a disc, thin lines, a soft blot, or a frame with a hole."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    far = np.hypot((y - height / 2) / height, (x - width / 2) / width)
    found = {
        "half": x < width // 2, "disc": far < 0.3, "lines": (x + y) % max(9, width // 8) < 3,
        "soft": (1 - 3 * far).clip(0, 1), "frame": (far > 0.25) & (far < 0.45),
    }[kind]  # fmt: skip
    return (found.astype(np.float32) * 255).round() / np.float32(255)


@pytest.mark.parametrize("kind", ["half", "disc", "lines", "soft", "frame"])
@pytest.mark.parametrize("size", [(64, 64), (61, 45), (256, 192), (700, 1024)])
@pytest.mark.parametrize("mode", ["words", "caption"])
def test_nothing_moves_outside_a_drawn_region_at_any_size(kind, size, mode):
    """97 pixels beyond the edge changed at 1024, by up to 167 of 255."""
    height, width = size
    shown = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    region = shape(kind, height, width)
    asked = {"words": ({}, "+hat@0"), "caption": ({"source": "a cat"}, "cat->a dog at night@0")}[mode]
    inversion = Editor(ToyBackbone()).invert(shown, **asked[0])
    edited = inversion.edit(asked[1], region=region, composite=True).rgb
    assert (edited[region == 0] == shown[region == 0]).all()
    # Lines that are thinner than a cell of the latents are hardly drawn on.
    assert kind == "lines" or (edited[region > 0.6] != shown[region > 0.6]).any()


def test_each_edit_keeps_to_its_own_region():
    """One edit's region is no leave for another's, and an edit without one is not limited by those of others."""
    shown = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    left, inversion = shape("half", 256, 256), Editor(ToyBackbone()).invert(shown)
    both = inversion.edit("+hat@0", "+sun@0", region=[left, (200, 0, 56, 256)], composite=True).rgb
    assert (both[:, 128:200] == shown[:, 128:200]).all()
    assert (both[:, 202:] != shown[:, 202:]).any()
    free = inversion.edit("+hat@0", "+sun@0", region=[left, None], composite=True).rgb
    assert (free[:, 128:200] != shown[:, 128:200]).any()


@pytest.mark.parametrize("radius", [0, 1, 3, 8, 40])
def test_a_soft_edge_lies_inside(radius):
    region = shape("disc", 120, 160)
    soft = composite.within(region, radius)
    assert (soft <= region).all()
    assert (soft[region == 0] == 0).all()
    if radius in (1, 3, 8):
        assert soft.max() == 1
        # Along a row through its middle: up and down again, and no pixel of the border is an edge.
        row = soft[60]
        assert (np.diff(row[:80]) >= 0).all()
        assert np.diff(row).max() <= 1 / (2 * radius) + 1 / 127
    assert (composite.within(np.ones((20, 30), np.float32), radius) == 1).all()
    thin = np.zeros((40, 40), np.float32)
    thin[20, 10:30] = 1
    assert composite.within(thin, radius)[20, 20] > 0, "what is thinner than its edge is still there"


@pytest.mark.parametrize("form", ["path", "bytes", "PIL", "grey PIL", "palette"])
def test_the_alpha_of_a_region_counts(form, tmp_path):
    """A white mask with a transparent hole opened everything."""
    rgba = np.full((64, 64, 4), 255, np.uint8)
    rgba[:, 32:, 3] = 0
    mask = Image.fromarray(rgba)
    mask = mask.convert("LA") if form == "grey PIL" else mask.convert("PA") if form == "palette" else mask
    if form in ("path", "bytes"):
        mask.save(tmp_path / "mask.png")
        mask = tmp_path / "mask.png" if form == "path" else (tmp_path / "mask.png").read_bytes()
    found = regions.each(mask, [parse("+hat")], 64, 64)[0]
    assert found is not None
    assert (found[:, :32] == 1).all()
    assert not found[:, 32:].any()


@pytest.mark.parametrize("mask", [
    Image.fromarray(np.full((64, 64), 32_768, np.uint16)), Image.fromarray(np.full((64, 64), 0.5, np.float32)),
    Image.new("L", (64, 64), 128), Image.new("RGB", (64, 64), (128, 0, 0)), Image.new("CMYK", (64, 64), (0, 0, 0, 127)),
], ids=lambda mask: mask.mode)  # fmt: skip
def test_a_grey_region_is_as_open_in_every_mode(mask):
    found = regions.each(mask, [parse("+hat")], 64, 64)[0]
    assert found is not None
    assert np.abs(found - 128 / 255).max() <= 1 / 255
