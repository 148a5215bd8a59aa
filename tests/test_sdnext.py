"""SD.Next's script on a tiny checkpoint; what it imports of SD.Next and of gradio is stood in for."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image

from ledits import Editor

from conftest import picture, random_parts, scheduler, tiny

SCRIPT = Path(__file__).parents[1] / "integrations/sdnext/scripts/ledits.py"


class Processed:
    """As SD.Next's: the pictures and what is said of them."""

    def __init__(self, p: Any, images_list: list[Image.Image], seed: int = -1, info: str | None = None) -> None:
        self.images, self.seed, self.info = images_list, seed, info or f"of {p.extra_generation_params}"


@pytest.fixture
def host(monkeypatch):
    """SD.Next's modules, with a checkpoint loaded for its image tab."""
    saved: list[Any] = []
    shared = SimpleNamespace(
        sd_model=tiny(StableDiffusionImg2ImgPipeline, scheduler(), random_parts(levels=3)),
        state=SimpleNamespace(interrupted=False, skipped=False, sampling_step=0, sampling_steps=0),
        opts=SimpleNamespace(samples_format="png"),
    )
    said = {
        "shared": shared, "devices": SimpleNamespace(device="cpu"), "saved": saved,
        "images": SimpleNamespace(save_image=lambda image, **more: saved.append((image, more))),
        "processing": SimpleNamespace(Processed=Processed, get_fixed_seed=lambda seed: 7 if seed == -1 else seed),
        "scripts_manager": SimpleNamespace(Script=object),
        "sd_models": SimpleNamespace(move_model=lambda model, device: model.to(device)),
    }  # fmt: skip
    modules = ModuleType("modules")
    vars(modules).update(said)
    monkeypatch.setitem(sys.modules, "modules", modules)
    monkeypatch.setitem(sys.modules, "gradio", ModuleType("gradio"))
    return modules


@pytest.fixture
def script(host):
    spec = importlib.util.spec_from_file_location("sdnext_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Script()


def asked(**changed: Any) -> SimpleNamespace:
    usual = {
        "init_images": [picture(width=48, height=32)], "prompt": "a cat and a hat", "steps": 4,
        "denoising_strength": 0.75, "seed": -1, "image_mask": None, "extra_generation_params": {},
        "do_not_save_samples": False, "outpath_samples": "outputs",
    }  # fmt: skip
    return SimpleNamespace(**(usual | changed))


@pytest.mark.parametrize("prompt", ["a cat and a hat", ""], ids=["caption", "words"])
def test_the_script_gives_what_the_editor_gives_and_leaves_the_model_as_it_was(prompt, script, host):
    mask = Image.fromarray(np.pad(np.full((16, 24), 255, np.uint8), ((0, 16), (0, 24))))
    loaded = host.shared.sd_model
    p = asked(prompt=prompt, image_mask=mask)
    done = script.run(p, "cat->dog", True)
    wanted = Editor.from_pipe(loaded).edit(
        p.init_images[0], "cat->dog", source=prompt or None, steps=4, skip=0.25, seed=7, region=mask, composite=True
    )
    assert np.array_equal(done.images[0], wanted.image)
    outside = np.asarray(mask) == 0
    assert np.array_equal(np.asarray(done.images[0])[outside], np.asarray(p.init_images[0])[outside])
    assert done.seed == 7
    assert p.extra_generation_params == {"LEDITS++": "cat->dog"}
    assert np.array_equal(host.saved[0][0], done.images[0])
    assert host.shared.sd_model is loaded
    assert host.shared.state.sampling_step > 0


def test_several_edits_stand_in_one_line(script):
    p = asked()
    script.run(p, "cat->dog, -hat", False)
    assert p.extra_generation_params == {"LEDITS++": "cat->dog, -hat"}


def test_what_can_not_be_done_is_a_sentence_and_no_picture(script, host):
    for edit, changed, why in (
        ("", {}, "an edit and a picture are needed"),
        ("+hat", {"init_images": []}, "an edit and a picture are needed"),
        ("make it nice", {}, "'make it nice' is not understood"),
    ):
        done = script.run(asked(**changed), edit, True)
        assert done.images == []
        assert why in done.info
    host.shared.state.interrupted = True
    done = script.run(asked(), "cat->dog", True)
    assert (done.images, done.info) == ([], "LEDITS++: the edit was interrupted")
    assert host.saved == []
