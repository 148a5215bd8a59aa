"""Captioned edits of one, two and three things are the same to the last bit, whatever surface they come through."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import tiny_families
from ledits import (
    Editor,
    LEditsPPPipelineFlux,
    LEditsPPPipelineStableDiffusion,
    LEditsPPPipelineStableDiffusion3,
    LEditsPPPipelineStableDiffusionXL,
)
from ledits.cli import app
from ledits.editor import Inversion
from ledits.picture import image
from ledits.scenes.samples import draw
from ledits_bench import cases, methods
from ledits_bench.settings import Settings

from conftest import picture, scheduler, seeded, tiny

SOURCE = "a cat, a fox and a hat on a bed"
EDITS = ("cat->owl", "-hat", "fox->dog")
TARGETS = ("an owl, a fox and a hat on a bed", "a cat and a fox on a bed", "a cat, a dog and a hat on a bed")
SD, XL = LEditsPPPipelineStableDiffusion, LEditsPPPipelineStableDiffusionXL
PIPES = {
    "sd": lambda: tiny(SD, scheduler()),
    "sdxl": lambda: tiny(XL, scheduler()),
    "sd3": lambda: LEditsPPPipelineStableDiffusion3(**tiny_families.make("sd3").components),
    "flux": lambda: LEditsPPPipelineFlux(**tiny_families.make("flux").components),
}


@pytest.mark.parametrize("family", PIPES)
def test_pipelines_are_the_editor(family):
    """By targets in a pipeline, by edits or targets in the editor; one, two and three of them."""
    pipe = PIPES[family]()
    pipe.set_progress_bar_config(disable=True)
    shown = picture(width=48, height=32)
    given = pipe.invert(image=shown, caption=SOURCE, num_inversion_steps=5, skip=0.15, generator=seeded())
    own = Editor.from_pipe(pipe).invert(shown, source=SOURCE, steps=5, skip=0.15, size=64)
    # A pipeline's schedule is its scheduler's: the path is given to the editor, and predicted by the same network.
    inversion = Inversion(
        own.editor, own.picture, replace(given.inversion, base_prompt=SOURCE), own.provenance, 0, own.then
    )
    for count in (1, 2, 3):
        call = {"edit_guidance_scale": 3.0, "edit_warmup_steps": 0, "output_type": "latent"}
        out = pipe(editing_prompt=list(TARGETS[:count]), **call)
        for said in ([f"{edit}:3" for edit in EDITS[:count]], [f"->{target}:3" for target in TARGETS[:count]]):
            *_, last = inversion.steps(*said)
            assert torch.equal(last.step.x, out.images), (family, count)


def test_batches_of_captions_are_each_alone():
    """Two pictures, each with its caption and its three edits, as one and as two."""
    pipe = PIPES["sd"]()
    pictures, sources = [picture(1), picture(2)], [SOURCE, "a dog and a hat on a beach"]
    edits = [list(TARGETS[:2]), ["an owl and a hat on a beach", "a dog on a beach"]]
    pipe.invert(image=pictures, caption=sources, num_inversion_steps=5, generator=[seeded(1), seeded(2)])
    both = pipe(editing_prompt=[list(each) for each in zip(*edits, strict=True)], output_type="latent").images
    for k in range(2):
        pipe.invert(image=pictures[k], caption=sources[k], num_inversion_steps=5, generator=seeded(k + 1))
        alone = pipe(editing_prompt=edits[k], output_type="latent").images
        assert ((both[k] - alone[0]).norm() / alone.norm()).item() < 1e-4


def test_the_benchmark_is_the_editor(bundled):
    """The same case, by the benchmark's method and by the editor: the same latents and as many evaluations."""
    case = next(c for c in cases.suite("tuning", 11 * 12) if c.kind == "three")
    side, settings = round(bundled.area**0.5), Settings(steps=6, skip=0.05, scale=2.0)
    shown = case.source.render(side)
    inversion = Editor(bundled).invert(shown, source=case.source.caption(), steps=6, skip=0.05, seed=case.seed)
    x0 = bundled.encode(torch.from_numpy(shown[None]).permute(0, 3, 1, 2).float() / 127.5 - 1)
    with torch.inference_mode():
        done = methods.METHODS["ours"].run(bundled, [case], x0, settings)
    replay = inversion.steps(*(replace(edit, scale=2.0) for edit in case.described()))
    *_, last = replay
    assert torch.equal(last.step.x, done.x)
    assert done.evaluations == inversion.network_evaluations + last.network_evaluations


def test_server_batch_and_command_line_are_the_editor(tmp_path):
    """What each writes is the editor's picture, byte for byte."""
    shown = draw("pair")
    image.write(tmp_path / "pair.png", shown, None, None)
    source, edits = "a fox and a star on a blue background", ["fox->owl", "star->sunflower"]
    wanted = Editor().edit(tmp_path / "pair.png", *edits, source=source, steps=5).rgb
    options = ["--source", source, "--steps", "5", "-o", str(tmp_path / "o.png")]
    done = CliRunner().invoke(app, ["edit", str(tmp_path / "pair.png"), *edits, *options])
    assert done.exit_code == 0, done.output
    assert np.array_equal(image.read(tmp_path / "o.png").rgb, wanted)
    rows = tmp_path / "rows.csv"
    rows.write_text("picture,edits,source,steps\npair.png," + ";".join(edits) + f",{source},5\n")
    done = CliRunner().invoke(app, ["batch", str(rows), "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, (tmp_path / "out" / "results.jsonl").read_text()
    assert np.array_equal(image.read(next((tmp_path / "out").rglob("*.png"))).rgb, wanted)
