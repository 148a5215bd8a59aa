"""Features that are tested apart, drawn together: whatever road an edit takes, it is what the plain way gives.

The plain way: an array of pixels, a fresh editor, one inversion, one edit. A case draws a picture's form, a region's
form, the mode, edits and their settings, whether the inversion was edited before, drafted, saved and opened again, and
by which door the edit comes: the front door, steps, a sheet, a recipe, a batch, the command line. Bits are compared.

LEDITS_COMBINATIONS=2000 (cases), LEDITS_COMBINATIONS_MINUTES=60 (at most) and LEDITS_COMBINATIONS_FIRST=77 (a seed) are
for `make combinations`; a case that fails is printed with its seed.
"""

import contextlib
import hashlib
import io
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ledits import Editor, LEditsPPPipelineStableDiffusion
from ledits.asked.recipe import Recipe
from ledits.batch.jobs import Ask, Model, Planner, Row
from ledits.batch.places import Folder
from ledits.batch.work import Worker
from ledits.batch.worker import introduction
from ledits.editor import Edited, Inversion
from ledits.picture import image
from ledits.scenes import suits
from ledits.testing import DEFAULTS, ToyBackbone

from conftest import picture, relative, scheduler, seeded, tiny

COUNT = int(os.environ.get("LEDITS_COMBINATIONS", "150"))
MINUTES = float(os.environ.get("LEDITS_COMBINATIONS_MINUTES", "1"))
FIRST = int(os.environ.get("LEDITS_COMBINATIONS_FIRST", "0"))

CAPTION = "a star and a cat wearing a bow on a white background"
EDITS = {
    "words": ("+hat", "-moon", "cat->dog", "star->sun", "+sketch"),
    "caption": ("cat->dog", "star->sun", "bow->crown", "white background->meadow", "cat->fox"),
}
PICTURES = {
    "colour": ("array", "float array", "tensor", "PIL", "palette", "path", "bytes", "tiff", "webp", "turned", "RGBX"),
    "grey": ("array", "PIL L", "16 bits", "16 bits path", "path", "CMYK no", "PIL"),
    "alpha": ("RGBA", "path", "bytes", "array of 4"),
}  # fmt: skip
REGIONS = ("float", "uint8", "bool", "PIL", "path", "tensor", "RGBA", "16 bits", "bytes")
DOORS = ("front", "steps", "sheet", "recipe", "batch", "command line")


@dataclass
class Case:
    """What is asked for, and the road that it takes."""

    seed: int
    width: int
    height: int
    kind: str
    form: str
    mode: str
    settings: dict[str, Any]
    edits: list[str]
    region: str  # "none", "one", "each", "box"
    region_form: str
    composite: bool
    drop_source_late: bool
    mask: str | None
    located: bool
    draft: int | None
    reopened: bool
    before: list[str]  # edits that the inversion had before
    idle: bool  # an edit of scale 0 beside the others
    door: str

    @classmethod
    def draw(cls, seed: int) -> "Case":
        rng = random.Random(seed)
        mode = rng.choice(("words", "caption"))
        kind = rng.choice(tuple(PICTURES))
        settings: dict[str, Any] = {
            "steps": rng.choice((2, 4, 7)),
            "skip": rng.choice((0.0, 0.2)),
            "seed": rng.randrange(3),
        }
        located = mode == "words" and rng.random() < 0.3
        if mode == "caption":
            settings["source"] = CAPTION
        elif not located and rng.random() < 0.3:
            settings |= rng.choice(({"negative": "blurry"}, {"source": "a cat", "source_scale": 2.0}))
        if rng.random() < 0.3:
            settings["size"] = 24
        edits = [
            text + rng.choice(("", ":3", "@0.5", ":2@0", "[1..]", "[..2]", ":7"))
            for text in rng.sample(EDITS[mode], rng.choice((1, 1, 2, 3)))
        ]
        return cls(
            seed=seed, width=rng.choice((32, 40, 61)), height=rng.choice((32, 29, 48)), kind=kind,
            form=rng.choice(PICTURES[kind]), mode=mode, settings=settings, edits=edits,
            region=rng.choice(("none", "none", "one", "each", "box")), region_form=rng.choice(REGIONS),
            composite=rng.random() < 0.5, drop_source_late=mode == "caption" and rng.random() < 0.3,
            mask=rng.choice((None, "noise", "none", "attention")) if mode == "words" and not located else None,
            located=located, draft=rng.choice((None, None, 1, 2)), reopened=rng.random() < 0.4,
            before=[rng.choice(EDITS[mode])] if rng.random() < 0.4 else [], idle=rng.random() < 0.25,
            door=rng.choice(DOORS),
        )  # fmt: skip


def editor(case: Case) -> Editor:
    return Editor(ToyBackbone(defaults=DEFAULTS.changed({"located_scale": 3.0} if case.located else {})))


# Pictures and regions, each as one array and in all forms


def drawn(case: Case) -> NDArray[np.uint8]:
    """The picture (H W 3) or (H W 4): few colours, so that a palette can hold them."""
    rng = np.random.default_rng(case.seed)
    colours = rng.integers(0, 256, (12, 3 if case.kind != "grey" else 1), dtype=np.uint8)
    rgb = colours[rng.integers(0, 12, (case.height, case.width))]
    rgb = np.broadcast_to(rgb, (case.height, case.width, 3))
    if case.kind == "alpha":
        rgb = np.dstack([rgb, rng.integers(0, 256, rgb.shape[:2], dtype=np.uint8)])
    return np.ascontiguousarray(rgb)


def formed(case: Case, shown: NDArray[np.uint8], folder: Path) -> Any:
    """The picture in the form that the case says."""

    def saved(suffix: str, picture: Image.Image, **options: Any) -> Path:
        path = folder / f"picture{suffix}"
        picture.save(path, **options)
        return path

    pil = Image.fromarray(shown)
    match case.form:
        case "array" | "array of 4":
            return shown
        case "float array":
            return shown.astype(np.float32) / 255
        case "tensor":
            return torch.from_numpy(shown.copy()).permute(2, 0, 1)
        case "PIL" | "RGBA":
            return pil
        case "PIL L":
            return pil.convert("L")
        case "RGBX":
            return pil.convert("RGBX")
        case "palette":
            return pil.quantize(12, dither=Image.Dither.NONE)
        case "16 bits":
            return Image.fromarray(shown[..., 0].astype(np.uint16) * 257)
        case "16 bits path":
            return saved(".png", Image.fromarray(shown[..., 0].astype(np.uint16) * 257))
        case "bytes":
            buffer = io.BytesIO()
            pil.save(buffer, "PNG")
            return buffer.getvalue()
        case "tiff":
            return str(saved(".tif", pil))
        case "webp":
            return saved(".webp", pil, lossless=True, exact=True)
        case "turned":
            exif = Image.Exif()
            exif[0x0112] = 6
            return saved(".png", pil.transpose(Image.Transpose.ROTATE_90), exif=exif)
        case _:
            return saved(".png", pil)


def regions(case: Case) -> list[NDArray[np.float32] | None]:
    """The region of each edit, in steps of 1/255."""
    rng = np.random.default_rng(case.seed + 1)

    def one() -> NDArray[np.float32]:
        y, x = np.mgrid[: case.height, : case.width]
        far = np.hypot(y - rng.integers(8, 24), x - rng.integers(8, 24))
        soft = (rng.integers(8, 20) - far) / (8 if case.region_form in ("float", "PIL", "path", "uint8") else 0.01)
        return (soft.clip(0, 1).astype(np.float32) * 255).round() / np.float32(255)

    match case.region:
        case "one" | "box":
            return [one()] * len(case.edits)
        case "each":
            return [one() if k % 2 == 0 else None for k in range(len(case.edits))]
        case _:
            return [None] * len(case.edits)


def formed_region(case: Case, mask: NDArray[np.float32] | None, folder: Path, k: int) -> Any:
    if mask is None:
        return None
    eight = (mask * 255).round().astype(np.uint8)
    path = folder / f"region{k}.png"
    Image.fromarray(eight).save(path)
    rgba = np.full((*mask.shape, 4), 255, np.uint8)
    rgba[..., 3] = eight
    forms: dict[str, Callable[[], Any]] = {
        "float": lambda: mask, "uint8": lambda: eight, "bool": lambda: mask > 0.5,
        "PIL": lambda: Image.fromarray(eight), "path": lambda: path, "tensor": lambda: torch.from_numpy(mask.copy()),
        "RGBA": lambda: Image.fromarray(rgba), "16 bits": lambda: Image.fromarray(eight.astype(np.uint16) * 257),
        "bytes": path.read_bytes,
    }  # fmt: skip
    return forms[case.region_form]()


def box(case: Case) -> str:
    return "|3,5,20,17" if case.region == "box" else ""


def boxed(case: Case) -> list[str]:
    return [edit + box(case) for edit in case.edits]


# The plain way, and the drawn one


def plain(case: Case) -> Edited:
    """No form, no file, no other edit: an array, masks that are arrays, one inversion, one edit."""
    shown, masks = drawn(case), regions(case)
    if case.region == "box":
        inside = np.zeros((case.height, case.width), np.float32)
        inside[5:22, 3:23] = 1
        masks = [inside] * len(case.edits)
    inversion = editor(case).invert(shown, **case.settings)
    inversion = inversion if case.draft is None else inversion.draft(case.draft)
    return inversion.edit(
        *case.edits, region=masks, mask=case.mask, composite=case.composite, drop_source_late=case.drop_source_late
    )


def asked(case: Case, folder: Path) -> tuple[list[str], list[Any]]:
    """Edits with their boxes, and regions in their form; an edit of scale 0 last."""
    edits, masks = boxed(case), regions(case)
    if case.region == "box":
        found: list[Any] = [None] * len(edits)
    else:
        found = [formed_region(case, mask, folder, k) for k, mask in enumerate(masks)]
    if case.idle:
        edits, found = [*edits, idle(case)], [*found, None]
    return edits, found


def idle(case: Case) -> str:
    """An edit of scale 0, of something that no other edit is about."""
    free = [
        edit
        for edit in ("cat->owl", "star->moon", "bow->hat", "white background->desert")
        if edit[:3] not in " ".join(case.edits)
    ]
    return "+nothing:0" if case.mode == "words" else f"{free[0]}:0" if free else ""


def road(case: Case, folder: Path) -> NDArray[np.uint8]:
    """The pixels that the drawn road gives."""
    given, (edits, found) = formed(case, drawn(case), folder), asked(case, folder)
    if case.door == "batch":
        return by_batch(case, given, edits, folder)
    if case.door == "command line":
        return by_command(case, given, edits, found, folder)
    inversion = editor(case).invert(given, **case.settings)
    inversion = inversion if case.draft is None else inversion.draft(case.draft)
    if case.reopened:
        inversion.save(folder / "kept.safetensors")
        inversion = editor(case).open_inversion(folder / "kept.safetensors", given)
    for edit in case.before:
        inversion.edit(edit, composite=True)
    how: dict[str, Any] = {
        "region": found if any(each is not None for each in found) else None, "mask": case.mask,
        "composite": case.composite, "drop_source_late": case.drop_source_late,
    }  # fmt: skip
    return by_front(case, inversion, edits, how, given).rgb


def by_front(case: Case, inversion: Inversion, edits: Sequence[str], how: dict[str, Any], given: Any) -> Edited:
    if case.door == "steps":
        replay = inversion.steps(*edits, **how)
        next(replay)
        return replay.result()
    if case.door == "sheet":
        del how["mask"], how["drop_source_late"]
        return inversion.sheet(*edits, scale=(1.0, 4.0), threshold=(0.25,), **how)[0][1]
    made = inversion.edit(*edits, **how)
    if case.door == "recipe":
        written = image.encode(Path("a.png"), made.rgb, None, made.recipe.to_json())
        found = image.read_recipe(written)
        assert found is not None
        return editor(case).repeat(given, Recipe.from_json(found, "here"))
    return made


def by_batch(case: Case, given: Any, edits: Sequence[str], folder: Path) -> NDArray[np.uint8]:
    path, toy = folder / "row.png", editor(case)
    taken = image.take(given)
    path.write_bytes(image.encode(path, taken.rgb, taken.alpha))
    ask = Ask(**case.settings, mask=case.mask, composite=case.composite, drop_source_late=case.drop_source_late)
    planner = Planner(Model(**introduction(toy, "auto")["model"]), "{stem}-{id}.png")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    job = planner.job(Row(1, "row.png", str(path), tuple(edits), ask), digest)
    worker = Worker(toy, Folder(folder / "out"), "w")
    (told,) = [event.row for event in worker.work([job], True, lambda: False) if event.row]
    if told["status"] == "failed":
        raise ValueError(told["error"])
    return image.read(folder / "out" / job.output).rgb


def by_command(case: Case, given: Any, edits: Sequence[str], found: list[Any], folder: Path) -> NDArray[np.uint8]:
    from ledits.cli import main

    path, region = folder / "given.png", folder / "given-region.png"
    taken = image.take(given)
    path.write_bytes(image.encode(path, taken.rgb, taken.alpha))
    words = ["edit", str(path), *edits, "-o", str(folder / "said.png"), "--anyway", "-q"]
    for name, value in case.settings.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    words += ["--composite"] if case.composite else []
    words += ["--mask", case.mask] if case.mask else []
    words += ["--thrifty"] if case.drop_source_late else []
    if any(each is not None for each in found):
        mask = regions(case)[0]
        assert mask is not None
        Image.fromarray((mask * 255).round().astype(np.uint8)).save(region)
        words += ["--region", str(region)]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
        main(words)
    if not (folder / "said.png").exists():
        raise ValueError(said.getvalue())
    return image.read(folder / "said.png").rgb


def possible(case: Case) -> Case:
    """The case without what its door does not have: the plain way is asked the same."""
    if case.door == "sheet":  # every edit at one strength
        case.edits = [edit.split(":")[0].split("@")[0].split("[")[0] + ":4@0.25" for edit in case.edits]
        case.mask, case.drop_source_late, case.idle = None, False, False
    if case.door in ("batch", "command line"):
        case.draft, case.reopened, case.before = None, False, []
        # One region for all edits, and in a batch boxes alone.
        if case.region == "each" or (case.door == "batch" and case.region == "one"):
            case.region = "box"
        case.idle = case.idle and case.region != "one"
    case.idle = case.idle and bool(idle(case))
    if case.form == "tensor" and case.kind != "colour":
        case.form = "path"
    if case.region_form == "bool":
        case.region_form = "bool" if case.region in ("one", "each") else "float"
    return case


def outcome(way: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8] | str:
    try:
        return way()
    except ValueError as error:
        return str(error)


def check(seed: int, folder: Path, counts: Counter[str]) -> None:
    case = possible(Case.draw(seed))
    folder.mkdir()
    expected = outcome(lambda: plain(case).rgb)
    found = outcome(lambda: road(case, folder))
    if isinstance(expected, str) or isinstance(found, str):
        assert isinstance(expected, str), f"{case}: by its road it is refused ({found})"
        assert isinstance(found, str), f"{case}: the plain way refuses it ({expected})"
        counts["refused"] += 1
        return
    shown = drawn(case)[..., :3]
    different = int((expected != found).any(2).sum())
    assert not different, f"{case}: {different} pixels differ, by up to {np.abs(expected.astype(int) - found).max()}"
    limits = [np.zeros((case.height, case.width), np.float32) if m is None else m for m in regions(case)]
    if case.composite and case.region == "one" and not (case.idle and case.region != "one"):
        outside = np.max(limits, axis=0) == 0
        assert (found[outside] == shown[outside]).all(), f"{case}: pixels outside of what was drawn changed"
    counts[case.door] += 1
    counts["changed"] += bool((found != shown).any())


def test_drawn_combinations_are_what_the_plain_way_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    current = list[Case]()
    monkeypatch.setattr(Editor, "of", lambda asked: editor(current[-1]))
    # The command line plans for the model that it names, which is not the one that it is given here.
    monkeypatch.setattr(suits, "world", lambda name: None)
    end, counts = time.monotonic() + 60 * MINUTES, Counter[str]()
    failed = list[str]()
    for seed in range(FIRST, FIRST + COUNT):
        if time.monotonic() > end:
            break
        current.append(replace(possible(Case.draw(seed))))
        try:
            check(seed, tmp_path / str(seed), counts)
        except AssertionError as error:
            failed.append(str(error).split("\n")[0])
    print(f"{sum(counts[door] for door in DOORS)} cases, {counts['refused']} refused by both: {dict(counts)}")
    assert not failed, "\n".join([f"{len(failed)} failed", *failed[:10]])
    assert counts["refused"] < 0.3 * COUNT


# Through diffusers' pipelines: batches, adapters, masks, captions


def check_pipeline(seed: int, pipes: dict[bool, Any]) -> None:
    """Two pictures in one batch are each what it is alone; a scale of 0 gives each back; a mask's form is no matter."""
    rng = random.Random(seed)
    captioned, adapted, size = rng.random() < 0.5, rng.random() < 0.5, rng.choice((32, 40))
    pipe, pictures = pipes[adapted], [picture(seed + k, size, 32) for k in range(2)]
    asked: dict[str, Any] = {"num_inversion_steps": rng.choice((2, 4)), "skip": rng.choice((0.0, 0.25))}
    how: dict[str, Any] = {"output_type": "latent", "edit_guidance_scale": rng.choice((2.0, 6.0))}
    if captioned:
        captions = ["a cat on a beach", "a fox in the snow"]
        # One text for both, or one for each.
        prompts: list[Any] = [["a dog on a beach", "an owl in the snow"]] if rng.random() < 0.5 else ["a dog at night"]
        how["region_threshold"] = rng.choice((0.3, 0.6))
    else:
        captions, prompts = None, rng.choice((["cat"], ["cat", "hat"]))
        how |= {"edit_threshold": rng.choice((0.0, 0.6)), "use_intersect_mask": rng.random() < 0.5}
        how["reverse_editing_direction"] = rng.random() < 0.3
        if rng.random() < 0.3:
            how["negative_prompt"] = "blurry"
    if rng.random() < 0.5:
        mask = np.zeros((32, size), np.float32)
        mask[4:20, 6:30] = 1
        forms = (mask, torch.from_numpy(mask), Image.fromarray((mask * 255).astype(np.uint8)), mask > 0.5)
        rgba = Image.merge("RGBA", [*[Image.new("L", (size, 32), 255)] * 3, forms[2]])
        how["user_mask"] = rng.choice((*forms[:3], rgba))

    def latents(chosen: Sequence[int], **changed: Any) -> torch.Tensor:
        own = None if captions is None else [captions[k] for k in chosen]
        found = pipe.invert(
            image=[pictures[k] for k in chosen], generator=[seeded(seed + k) for k in chosen], caption=own, **asked
        )
        texts = [text if isinstance(text, str) else [text[k] for k in chosen] for text in prompts]
        return pipe(editing_prompt=texts, inversion=found, **{**how, **changed}).images

    both, said = latents([0, 1]), f"seed {seed}: {asked}, {how}, caption {captioned}, LoRA {adapted}"
    for k in range(2):
        apart = relative(both[k], latents([k])[0])
        # Of layers as they are, rounding depends on the batch, and may move one cell of a mask over its threshold.
        most = 5e-2 if how.get("edit_threshold") else 2e-3
        assert apart < most, f"{said}: picture {k} alone differs by {apart:.1e}"
    encoded = pipe.invert(image=pictures, generator=[seeded(seed), seeded(seed + 1)], caption=captions, **asked)
    back = relative(latents([0, 1], edit_guidance_scale=0.0), encoded.inversion.x[-1])
    assert back < 1e-5, f"{said}: scale 0 leaves the picture by {back:.1e}"
    if "user_mask" in how:
        again = latents([0, 1], user_mask=mask)
        assert torch.equal(again, both), f"{said}: another form of the mask gives something else"


def test_drawn_combinations_through_a_pipeline_are_as_alone() -> None:
    peft = pytest.importorskip("peft", reason="peft is in the group dev of pyproject.toml")
    pipes = {adapted: tiny(LEditsPPPipelineStableDiffusion, scheduler()) for adapted in (False, True)}
    torch.manual_seed(7)
    config = peft.LoraConfig(r=2, lora_alpha=8, target_modules=["to_q", "to_out.0", "proj_in"], init_lora_weights=False)
    pipes[True].unet.add_adapter(config)
    end, failed, count = time.monotonic() + 60 * MINUTES, list[str](), 0
    for seed in range(FIRST, FIRST + max(8, COUNT // 12)):
        if time.monotonic() > end:
            break
        count += 1
        try:
            check_pipeline(seed, pipes)
        except AssertionError as error:
            failed.append(str(error).split("\n")[0])
    print(f"{count} cases through a pipeline")
    assert not failed, "\n".join([f"{len(failed)} failed", *failed[:10]])
