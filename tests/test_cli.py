"""The command line as people and scripts use it: what it writes, what it prints, and what it refuses."""

import functools
import io
import json
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from ledits import backbones
from ledits.cli import main
from ledits.files import artifact, image

FAST = ["--steps", "3", "--device", "cpu"]


@pytest.fixture
def cat(tmp_path, scene_pictures):
    path = tmp_path / "cat.png"
    Image.fromarray(scene_pictures[0]).save(path)
    return path


load_once = functools.cache(backbones.load)


@pytest.fixture
def ledits(capfd, monkeypatch):
    """ledits("edit", ...) runs a command and gives its exit code, output and errors; models are loaded once."""
    monkeypatch.setattr(backbones, "load", load_once)

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return stop.value.code, out, err

    return run


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_help_answers_without_torch():
    code = """
import sys
from ledits.cli import main
try:
    main(["edit", "--help"])
finally:
    assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--show-masks" in done.stdout


def test_edit_writes_a_picture_and_says_how(ledits, cat, tmp_path):
    out = tmp_path / "dog.png"
    code, text, _ = ledits("edit", cat, "cat->dog", "+crown:5@0.8[1..]", "-o", out, "--json", "--seed", "4", *FAST)
    assert code == 0
    answer = json.loads(text)
    assert set(answer) == {
        "output", "seconds", "network_evaluations", "steps", "seed", "edits", "model", "device", "dtype"
    }  # fmt: skip
    assert answer["edits"] == ["cat->dog", "+crown:5@0.8[1..]"]
    assert (answer["steps"], answer["seed"], answer["model"], answer["output"]) == (3, 4, "scenes", str(out))
    # 3 to invert; cat and dog at 3 levels, crown at 2, the null prompt at all but the first
    assert answer["network_evaluations"] == 3 + 6 + 2 + 2
    assert pixels(out).shape == pixels(cat).shape
    assert (pixels(out) != pixels(cat)).any()


def test_removals_look_like_options_and_are_not(ledits, cat, tmp_path):
    for k, word in enumerate(("-dog", "-hat", "-o")):
        out = tmp_path / f"{k}.png"
        code, text, err = ledits("edit", cat, *([word] if word != "-o" else ["-h at"]), "-o", out, "--json", *FAST)
        assert code == 0, err
        assert json.loads(text)["edits"] == [word if word != "-o" else "-h at"]


def test_the_same_seed_gives_the_same_bytes(ledits, cat, tmp_path):
    names = [tmp_path / f"{name}.png" for name in "abc"]
    for name, seed in zip(names, (1, 1, 2), strict=True):
        assert ledits("edit", cat, "+dog", "-o", name, "--seed", seed, *FAST)[0] == 0
    a, b, c = (name.read_bytes() for name in names)
    assert a == b != c


def test_a_recipe_repeats_the_result_bit_for_bit(ledits, cat, tmp_path):
    first, again = tmp_path / "first.webp", tmp_path / "again.webp"
    options = ["--seed", "7", "--skip", "0.3", "--mask", "noise", "--source", "a cat", "--negative", "dark",
               "--source-scale", "2"]  # fmt: skip
    assert ledits("edit", cat, "cat->dog:6@0.7", "-o", first, *options, *FAST)[0] == 0
    assert ledits("edit", "--recipe", first, cat, "-o", again)[0] == 0
    assert first.read_bytes() == again.read_bytes()
    code, _, err = ledits("edit", "--recipe", first, cat, "+hat", "-o", tmp_path / "no.png")
    assert code == 2
    assert "fixes edits" in err
    assert "no recipe" in ledits("edit", "--recipe", cat, cat, "-o", tmp_path / "no.png")[2]


def test_a_thrifty_edit_is_cheaper_and_its_recipe_repeats_it(ledits, cat, tmp_path):
    plain, thrifty, again = (tmp_path / f"{name}.png" for name in ("plain", "thrifty", "again"))
    asked = ["edit", cat, "cat->dog", "--source", "a cat", "--json", *FAST]
    more, fewer = (
        json.loads(ledits(*asked, "-o", out, *how)[1])["network_evaluations"]
        for out, how in ((plain, []), (thrifty, ["--thrifty"]))
    )
    assert fewer < more
    assert plain.read_bytes() != thrifty.read_bytes()
    assert ledits("edit", "--recipe", thrifty, cat, "-o", again)[0] == 0
    assert again.read_bytes() == thrifty.read_bytes()
    code, _, err = ledits("edit", cat, "cat->dog", "--thrifty", "-o", tmp_path / "no.png", *FAST)
    assert code == 2
    assert "--source" in err


def test_what_a_source_costs(ledits, cat, tmp_path):
    """A description finds its edits' places at every second level and takes the place of the null prompt."""
    found = []
    for k, options in enumerate(([], ["--source", "a cat beside a dog"], ["--source", "a cat", "--source-scale", "2"])):
        out = tmp_path / f"{k}.png"
        found.append(json.loads(ledits("edit", cat, "cat->owl", "-o", out, "--json", *options, *FAST)[1]))
    assert [answer["network_evaluations"] for answer in found] == [3 + 8, 3 + 2 + 5, 6 + 8 + 2]
    assert (pixels(tmp_path / "0.png") != pixels(tmp_path / "1.png")).any()


def test_a_saved_inversion_gives_what_a_fresh_one_does(ledits, cat, tmp_path):
    fresh, kept, reused = tmp_path / "fresh.png", tmp_path / "cat.safetensors", tmp_path / "reused.png"
    assert ledits("edit", cat, "+dog", "-o", fresh, "--save-inversion", kept, "--seed", "3", *FAST)[0] == 0
    code, text, _ = ledits("edit", cat, "+dog", "-o", reused, "--inversion", kept, "--json")
    assert code == 0
    assert json.loads(text)["network_evaluations"] == 2 * 3 - 1
    assert fresh.read_bytes() == reused.read_bytes()


def test_invert_checks_what_it_kept(ledits, cat, tmp_path):
    kept = tmp_path / "cat.safetensors"
    code, text, _ = ledits("invert", cat, "-o", kept, "--check", "--json", *FAST)
    assert code == 0
    answer = json.loads(text)
    assert answer["relative_latent_error"] <= 1e-5
    assert answer["network_evaluations"] == 3
    assert len(artifact.load(kept)[0].schedule) == 3
    code, text, _ = ledits("invert", cat, "-o", kept, "--check", "--force", *FAST)
    assert code == 0
    assert "relative latent error" in text


def test_info_tells_pictures_from_inversions(ledits, cat, tmp_path):
    out, kept = tmp_path / "out.png", tmp_path / "cat.safetensors"
    ledits("edit", cat, "+dog", "-o", out, "--save-inversion", kept, *FAST)
    answer = json.loads(ledits("info", out, "--json")[1])
    assert (answer["width"], answer["height"], answer["recipe"]["edits"]) == (64, 64, ["+dog"])
    answer = json.loads(ledits("info", kept, "--json")[1])
    assert (answer["kind"], answer["steps"], answer["model"]) == ("inversion", 3, "scenes")
    assert "recipe: None" in ledits("info", cat)[1]


def test_masks_are_shown(ledits, cat, tmp_path):
    masks = tmp_path / "masks.png"
    options = ["--show-masks", masks, "--mask", "noise", "--steps", "1"]
    assert ledits("edit", cat, "+dog:8@0.7", "-o", tmp_path / "o.png", *options)[0] == 0
    assert (pixels(masks) == pixels(cat)).all(2).mean() == pytest.approx(0.3, abs=0.01)


def test_a_composite_changes_nothing_outside_the_masks(ledits, cat, tmp_path):
    whole, part, again = (tmp_path / name for name in ("whole.png", "part.png", "again.png"))
    edit = ["edit", cat, "cat->dog:5@0.95", "--seed", "4"]
    assert ledits(*edit, "-o", whole, *FAST)[0] == ledits(*edit, "-o", part, "--composite", *FAST)[0] == 0
    changed = [(pixels(path) != pixels(cat)).any(2).mean() for path in (whole, part)]
    assert 0 < changed[1] < changed[0] - 0.1
    assert ledits("edit", "--recipe", part, cat, "-o", again)[0] == 0
    assert (pixels(again) == pixels(part)).all()


@pytest.mark.parametrize(("width", "height"), [(64, 64), (61, 47), (90, 40), (33, 200), (8, 8)])
def test_any_size_comes_back_in_its_size(ledits, tmp_path, width, height):
    path, out = tmp_path / "p.png", tmp_path / "o.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)).save(path)
    assert ledits("edit", path, "+dog", "-o", out, "--steps", "2")[0] == 0
    assert pixels(out).shape == (height, width, 3)


def test_alpha_and_orientation_survive(ledits, tmp_path, scene_pictures):
    path, out = tmp_path / "p.png", tmp_path / "o.png"
    rgba = np.dstack([scene_pictures[1][:48], np.arange(64 * 48, dtype=np.uint16).reshape(48, 64).astype(np.uint8)])
    turned = Image.fromarray(rgba)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(path, exif=exif)
    assert ledits("edit", path, "+dog", "-o", out, "--steps", "2")[0] == 0
    back = Image.open(out)
    assert back.size == (48, 64)
    assert (np.asarray(back)[..., 3] == np.rot90(rgba[..., 3], -1)).all()


def test_the_default_output_lies_beside_the_picture(ledits, cat):
    assert ledits("edit", cat, "+dog", *FAST)[0] == 0
    assert cat.with_name("cat-edited.png").exists()
    assert ledits("edit", cat, "+dog", *FAST)[0] == 2
    assert ledits("edit", cat, "+dog", "--force", *FAST)[0] == 0


def bomb() -> bytes:
    """A small PNG whose header claims 30000 x 30000 pixels."""
    stream = io.BytesIO()
    Image.new("RGB", (9, 9)).save(stream, "PNG")
    data = bytearray(stream.getvalue())
    data[16:24] = struct.pack(">II", 30000, 30000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def truncated() -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((80, 80), 50).convert("RGB").save(stream, "JPEG")
    return stream.getvalue()[:-300]


def animated() -> bytes:
    stream = io.BytesIO()
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    return stream.getvalue()


def tiny() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (1, 1)).save(stream, "PNG")
    return stream.getvalue()


PICTURES = {
    "empty.png": b"",
    "text.png": b"hello",
    "cut.jpg": truncated(),
    "dot.png": tiny(),
    "bomb.png": bomb(),
    "move.gif": animated(),
}


@pytest.mark.parametrize("name", [*PICTURES, "missing.png", "."])
@pytest.mark.parametrize("command", ["edit", "invert", "info"])
def test_bad_pictures_are_one_sentence(ledits, tmp_path, name, command):
    if name in PICTURES:
        (tmp_path / name).write_bytes(PICTURES[name])
    before = sorted(tmp_path.iterdir())
    rest = {"edit": ["+hat", "-o", tmp_path / "o.png"], "invert": ["-o", tmp_path / "o.safetensors"], "info": []}
    refuses(ledits(command, tmp_path / name, *rest[command]))
    assert sorted(tmp_path.iterdir()) == before


def refuses(result) -> None:
    code, out, err = result
    assert code == 2
    assert out == ""
    assert err.startswith("ledits: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "edit",
    ["", "+", "-", "hat", "->dog", "+hat:nan", "+hat:inf", "+hat:big", "+hat@0", "+hat@1", "+hat@2", "+hat[3..]",
     "+hat[2..1]", "+hat[1..1]"],
)  # fmt: skip
def test_bad_edits_are_one_sentence(ledits, cat, tmp_path, edit):
    refuses(ledits("edit", cat, edit, "-o", tmp_path / "o.png", *FAST))
    assert [p.name for p in tmp_path.iterdir()] == ["cat.png"]


@pytest.mark.parametrize(
    "options",
    [
        ["--model", "nowhere"], ["--source-scale", "2"],
        ["--source", "a cat", "--mask", "noise"], ["--source", "a cat", "--negative", "dark"],
        ["--model", "no/such/thing"], ["--steps", "0"], ["--steps", "5000"], ["--skip", "1"],
        ["--skip", "nan"], ["--device", "abacus"], ["--dtype", "int4"], ["--size", "2"], ["-o", "none/o.png"],
        ["-o", "o.bmp"], ["-o", "o"], ["-o", "."], ["--inversion", "missing.safetensors"], ["--inversion", "cat.png"],
        ["--inversion", "foreign.safetensors"], ["--inversion", "cut.safetensors"], ["--recipe", "cat.png"],
        ["--inversion", "cut.safetensors", "--seed", "3"], ["--show-masks", "o.png"], ["--save-inversion", "x.pt"],
        ["--show-masks", "cat.png"], ["-o", "cat.png"],
    ],
)  # fmt: skip
def test_bad_options_are_one_sentence(ledits, cat, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    header = json.dumps({"__metadata__": {"other": "1"}}).encode()
    foreign = struct.pack("<Q", len(header)) + header
    (tmp_path / "foreign.safetensors").write_bytes(foreign)
    (tmp_path / "cut.safetensors").write_bytes(foreign[:-4])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    output = [] if "-o" in options else ["-o", "o.png"]
    refuses(ledits("edit", cat, "+hat", *output, *options))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_pickle_only_model_is_one_sentence(ledits, cat, tmp_path):
    model = tmp_path / "model"
    (model / "unet").mkdir(parents=True)
    (model / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (model / "unet/diffusion_pytorch_model.bin").write_bytes(b"")
    result = ledits("edit", cat, "+hat", "-o", tmp_path / "o.png", "--model", model)
    refuses(result)
    assert "pickle" in result[2]


@pytest.mark.parametrize("edit", ["dog->owl", "-dog", "-cat"])
def test_a_description_without_the_word_is_one_sentence(ledits, cat, tmp_path, edit):
    refuses(ledits("edit", cat, edit, "-o", tmp_path / "o.png", "--source", "a cat"))


def test_an_inversion_remembers_its_description(ledits, cat, tmp_path):
    """An edit from it is the edit made in one go."""
    kept, once, again = (tmp_path / name for name in ("cat.safetensors", "once.png", "again.png"))
    source = ["--source", "a cat on a meadow"]
    assert ledits("invert", cat, "-o", kept, *source, *FAST, "--skip", "0.1")[0] == 0
    assert ledits("edit", cat, "cat->dog", "-o", once, *source, *FAST)[0] == 0
    assert ledits("edit", cat, "cat->dog", "-o", again, "--inversion", kept)[0] == 0
    assert np.array_equal(pixels(once), pixels(again))


def test_an_inversion_of_another_picture_is_refused(ledits, cat, tmp_path, scene_pictures):
    other, kept = tmp_path / "other.png", tmp_path / "cat.safetensors"
    image.write(other, scene_pictures[2])
    assert ledits("invert", cat, "-o", kept, *FAST)[0] == 0
    refuses(ledits("edit", other, "+hat", "--inversion", kept, "-o", tmp_path / "o.png"))


def test_no_edit_is_one_sentence(ledits, cat, tmp_path):
    refuses(ledits("edit", cat, "-o", tmp_path / "o.png"))


def test_unknown_options_are_usage_errors(ledits, cat):
    code, _, err = ledits("edit", cat, "+hat", "--scael", "3")
    assert code == 2
    assert "--scael" in err
