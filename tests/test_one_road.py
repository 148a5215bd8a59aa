"""Captioned edits of one, two and three things are the same to the last bit, whatever surface they come through."""

import inspect
import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import tiny_families
from ledits import (
    Editor,
    LEditsPPPipelineFlux,
    LEditsPPPipelineQwenImage,
    LEditsPPPipelineStableDiffusion,
    LEditsPPPipelineStableDiffusion3,
    LEditsPPPipelineStableDiffusionXL,
)
from ledits.asked import settings
from ledits.asked.plan import Plan
from ledits.asked.settings import InvertOptions
from ledits.batch.jobs import Ask
from ledits.cli import app
from ledits.cli.invert_options import OPTIONS
from ledits.editor import Inversion
from ledits.picture import image
from ledits.scenes import suits
from ledits.scenes.samples import draw
from ledits.server.schemas import InversionIn
from ledits.testing import ToyBackbone
from ledits_bench import cases, methods
from ledits_bench.asked import asked
from ledits_bench.settings import Settings
from serving import decoded, png, served

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
    "qwen_image": lambda: LEditsPPPipelineQwenImage(**tiny_families.make("qwen_image").components),
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
    # What all three become, as one caption, is all three.
    whole = pipe(editing_prompt=["an owl and a dog on a bed"], **call)
    *_, last = inversion.steps("->an owl and a dog on a bed:3")
    assert torch.equal(last.step.x, whole.images)
    assert torch.equal(
        whole.images,
        pipe(
            editing_prompt=[
                "an owl, a fox and a hat on a bed",
                "a cat, a dog and a hat on a bed",
                "a cat and a fox on a bed",
            ],
            **call,
        ).images,
    )


def test_batches_of_captions_are_each_alone():
    """Two pictures, each with its caption and its three edits, as one and as two."""
    pipe = PIPES["sd"]()
    pictures, sources = [picture(1), picture(2)], [SOURCE, "a dog and a hat on a beach"]
    # The second picture's first edit is two at once, and in a batch has a part more than the first one's.
    edits = [list(TARGETS[:2]), ["an owl and a hat in the snow", "a dog on a beach"]]
    pipe.invert(image=pictures, caption=sources, num_inversion_steps=5, generator=[seeded(1), seeded(2)])
    both = pipe(editing_prompt=[list(each) for each in zip(*edits, strict=True)], output_type="latent").images
    for k in range(2):
        pipe.invert(image=pictures[k], caption=sources[k], num_inversion_steps=5, generator=seeded(k + 1))
        alone = pipe(editing_prompt=edits[k], output_type="latent").images
        assert ((both[k] - alone[0]).norm() / alone.norm()).item() < 1e-4


def test_the_benchmark_is_the_editor(bundled):
    """The same case, by the benchmark's method and by the editor: the same latents and as many evaluations."""
    case = next(c for c in cases.suite("tuning", 11 * 12) if c.kind == "three")
    told = asked(case, "typed", suits.world("scenes"))
    side, settings = round(bundled.area**0.5), Settings(steps=6, skip=0.05, scale=2.0)
    shown = case.source.render(side)
    inversion = Editor(bundled).invert(shown, source=told.source, steps=6, skip=0.05, seed=case.seed)
    x0 = bundled.encode(torch.from_numpy(shown[None]).permute(0, 3, 1, 2).float() / 127.5 - 1)
    with torch.inference_mode():
        done = methods.METHODS["ours"].run(bundled, [told], x0, settings)
    replay = inversion.steps(*(replace(edit, scale=2.0) for edit in told.edits))
    *_, last = replay
    assert torch.equal(last.step.x, done.x)
    assert done.evaluations == inversion.network_evaluations + last.network_evaluations


@pytest.fixture
def one_thread():
    """What a network answers depends on how many threads share a sum: as many here as in a batch's worker."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_batch_and_command_line_are_the_editor(tmp_path, one_thread, capfd):
    """What each writes is the editor's picture, byte for byte, and each says what the network was told."""
    shown = draw("pair")
    image.write(tmp_path / "pair.png", shown, None, None)
    source, edits = "a fox and a star on a blue background", ["fox->owl", "star->sunflower"]
    inversion = Editor().invert(tmp_path / "pair.png", source=source, steps=5)
    wanted, told = inversion.edit(*edits), inversion.targets(*edits)
    assert wanted.targets == told == list(wanted.recipe.targets)
    options = ["--source", source, "--steps", "5", "-o", str(tmp_path / "o.png"), "--json", "-v"]
    done = CliRunner().invoke(app, ["edit", str(tmp_path / "pair.png"), *edits, *options])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["targets"] == told
    assert f"fox->owl tells the network: {told[0]}" in done.stderr
    assert np.array_equal(image.read(tmp_path / "o.png").rgb, wanted.rgb)
    rows = tmp_path / "rows.csv"
    rows.write_text("picture,edits,source,steps\npair.png," + ";".join(edits) + f",{source},5\n")
    done = CliRunner().invoke(app, ["batch", str(rows), "-o", str(tmp_path / "out"), "--threads", "1"])
    table = (tmp_path / "out" / "results.jsonl").read_text()
    assert done.exit_code == 0, table
    assert json.loads(table)["targets"] == told
    assert np.array_equal(image.read(next((tmp_path / "out").rglob("*.png"))).rgb, wanted.rgb)


def test_the_server_is_the_editor(tmp_path):
    """One, two and three edits, by edits or by targets, at our own address and at OpenAI's."""
    content = png(1)
    with served(tmp_path) as server, server.client() as client:
        own = Editor(server.backbone).invert(content, source=SOURCE, steps=5)
        made = client.post("/v1/inversions", files={"image": content}, data={"source": SOURCE, "steps": "5"}).json()
        for count in (1, 2, 3):
            wanted = own.edit(*EDITS[:count])
            for said in (EDITS[:count], [f"->{target}" for target in TARGETS[:count]]):
                body = {"edits": list(said), "previews": False}
                got = client.post(f"/v1/inversions/{made['id']}/edits", json=body).json()
                assert got["targets"] == list(TARGETS[:count]) == wanted.targets
                assert np.array_equal(decoded(got["image"]), wanted.rgb)
            fields = {"prompt": ", ".join(EDITS[:count]), "source": SOURCE, "steps": "5"}
            (sent,) = client.post("/v1/images/edits", files={"image": content}, data=fields).json()["data"]
            assert sent["targets"] == list(TARGETS[:count])
            assert np.array_equal(decoded(sent["b64_json"]), wanted.rgb)


def test_a_recipe_that_would_tell_another_caption_is_refused(tmp_path):
    """Rules that write captions may learn: what was told stands in the recipe, and is not told otherwise in silence."""
    editor = Editor(ToyBackbone())
    shown = picture(width=48, height=32)
    made = editor.edit(shown, *EDITS[:2], source=SOURCE, steps=3)
    assert np.array_equal(editor.repeat(shown, made.recipe).rgb, made.rgb)
    other = replace(made.recipe, targets=(TARGETS[0], "a cat, a fox on a bed"))
    with pytest.raises(
        ValueError, match=r"edit '-hat' told the network 'a cat, a fox on a bed'.*give the edit as '->a"
    ):
        editor.repeat(shown, other)


def test_what_leaves_nothing_is_an_edit_of_a_model_that_can_say_so():
    """The plan was checked without the model's own words, and refused what the network has a caption for."""

    def planned(world):
        return Plan.of(
            ["-red heart"], planned_for, region=None, mask=None, composite=False, drop_source_late=False, width=64,
            height=64, world=world,
        )  # fmt: skip

    planned_for = settings.Settings(steps=4, skip=0.1, source="there is a red heart")
    world = suits.world("scenes")
    assert planned(world).targets() == ["an empty background"]
    with pytest.raises(ValueError, match="nothing is left beside 'red heart'"):
        planned(None)


def test_a_model_that_can_say_that_nothing_is_left_is_asked_on_every_surface(tmp_path, capfd):
    """Each surface checks edits before the model computes anything, and refused this; a server is an editor."""
    image.write(tmp_path / "pair.png", draw("pair"), None, None)
    made = Editor().edit(tmp_path / "pair.png", "-fox", source="a fox", steps=3)
    assert made.targets == ["an empty background"]
    options = ["--source", "a fox", "--steps", "3", "-o", str(tmp_path / "o.png"), "--json"]
    done = CliRunner().invoke(app, ["edit", str(tmp_path / "pair.png"), "-fox", *options])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["targets"] == made.targets
    rows = tmp_path / "rows.csv"
    rows.write_text("picture,edits,source,steps\npair.png,-fox,a fox,3\n")
    done = CliRunner().invoke(app, ["batch", str(rows), "-o", str(tmp_path / "out"), "--threads", "1"])
    assert json.loads((tmp_path / "out" / "results.jsonl").read_text())["targets"] == made.targets


def test_every_option_of_an_inversion_is_on_every_surface():
    names = {each.name for each in fields(InvertOptions)}
    assert set(OPTIONS) == names
    assert set(InversionIn.model_fields) - {"model"} == names
    assert names <= {each.name for each in fields(Ask)}
    for function in (Editor.settings, Editor.invert, Editor.edit):
        assert names <= set(inspect.signature(function).parameters)


@pytest.mark.parametrize(("name", "value"), [
    ("source", "a cat"), ("steps", 3), ("skip", 0.3), ("seed", 5), ("negative", "a dog"), ("size", 32),
])  # fmt: skip
def test_an_option_of_an_inversion_arrives(name, value):
    editor, shown = Editor(ToyBackbone()), picture(width=64, height=64)
    wanted = editor.settings(**{name: value})
    assert wanted != editor.settings()
    assert editor.invert(shown, **{name: value}).settings == wanted
    assert editor.edit(shown, "cat->dog", **{name: value}).inversion.settings == wanted
