"""Bad input on the command line: one sentence, exit code 2, nothing written, and torch is not even loaded.

All cases run in one process in which torch can't be imported.
"""

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

RUNNER = """
import contextlib, io, json, os, sys
sys.modules["torch"] = None
from ledits.cli import main
results = []
for name, words, environment in json.load(sys.stdin):
    os.environ.update(environment)
    out, err, code = io.StringIO(), io.StringIO(), None
    before = sorted((str(p), os.lstat(p).st_mtime_ns) for p, *_ in os.walk("."))
    listed = sorted(os.path.join(d, f) for d, _, fs in os.walk(".") for f in fs)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(words)
        except SystemExit as stop:
            code = stop.code
        except BaseException as error:
            code = f"{type(error).__name__}: {error}"
    for key in environment:
        del os.environ[key]
    now = sorted(os.path.join(d, f) for d, _, fs in os.walk(".") for f in fs)
    results.append([code, out.getvalue(), err.getvalue(), sorted(set(now) ^ set(listed))])
json.dump(results, sys.__stdout__)
"""


def picture(width: int = 64, height: int = 64, **options: object) -> bytes:
    stream = io.BytesIO()
    pixels = np.full((height, width, 3), 120, np.uint8)
    Image.fromarray(pixels).save(stream, options.pop("format", "PNG"), **options)
    return stream.getvalue()


def bomb() -> bytes:
    """A small PNG whose header claims 30000 x 30000 pixels."""
    data = bytearray(picture(9, 9))
    data[16:24] = struct.pack(">II", 30000, 30000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def with_recipe(recipe: object) -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("ledits", recipe if isinstance(recipe, str) else json.dumps(recipe))
    return picture(pnginfo=text)


def inversion(header: object, tensors: object = None) -> bytes:
    said = {"__metadata__": {"ledits": header if isinstance(header, str) else json.dumps(header)}}
    text = json.dumps(said | (tensors or {})).encode()
    return struct.pack("<Q", len(text)) + text


SETTINGS = {
    "steps": 3, "skip": 0.4, "seed": 0, "source": "", "source_scale": 0.0, "negative": "", "area": 4096,
}  # fmt: skip
RECIPE = {
    "edits": ["+dog"], "regions": [None], "model": "scenes", "fingerprint": "00", "settings": SETTINGS,
    "mask": "intersect", "composite": False, "drop_source_late": False, "dtype": "float32", "device": "cpu",
    "format": 3,
}  # fmt: skip
HEADER = {
    "format": 3, "model": "scenes", "fingerprint": "00", "picture": "00", "dtype": "float32", "device": "cpu",
    "settings": SETTINGS, "frame": {}, "t": [1.0], "alpha": [0.5, 1.0], "sigma": [0.5, 0.0], "order": 2,
}  # fmt: skip


def changed(base: dict, **values: object) -> dict:
    return {**base, **values}


def lacking(base: dict, name: str) -> dict:
    return {key: value for key, value in base.items() if key != name}


RECIPES = {
    "none": picture(), "list": with_recipe([1]), "text": with_recipe('"x"'), "broken": with_recipe("{"),
    "deep": with_recipe("[" * 100_000), "empty": with_recipe({}), "old": with_recipe(changed(RECIPE, format=1)),
    "format": with_recipe(changed(RECIPE, format="3")),
    **{f"without-{name}": with_recipe(lacking(RECIPE, name)) for name in RECIPE},
    "more": with_recipe(changed(RECIPE, more=1)), "edits-text": with_recipe(changed(RECIPE, edits="+dog")),
    "edits-none": with_recipe(changed(RECIPE, edits=[])), "edits-number": with_recipe(changed(RECIPE, edits=[3])),
    "edits-bad": with_recipe(changed(RECIPE, edits=["hat"])),
    "edits-nan": with_recipe(changed(RECIPE, edits=["+a:nan"])),
    "regions": with_recipe(changed(RECIPE, regions=[])), "region-type": with_recipe(changed(RECIPE, regions=[3])),
    "region-base64": with_recipe(changed(RECIPE, regions=["???"])),
    "region-picture": with_recipe(changed(RECIPE, regions=["AAAA"])),
    "mask": with_recipe(changed(RECIPE, mask="evil")), "mask-type": with_recipe(changed(RECIPE, mask=["noise"])),
    "mask-null": with_recipe(changed(RECIPE, mask=None)), "model": with_recipe(changed(RECIPE, model="")),
    "model-type": with_recipe(changed(RECIPE, model=3)), "model-hub": with_recipe(changed(RECIPE, model="evil/model")),
    "model-path": with_recipe(changed(RECIPE, model="/etc")), "device": with_recipe(changed(RECIPE, device="meta")),
    "device-type": with_recipe(changed(RECIPE, device=None)), "dtype": with_recipe(changed(RECIPE, dtype="int4")),
    "composite": with_recipe(changed(RECIPE, composite="yes")), "settings": with_recipe(changed(RECIPE, settings=[])),
    **{
        f"settings-{k}": with_recipe(changed(RECIPE, settings=changed(SETTINGS, **{name: value})))
        for k, (name, value) in enumerate([
            ("steps", 0), ("steps", "3"), ("steps", 2.5), ("steps", True), ("skip", 1), ("skip", -1), ("skip", None),
            ("seed", 2**70), ("seed", "0"), ("source", 3), ("source_scale", -1), ("negative", None), ("area", 1),
            ("area", "x"), ("more", 1), ("skip", float("nan")), ("source_scale", float("inf")),
        ])
    },
}  # fmt: skip
INVERSIONS = {
    "empty": b"", "text": b"hello, this is no inversion", "huge": struct.pack("<Q", 2**60) + b"{}",
    "foreign": struct.pack("<Q", 2) + b"{}", "cut": inversion(HEADER)[:-9], "picture": picture(),
    "list": inversion([1]), "number": inversion("3"), "broken": inversion("{"), "deep": inversion("[" * 100_000),
    "old": inversion(changed(HEADER, format=2)), "hub": inversion(changed(HEADER, model="evil/model")),
    "settings-type": inversion(changed(HEADER, settings=3)), "without-settings": inversion(lacking(HEADER, "settings")),
    "settings-steps": inversion(changed(HEADER, settings=changed(SETTINGS, steps=-1))),
    "model-type": inversion(changed(HEADER, model=3)), "without-model": inversion(lacking(HEADER, "model")),
}  # fmt: skip
PICTURES = {
    "empty.png": b"", "text.png": b"hello", "cut.jpg": picture(80, 80, format="JPEG")[:-300], "dot.png": picture(1, 1),
    "narrow.png": picture(7, 64), "bomb.png": bomb(), "zip.png": b"PK\3\4" + bytes(60),
    "photo.heic": b"\0\0\0\x18ftypheic" + bytes(40), "svg.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "eps.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "head.png": picture()[:40],
}  # fmt: skip
MODELS = {
    "no-index": {}, "index-broken": {"model_index.json": "{"}, "index-list": {"model_index.json": "[]"},
    "index-deep": {"model_index.json": "[" * 100_000}, "index-bytes": {"model_index.json": "\udcff"},
    "family": {"model_index.json": '{"_class_name": "LTXPipeline"}'},
    "family-type": {"model_index.json": '{"_class_name": ["x"]}'}, "no-family": {"model_index.json": "{}"},
    "single-file": {"model.safetensors": ""}, "checkpoint": {"model.ckpt": ""},
}  # fmt: skip

EDITS = [
    "", " ", "+", "-", "+ ", "->", "cat->", "->:3", "+cat->dog", "-cat->dog", "+hat:nan", "+hat:inf", "+hat:-inf",
    "+hat:big", "+hat:", "+hat@", "+hat@1", "+hat@2", "+hat@-1", "+hat@nan", "+hat@x", "+wig[", "+wig[3",
    "+hat[3]", "+hat[3..2]", "+hat[1..1]", "+hat[x..]", "+hat[..x]", "+hat[-1..]", "+hat[1.5..]", "+hat[..0]",
    "+hat[9999999999..]", "+hat:1:2", "+hat@0.5@0.6", "+hat[1..][2..]", "+hat|", "+hat|1,2,3", "+hat|1,2,3,4,5",
    "+hat|a,b,c,d", "+hat|1,2,0,4", "+hat|1,2,3,0", "+hat|-1,2,3,4", "+hat|1.5,2,3,4", "+hat|64,0,9,9", "+hat|0,64,9,9",
    "+hat|1,2,3,4|1,2,3,4", "+monocle", "+wibblefrotz", "cat->unicorn", "-wig", "->a cat", "+кошка", "hat", "cat",
    "+crown:5@0.9@0.8",
]  # fmt: skip
OPTIONS = [
    ["--steps", "0"], ["--steps", "-3"], ["--steps", "x"], ["--steps", "2.5"], ["--steps", ""], ["--steps"],
    ["--skip", "1"], ["--skip", "-0.1"], ["--skip", "nan"], ["--skip", "inf"], ["--skip", "x"], ["--size", "0"],
    ["--size", "7"], ["--size", "-64"], ["--size", "x"], ["--seed", "x"], ["--seed", "1.5"],
    ["--seed", "99999999999999999999"], ["--seed", "-99999999999999999999"], ["--source-scale", "2"],
    ["--source", "a cat", "--source-scale", "-1"], ["--source", "a cat", "--source-scale", "nan"],
    ["--source", "a cat", "--source-scale", "inf"], ["--source", "a cat", "--mask", "noise"],
    ["--source", "a cat", "--negative", "dark"], ["--source", "a sunbathing cat"], ["--thrifty"], ["--mask", "evil"],
    ["--mask", ""], ["--model", ""], ["--model", " "], ["--model", "nowhere"], ["--model", "no/such/thing"],
    ["--model", "cat.png"], ["--model", "../nowhere"], ["--model", "~nobody/x"], ["--model", "a\0b"],
    ["--model", "x" * 5000], ["--device", ""], ["--device", "abacus"], ["--device", "meta"], ["--device", "cuda:"],
    ["--device", "cuda:x"], ["--device", "CPU "], ["--dtype", ""], ["--dtype", "int4"], ["--dtype", "float64"],
    ["--quality", "0"], ["--quality", "101"], ["--quality", "x"], ["--quality", "90"], ["--scael", "3"], ["--hat"],
    ["-z"], ["-o", "none/o.png"], ["-o", "none/none/"], ["-o", "o.bmp"], ["-o", "o"], ["-o", "."],
    ["-o", "cat.png/o.png"], ["-o", "cat.png"], ["-o", ""], ["-o", "x" * 300 + ".png"], ["--show-masks", "o.png"],
    ["--show-masks", "cat.png"], ["--show-masks", "m.pt"], ["--save-inversion", "x.pt"],
    ["--save-inversion", "none/x.safetensors"], ["--save-inversion", "folder"], ["--region", "missing.png"],
    ["--region", "small.png"], ["--region", "text.png"], ["--region", "black.png"], ["--region", "."],
    ["--recipe", "cat.png"], ["--recipe", "missing.png"], ["--recipe", "."], ["--recipe", "text.png"],
    ["--inversion", "missing.safetensors"], ["--inversion", "cat.png"], ["--inversion", "."],
    ["--inversion", "pipe.safetensors"], ["--inversion", "inversions/old.safetensors", "--seed", "3"],
    ["--inversion", "inversions/old.safetensors", "--recipe", "cat.png"],
]  # fmt: skip
COMMANDS = [
    ["frob"], ["edit"], ["edit", "cat.png"], ["edit", "missing.png", "+dog"], ["edit", "*.gif", "+dog"],
    ["edit", "cat.png", "small.png", "+dog", "-o", "one.png"], ["edit", "cat.png", "cat.png", "+dog", "-o", "folder"],
    ["edit", "cat.png", "same/cat.png", "+dog", "-o", "folder"], ["edit", "cat.png", "+dog", "--", "--steps", "3"],
    ["edit", "cat.png", "small.png", "+dog", "-o", "-"], ["edit", "-", "-", "+dog"], ["edit", "pipe.png", "+dog"],
    ["edit", "cat.png", "small.png", "+dog", "--show-masks", "m.png"], ["edit", "folder", "+dog"],
    ["invert"], ["invert", "cat.png"], ["invert", "cat.png", "-o", "x.pt"], ["invert", "cat.png", "-o", "x"],
    ["invert", "missing.png", "-o", "x.safetensors"], ["invert", "cat.png", "-o", "x.safetensors", "--steps", "0"],
    ["invert", "cat.png", "-o", "x.safetensors", "--skip", "2"], ["invert", "cat.png", "-o", "x.safetensors", "+dog"],
    ["invert", "cat.png", "-o", "none/x.safetensors"], ["invert", "cat.png", "-o", "x.safetensors", "--dtype", "int8"],
    ["info"], ["info", "missing.png"], ["info", "missing.safetensors"], ["info", "."], ["info", "text.png"],
    ["info", "cat.png", "small.png"], ["info", "pipe.safetensors"], ["demo", "cat.png"], ["demo", "cat.png/x"],
    ["bench", "scenes", "--out", "cat.png"], ["bench", "tune", "--out", "cat.png"],
    ["bench", "scenes", "--quick", "--count", "3"], ["bench", "scenes", "--count", "x"], ["bench", "frob"],
    ["bench", "report", "."], ["bench", "report", "cat.png"],
    ["models", "x"], ["models", "--model", "scenes"], ["edit", "cat.png", "cat-", "-o", "o.png"],
    ["edit", "cat.png", "+hat", "-hat", "-o", "o.png"], ["edit", "cat.png", "cat->dog", "cat->owl", "-o", "o.png"],
    ["batch", "cat.png", "--edit", "cat-", "-o", "out"], ["batch", "cat.png", "folder", "--edit", "+dog", "-o", "out"],
    ["batch", "cat.png", "nothing*.png", "--edit", "+dog", "-o", "out"],
    ["batch", "j.json", "--edit", "+dog", "-o", "out"], ["batch"], ["keep"], ["mcp"],
]  # fmt: skip


def cases() -> dict[str, tuple[list[str], dict[str, str]]]:
    """Name: the words of the command, and the environment."""
    output = ["-o", "o.png"]
    found: dict[str, tuple[list[str], dict[str, str]]] = {}

    def case(name: str, *words: str, **environment: str) -> None:
        found[name] = (list(words), environment)

    for edit in EDITS:
        case(f"edit {edit}", "edit", "cat.png", edit, *output)
    for edit in ("dog->owl", "-dog"):
        case(f"caption {edit}", "edit", "cat.png", edit, *output, "--source", "a cat")
    for options in OPTIONS:
        given = [] if "-o" in options else output
        edits = [] if "--recipe" in options and "--inversion" not in options else ["+dog"]
        case(f"option {' '.join(options)[:60]}", "edit", "cat.png", *edits, *given, *options)
    for words in COMMANDS:
        case(f"command {' '.join(words)}", *words)
    for name in PICTURES:
        case(f"picture {name}", "edit", name, "+dog", *output)
        case(f"invert {name}", "invert", name, "-o", "x.safetensors")
        case(f"info {name}", "info", name)
    for name in RECIPES:
        case(f"recipe {name}", "edit", "cat.png", "--recipe", f"recipes/{name}.png", *output)
    for name in INVERSIONS:
        case(f"inversion {name}", "edit", "cat.png", "+dog", "--inversion", f"inversions/{name}.safetensors", *output)
    for name in MODELS:
        case(f"model {name}", "edit", "cat.png", "+dog", *output, "--model", f"models/{name}")
    case("environment model", "edit", "cat.png", "+dog", *output, LEDITS_MODEL="nowhere")
    case("environment device", "edit", "cat.png", "+dog", *output, LEDITS_DEVICE="abacus")
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    folder = tmp_path_factory.mktemp("refusals")
    files = {
        "cat.png": picture(), "same/cat.png": picture(), "small.png": picture(32, 32), **PICTURES,
        **{f"recipes/{name}.png": data for name, data in RECIPES.items()},
        **{f"inversions/{name}.safetensors": data for name, data in INVERSIONS.items()},
        **{f"models/{name}/{file}": text.encode(errors="surrogateescape")
           for name, held in MODELS.items() for file, text in held.items()},
    }  # fmt: skip
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    Image.new("L", (64, 64)).save(folder / "black.png")
    for name in ("folder", "models/no-index"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in ("pipe.png", "pipe.safetensors"):
        os.mkfifo(folder / name)
    asked = cases()
    told = json.dumps([[name, *what] for name, what in asked.items()])
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LEDITS_")}
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], input=told, cwd=folder, env=environment, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(zip(asked, json.loads(done.stdout), strict=True))


def test_there_are_more_than_two_hundred() -> None:
    assert len(cases()) > 250


@pytest.mark.parametrize("name", cases())
def test_bad_input_is_one_sentence(results: dict[str, list[object]], name: str) -> None:
    code, out, err, files = results[name]
    assert code == 2, (code, out, err)
    assert out == ""
    assert isinstance(err, str)
    assert err.startswith("ledits: ")
    assert err.count("\n") == 1
    assert len(err) < 700
    assert files == []


@pytest.mark.parametrize(
    ("command", "missing"),
    [("invert", "PICTURE"), ("keep", "BEFORE"), ("info", "WHAT"), ("batch", "MANIFEST"), ("mcp", "FOLDER")],
)
def test_a_command_alone_names_the_argument_that_it_lacks(
    results: dict[str, list[object]], command: str, missing: str
) -> None:
    err = results[f"command {command}"][2]
    assert isinstance(err, str)
    assert f"Missing argument '{missing}" in err


def test_a_file_named_like_an_edit_is_no_picture(tmp_path: Path) -> None:
    from ledits.cli.arguments import split

    assert split(["cat.png", "+hat", "-crown", "cat->dog"]).edits == ["+hat", "-crown", "cat->dog"]
    with pytest.raises(ValueError, match=r"neither a picture that exists nor an edit: write '\+hat'"):
        split(["cat.png", "hat"])


def test_an_edit_that_the_shell_took_apart_is_said_to_need_quotes(tmp_path: Path) -> None:
    """ledits edit cat.png cat->dog: the command sees cat-, and there is an empty file called dog."""
    (tmp_path / "cat.png").write_bytes(picture())
    for words in ("edit cat.png cat->dog -o x.png", "batch cat.png --edit cat->dog -o out"):
        done = subprocess.run(
            f"{sys.executable} -m ledits {words}", shell=True, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert "write the edit in quotes" in done.stderr
        assert "'cat->dog'" in done.stderr
