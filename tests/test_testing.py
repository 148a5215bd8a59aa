"""The backbone that is shipped for people who test their own code: it meets the contract, and the editor runs on it."""

import numpy as np
import pytest
import torch

from ledits import Editor
from ledits.testing import DEFAULTS, ToyBackbone

from conftest import picture


def test_nothing_is_lost_between_picture_and_latents():
    images = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    toy = ToyBackbone()
    assert torch.equal(toy.decode(toy.encode(images)), images)


def test_a_word_is_seen_in_its_place_alone():
    toy, x = ToyBackbone(), torch.zeros(2, 1, 12, 16, 16)
    with toy.denoiser(toy.schedule(2, 0.15), maps=True) as denoise:
        clean, maps = denoise(x, [0, 1], ["", "cat", ("dog",)])
    assert denoise.evaluations == 6
    assert clean.shape == (3, 2, 1, 12, 16, 16)
    assert clean[0].abs().max() == 0
    assert maps.shape == (3, 2, 1, 8, 8)
    cells = torch.nn.functional.avg_pool2d(clean[1, 0].abs().sum(1), 2)
    assert cells.flatten().argmax() == maps[1, 0].flatten().argmax()


@pytest.mark.parametrize("edits", [("+hat",), ("cat->dog", "-beach")])
@pytest.mark.parametrize("source", [None, "a cat on a beach"])
def test_the_editor_runs_on_it(edits, source):
    if source is not None and edits == ("+hat",):
        edits = ("->a dog on a beach",)
    editor = Editor(ToyBackbone())
    shown = picture(3, 30, 22)
    inversion = editor.invert(shown, source=source)
    assert np.array_equal(np.asarray(inversion.reconstruction), np.asarray(shown))
    edited = inversion.edit(*edits)
    assert edited.image.size == shown.size
    assert not np.array_equal(np.asarray(edited.image), np.asarray(shown))
    again = editor.edit(shown, *edits, source=source)
    assert np.array_equal(np.asarray(again.image), np.asarray(edited.image))
    assert again.recipe.model == "toy"


def test_another_name_is_another_checkpoint():
    assert ToyBackbone("a").fingerprint == ToyBackbone("a").fingerprint != ToyBackbone("b").fingerprint
    assert ToyBackbone(defaults=DEFAULTS.changed({"steps": 2})).defaults.steps == 2


def test_a_replay_is_exact_on_it():
    inversion = Editor(ToyBackbone()).invert(picture())
    assert inversion.latent_error() < 1e-5
