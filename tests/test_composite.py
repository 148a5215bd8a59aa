"""Outside the used mask not a bit changes, and an edit that changes nothing gives the source back."""

import dataclasses

import numpy as np
import pytest
import torch

from ledits import Editor, scenes
from ledits.picture import composite, image
from ledits.picture.frame import Frame
from ledits.scenes.samples import SIDE

FRAME = Frame(width=60, height=44, working_width=60, working_height=44, padded_width=64, padded_height=48)


def test_weights_are_1_in_the_mask_and_0_beyond_one_cell():
    mask = torch.zeros(2, 12, 16)
    mask[1, 4:6, 4:8] = 1  # cells of 4 pixels
    w = composite.weights([torch.zeros(2, 12, 16), mask], FRAME)
    assert w.shape == (44, 60)
    assert (w[16:24, 16:32] == 1).all()
    outside = np.ones_like(w, bool)
    outside[16 - 6 : 24 + 6, 16 - 6 : 32 + 6] = False  # the cell beside it, and half of one of interpolation
    assert (w[outside] == 0).all()
    assert ((w > 0) & (w < 1)).any()
    assert not composite.weights([], FRAME).any()


@pytest.mark.parametrize("scale", [1, 3])
def test_weights_follow_a_picture_that_was_scaled(scale):
    mask = torch.zeros(1, 12, 16)
    mask[0, :6] = 1
    large = dataclasses.replace(FRAME, width=60 * scale, height=44 * scale)
    w = composite.weights([mask], large)
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
    w = composite.weights([step.masks[:, 0] for step in steps], inversion.frame)
    out = inversion.edit("red heart->blue heart", composite=True).rgb
    assert 0.02 < (w == 0).mean() < 0.98
    assert (out[w == 0] == picture.rgb[w == 0]).all()
    assert (out[w == 1] != picture.rgb[w == 1]).any()
