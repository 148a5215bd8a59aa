"""The command line as people and scripts use it: what it writes, what it prints, and what it refuses."""

import contextlib
import functools
import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from ledits import backbones, editor
from ledits.cli import main
from ledits.files import artifact, checkpoints
from ledits.picture import image

FAST = ["--steps", "3", "--device", "cpu"]


@pytest.fixture
def cat(tmp_path, scene_pictures):
    path = tmp_path / "cat.png"
    Image.fromarray(scene_pictures[0]).save(path)
    return path


load_once = functools.cache(backbones.loaded)


@pytest.fixture
def ledits(capfd, monkeypatch):
    """ledits("edit", ...) runs a command and gives its exit code, output and errors; models are loaded once."""
    monkeypatch.setattr(editor, "loaded", load_once)

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
        "output", "seconds", "network_evaluations", "steps", "seed", "edits", "targets", "model", "device", "dtype"
    }  # fmt: skip
    assert answer["edits"] == ["cat->dog", "+crown:5@0.8[1..]"]
    assert (answer["steps"], answer["seed"], answer["model"], answer["output"]) == (3, 4, "scenes", str(out))
    # 3 to invert, 3 for the caption that the edits imply, 2 levels each to locate them; dog at 3 levels, crown at 2,
    # the caption at all but the first
    assert answer["network_evaluations"] == 3 + 3 + 4 + 3 + 2 + 2
    assert pixels(out).shape == pixels(cat).shape
    assert (pixels(out) != pixels(cat)).any()


def test_removals_look_like_options_and_are_not(ledits, cat, tmp_path):
    for k, word in enumerate(("-dog", "-owl", "-h at")):
        out = tmp_path / f"{k}.png"
        code, text, err = ledits("edit", cat, word, "-o", out, "--json", "--anyway", *FAST)
        assert code == 0, err
        assert json.loads(text)["edits"] == [word]


def test_options_win_where_they_are_options(ledits, cat, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ledits("edit", "cat.png", "+dog", "-oout.png", "-q", *FAST) == (0, "", "")
    (tmp_path / "-dash.png").write_bytes(cat.read_bytes())
    assert ledits("edit", "-ov.png", *FAST, "--", "-dash.png", "-dog")[0] == 0
    assert (tmp_path / "out.png").exists()
    assert (tmp_path / "v.png").exists()


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
    code, _, err = ledits("edit", "--recipe", first, cat, "+dog", "-o", tmp_path / "no.png")
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
    """A description finds its edits' places at every second level, tells two things apart at one, and takes the place
    of the null prompt.
    """
    found = []
    for k, options in enumerate(
        (["--mask", "intersect"], ["--source", "a cat and a dog"], ["--source", "a cat", "--source-scale", "2"])
    ):
        out = tmp_path / f"{k}.png"
        found.append(json.loads(ledits("edit", cat, "cat->owl", "-o", out, "--json", *options, *FAST)[1]))
    assert [answer["network_evaluations"] for answer in found] == [3 + 8, 3 + 2 + 2 + 5, 6 + 8 + 2]
    assert (pixels(tmp_path / "0.png") != pixels(tmp_path / "1.png")).any()


def test_a_saved_inversion_gives_what_a_fresh_one_does(ledits, cat, tmp_path):
    fresh, kept, reused = tmp_path / "fresh.png", tmp_path / "cat.safetensors", tmp_path / "reused.png"
    assert ledits("edit", cat, "+dog", "-o", fresh, "--save-inversion", kept, "--seed", "3", *FAST)[0] == 0
    code, text, _ = ledits("edit", cat, "+dog", "-o", reused, "--inversion", kept, "--json")
    assert code == 0
    assert json.loads(text)["network_evaluations"] == 2 + 2 * 3 - 1
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
    assert (answer["width"], answer["height"], answer["recipe"]["edits"]) == (128, 128, ["+dog"])
    answer = json.loads(ledits("info", kept, "--json")[1])
    assert (answer["kind"], answer["steps"], answer["model"]) == ("inversion", 3, "scenes")
    assert "recipe: None" in ledits("info", cat)[1]


def test_masks_are_shown(ledits, cat, tmp_path):
    masks = tmp_path / "masks.png"
    options = ["--show-masks", masks, "--mask", "noise", "--steps", "1"]
    assert ledits("edit", cat, "+dog:8@0.7", "-o", tmp_path / "o.png", *options)[0] == 0
    shown, whole = pixels(masks).astype(float), pixels(cat).astype(float)
    dimmed = 0.25 * whole.mean(2, keepdims=True) + 40
    open_ = np.abs(shown - whole).sum(2) < np.abs(shown - dimmed).sum(2)
    # The edges of its cells run smoothly, and how many there are depends on the rounding.
    assert open_.mean() == pytest.approx(0.3, abs=0.06)


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
    assert ledits("edit", path, "+dog", "-o", out, "--steps", "2", "--anyway")[0] == 0
    assert pixels(out).shape == (height, width, 3)


def test_alpha_and_orientation_survive(ledits, tmp_path, scene_pictures):
    path, out = tmp_path / "p.png", tmp_path / "o.png"
    alpha = np.arange(128 * 96, dtype=np.uint16).reshape(96, 128).astype(np.uint8)
    rgba = np.dstack([scene_pictures[1][:96], alpha])
    turned = Image.fromarray(rgba)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(path, exif=exif)
    assert ledits("edit", path, "+dog", "-o", out, "--steps", "2", "--anyway")[0] == 0
    back = Image.open(out)
    assert back.size == (96, 128)
    assert (np.asarray(back)[..., 3] == np.rot90(rgba[..., 3], -1)).all()


def test_the_default_output_lies_beside_the_picture(ledits, cat):
    assert ledits("edit", cat, "+dog", *FAST)[0] == 0
    assert cat.with_name("cat-edited.png").exists()
    assert ledits("edit", cat, "+dog", *FAST)[0] == 2
    assert ledits("edit", cat, "+dog", "--force", *FAST)[0] == 0


def refuses(result) -> None:
    code, out, err = result
    assert code == 2
    assert out == ""
    assert err.startswith("ledits: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_a_pickle_only_model_is_one_sentence(ledits, cat, tmp_path):
    model = tmp_path / "model"
    (model / "unet").mkdir(parents=True)
    (model / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (model / "unet/diffusion_pytorch_model.bin").write_bytes(b"")
    result = ledits("edit", cat, "+dog", "-o", tmp_path / "o.png", "--model", model)
    refuses(result)
    assert "pickle" in result[2]


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
    refuses(ledits("edit", other, "+dog", "--inversion", kept, "-o", tmp_path / "o.png"))


@pytest.mark.parametrize("words", [["+monocle"], ["cat->wibblefrotz"], ["+dog", "--source", "a cat on a sofa"]])
def test_a_word_that_the_bundled_model_does_not_know_is_refused_unless_told(ledits, cat, tmp_path, words):
    result = ledits("edit", cat, *words, "-o", tmp_path / "o.png", *FAST)
    refuses(result)
    for part in ("ledits models", "--model", "--anyway"):
        assert part in result[2]
    assert ledits("edit", cat, *words, "-o", tmp_path / "o.png", "--anyway", *FAST)[0] == 0


@pytest.mark.parametrize("command", ["edit", "invert"])
def test_a_photograph_with_the_bundled_model_is_refused_unless_told(ledits, tmp_path, command):
    path = tmp_path / "photo.png"
    # As a photograph: detail at every scale. Its spectrum falls off as 1/f.
    rng = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256))) + 1 / 256
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((3, 256, 256))) / frequency).real
    scaled = 128 + 50 * noise / noise.std()
    Image.fromarray(scaled.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)).save(path)
    words = {"edit": ["+dog", "-o", tmp_path / "o.png"], "invert": ["-o", tmp_path / "o.safetensors"]}[command]
    result = ledits(command, path, *words, *FAST)
    refuses(result)
    assert "smear" in result[2]
    assert ledits(command, path, *words, "--anyway", *FAST)[0] == 0


def test_models_lists_the_words_and_what_is_in_the_cache(ledits, tmp_path, monkeypatch):
    whole = json.loads((checkpoints.find("scenes") / "model_index.json").read_text())
    for name, family in (("a--sd", "StableDiffusionPipeline"), ("b--flux", "LTXPipeline")):
        snapshot = tmp_path / f"models--{name}" / "snapshots" / "0"
        snapshot.mkdir(parents=True)
        (snapshot / "model_index.json").write_text(json.dumps(whole | {"_class_name": family}))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    models = json.loads(ledits("models", "--json")[1])["models"]
    assert [(model["name"], model["works"]) for model in models] == [
        ("scenes", True),
        ("scenes-flow", True),
        ("a/sd", True),
        ("b/flux", False),
    ]
    assert "panda" in models[0]["words"]
    assert "sunglasses" in models[0]["words"]
    assert "monocle" not in models[0]["words"]
    assert "panda" in models[1]["words"]


def test_standard_input_to_standard_output(cat):
    command = [sys.executable, "-m", "ledits", "edit", "-", "+dog", *FAST]
    done = subprocess.run(command, input=cat.read_bytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    with Image.open(io.BytesIO(done.stdout)) as result:
        assert (result.format, result.size) == ("PNG", (128, 128))
    # Nothing else is said there, by this package or by another.
    assert done.stderr.decode().count("\n") == 1


def test_several_pictures_go_into_a_folder_in_their_own_formats(ledits, cat, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(pixels(cat)).save("two.jpg", quality=95)
    code, text, err = ledits("edit", "cat.png", "*.jpg", "+dog", "-o", "out", "--json", *FAST)
    assert code == 0, err
    assert [json.loads(line)["output"] for line in text.splitlines()] == ["out/cat.png", "out/two.jpg"]
    assert image.ending(tmp_path / "out/two.jpg") == ".jpg"
    assert ledits("edit", "two.jpg", "+dog", *FAST)[0] == 0
    assert (tmp_path / "two-edited.jpg").exists()


def test_a_region_and_a_box_limit_an_edit(ledits, cat, tmp_path):
    region, by_file, by_box = (tmp_path / name for name in ("region.png", "file.png", "box.png"))
    mask = np.zeros((128, 128), np.uint8)
    mask[16:80, 8:56] = 255
    Image.fromarray(mask).save(region)
    edit = ["--mask", "none", "--composite", "--seed", "2", *FAST]
    assert ledits("edit", cat, "+dog", "--region", region, "-o", by_file, *edit)[0] == 0
    assert ledits("edit", cat, "+dog|8,16,48,64", "-o", by_box, *edit)[0] == 0
    assert (pixels(by_file) == pixels(by_box)).all()
    changed = (pixels(by_box) != pixels(cat)).any(2)
    assert changed[16:80, 8:56].any()
    # The decoder carries a change one cell of the latents further, and the seam is soft over half of another.
    changed[4:92, :68] = False
    assert not changed.any()


def test_quality_and_metadata(ledits, cat, tmp_path):
    photo, small, kept = (tmp_path / name for name in ("p.jpg", "small.jpg", "kept.jpg"))
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Camera & Co", 6
    Image.fromarray(pixels(cat)).save(photo, quality=95, exif=exif)
    assert ledits("edit", photo, "+dog", "-o", small, "--quality", "20", "--no-recipe", *FAST)[0] == 0
    assert ledits("edit", photo, "+dog", "-o", kept, "--keep-metadata", *FAST)[0] == 0
    assert small.stat().st_size < kept.stat().st_size / 2
    assert image.read_recipe(small) is None
    with Image.open(small) as without, Image.open(kept) as full:
        assert 0x010F not in without.getexif()
        assert full.getexif()[0x010F] == "Camera & Co"
        assert 0x0112 not in full.getexif()
    assert image.read_recipe(kept)["edits"] == ["+dog"]


def test_a_recipe_names_a_folder_without_the_path_to_it(ledits, cat, tmp_path, monkeypatch):
    """A stranger's recipe names no place of this machine, and its model is loaded only when it is said."""
    folder, out, again = tmp_path / "private" / "mine", tmp_path / "out.png", tmp_path / "again.png"
    folder.parent.mkdir()
    folder.symlink_to(checkpoints.find("scenes"))
    assert ledits("edit", cat, "+dog", "-o", out, "--model", folder, *FAST)[0] == 0
    assert "private" not in json.dumps(image.read_recipe(out))
    refused = ledits("edit", "--recipe", out, cat, "-o", again)
    refuses(refused)
    assert "--model" in refused[2]
    assert ledits("edit", "--recipe", out, cat, "-o", again, "--model", folder)[0] == 0
    assert (pixels(out) == pixels(again)).all()


def test_number_formats_have_short_names(ledits, cat, tmp_path):
    code, text, _ = ledits("edit", cat, "+dog", "-o", tmp_path / "o.png", "--dtype", "bf16", "--json", *FAST)
    assert code == 0
    assert json.loads(text)["dtype"] == "bfloat16"


def test_the_environment_names_model_and_device(ledits, cat, tmp_path, monkeypatch):
    monkeypatch.setenv("LEDITS_MODEL", "nowhere")
    assert "nowhere" in ledits("edit", cat, "+dog", "-o", tmp_path / "o.png", *FAST)[2]
    assert ledits("edit", cat, "+dog", "-o", tmp_path / "o.png", "--model", "scenes", *FAST)[0] == 0


def test_errors_are_objects_under_json(ledits, cat):
    code, out, err = ledits("edit", cat, "+dog:nan", "--json")
    assert (code, err) == (2, "")
    assert "finite" in json.loads(out)["error"]
    code, out, err = ledits("edit", cat, "+dog", "--json", "--frob")
    assert (code, err) == (2, "")
    assert "--frob" in json.loads(out)["error"]


def test_help_shows_defaults_groups_and_the_grammar(ledits, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    code, out, _ = ledits("edit", "--help")
    assert code == 0
    for part in ("[default: scenes]", "[default: 0]", "The inversion", "Files", "+hat@0.9", "+hat:8", "'+hat[2..40]'"):
        assert part in out
    assert ledits("--version")[1].startswith("ledits 0.")
    listed = ledits("--help")[1]
    assert all(name in listed for name in ("edit", "invert", "info", "models", "demo", "bench"))


def test_verbose_says_what_is_done_and_quiet_nothing(ledits, cat, tmp_path):
    _, _, err = ledits("edit", cat, "+dog", "-o", tmp_path / "a.png", "-v", *FAST)
    said = [line.split("s  ")[1] for line in err.splitlines()]
    assert said == ["loading the model", "inverting", "+dog tells the network: a dog", "editing"]
    assert ledits("edit", cat, "+dog", "-o", tmp_path / "b.png", "-q", *FAST) == (0, "", "")


def test_a_full_disk_is_one_sentence(ledits, cat):
    target = "/dev/full"
    if not os.path.exists(target):
        pytest.skip("needs /dev/full")
    command = [sys.executable, "-m", "ledits", "edit", str(cat), "+dog", "-o", "-", *FAST]
    with open(target, "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    refuses((done.returncode, "", done.stderr))


def test_what_a_killed_process_left_is_swept_by_the_next(tmp_path):
    code = f"""
import sys, time
from pathlib import Path
from ledits.files.atomic import written
with written(Path({str(tmp_path / "a.png")!r}), overwrite=False) as temporary:
    temporary.write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(60)
"""
    killed, started = [], contextlib.ExitStack()
    for how in (signal.SIGKILL, None):
        process = started.enter_context(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE))
        assert process.stdout.readline() == b"ready\n"
        killed.append(process)
        if how:
            process.send_signal(how)
            process.wait()
    left = sorted(tmp_path.iterdir())
    assert len(left) == 2
    for path in left:
        os.utime(path, (time.time() - 60,) * 2)
    image.write(tmp_path / "b.png", np.zeros((9, 9, 3), np.uint8))
    # The one that is still being written stays.
    assert len([path for path in tmp_path.iterdir() if path.name.startswith(".ledits")]) == 1
    killed[1].kill()
    started.close()


def test_info_of_a_models_folder_says_its_family_and_the_words_it_knows(ledits, tmp_path):
    folder = checkpoints.find("scenes")
    code, text, _ = ledits("info", folder, "--json")
    said = json.loads(text)
    assert (code, said["kind"], said["family"]) == (0, "model", "StableDiffusionPipeline")
    assert "cat" in said["words"]
    assert said["parts"]["unet"]["files"]["plain"]["format"] == "F16"
    assert said["works"] is True
    code, _, err = ledits("info", tmp_path)
    assert (code, err.count("\n")) == (2, 1)
    assert "model_index.json" in err


def test_a_recipe_that_a_jpeg_cannot_hold_is_refused_before_the_work(ledits, cat, tmp_path, monkeypatch):
    region = tmp_path / "soft.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (512, 512), np.uint8)).save(region)
    big = tmp_path / "big.jpg"
    Image.open(cat).resize((512, 512)).save(big)
    monkeypatch.setattr(editor, "loaded", lambda *_, **__: pytest.fail("the model was loaded"))
    code, _, err = ledits("edit", big, "cat->dog", "--region", region, *FAST)
    assert code == 2
    assert "longer than a JPEG can hold: choose a .png name, or leave the recipe out with --no-recipe" in err
    assert not (tmp_path / "big-edited.jpg").exists()


def test_two_ways_to_the_same_file_are_one_output(ledits, cat, tmp_path):
    (tmp_path / "sub").mkdir()
    other = f"{tmp_path}/sub/../out.png"
    code, _, err = ledits("edit", cat, "+hat", "-o", tmp_path / "out.png", "--show-masks", other, "--force", *FAST)
    assert (code, "two outputs have the same name" in err) == (2, True)


def test_an_output_may_stand_after_an_equals_sign(ledits, cat, tmp_path):
    code, _, err = ledits("edit", cat, "+hat", f"-o={tmp_path}/out.png", *FAST)
    assert (code, (tmp_path / "out.png").exists()) == (0, True), err
