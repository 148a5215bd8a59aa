"""The InvokeAI pack in the real host, on the CPU, through its HTTP API.

    INVOKEAI_VENV=/path/to/venv pytest tests/test_invokeai.py

The environment is one of its own, for InvokeAI pins other versions. What can be said without it is tested always.
"""

import io
import json
import os
import shutil
import time
import tomllib
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from diffusers import PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from hosts import ROOT, called, free_port, running
from ledits.scenes.samples import draw

from conftest import SCHEDULER, random_parts

PACK = ROOT / "integrations/invokeai"
VENV = os.environ.get("INVOKEAI_VENV", "")
real = pytest.mark.skipif(not VENV, reason="INVOKEAI_VENV does not name an environment with InvokeAI")

Graph = dict[str, Any]


def graph(name: str, **changed: dict[str, Any]) -> Graph:
    """An example workflow; `changed` are inputs of its nodes, by their ids."""
    found: Graph = json.loads((PACK / "workflows/api" / f"{name}.json").read_text())
    for id, inputs in changed.items():
        found["nodes"][id] |= inputs
    return found


@pytest.mark.parametrize("path", sorted((PACK / "workflows").glob("*.json")), ids=lambda path: path.stem)
def test_the_example_for_the_page_is_the_one_for_the_api(path):
    page, asked = json.loads(path.read_text()), json.loads((path.parent / "api" / path.name).read_text())
    assert {node["id"] for node in page["nodes"]} == set(asked["nodes"])
    for node in page["nodes"]:
        inputs = {name: field["value"] for name, field in node["data"]["inputs"].items() if "value" in field}
        said = {"id": node["id"], "type": node["data"]["type"], "is_intermediate": node["data"]["isIntermediate"]}
        assert asked["nodes"][node["id"]] == {**said, **inputs}
    ends = {(e["source"], e["sourceHandle"], e["target"], e["targetHandle"]) for e in page["edges"]}
    assert ends == {
        (e["source"]["node_id"], e["source"]["field"], e["destination"]["node_id"], e["destination"]["field"])
        for e in asked["edges"]
    }


def test_the_pack_has_this_projects_licence_and_python():
    ours, pack = (tomllib.loads((at / "pyproject.toml").read_text())["project"] for at in (ROOT, PACK))
    assert pack["license"]["text"] == ours["license"].split(" AND ")[0]  # a pack has none of the art, which is MIT
    assert pack["requires-python"] == ours["requires-python"]
    assert pack["dependencies"] == [ours["name"]]


class Host:
    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.address = folder, address
        self.http = httpx2.Client(base_url=f"http://{address}/api", timeout=120)

    def run(self, asked: Graph, cancel: int = 0) -> dict[str, Any]:
        client = [Path(VENV) / "bin/python", ROOT / "tests/invokeai_client.py", self.address, str(cancel)]
        return json.loads(called(client, json.dumps(asked), self.folder, {}).splitlines()[-1])

    def upload(self, pixels: np.ndarray) -> dict[str, str]:
        """An ImageField of a picture."""
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        where = "/v1/images/upload?image_category=user&is_intermediate=false"
        answer = self.http.post(where, files={"file": ("a.png", file.getvalue(), "image/png")})
        return {"image_name": answer.raise_for_status().json()["image_name"]}

    def picture(self, field: dict[str, str]) -> np.ndarray:
        answer = self.http.get(f"/v1/images/i/{field['image_name']}/full")
        return np.asarray(Image.open(io.BytesIO(answer.raise_for_status().content)).convert("RGB"))


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    folder = tmp_path_factory.mktemp("invokeai")
    # Copied and not linked: the host takes a link to a folder for none.
    shutil.copytree(PACK, folder / "nodes/ledits_nodes", ignore=shutil.ignore_patterns("__pycache__"))
    port = free_port()
    settings = {"INVOKEAI_HOST": "127.0.0.1", "INVOKEAI_PORT": str(port), "INVOKEAI_DEVICE": "cpu",
                "INVOKEAI_PRECISION": "float32"}  # fmt: skip
    command = [Path(VENV) / "bin/invokeai-web", "--root", folder]
    address = f"127.0.0.1:{port}"
    with running(command, folder, folder / "log", f"http://{address}/api/v1/app/version", settings):
        host = Host(folder, address)
        with host.http:
            yield host


@pytest.fixture(scope="module")
def cat(host):
    return host.upload(draw("cat"))


@real
def test_the_example_edits_the_sample(host, cat):
    """Loaded, edited, saved; previews and progress arrive, and the second edit takes the inversion from the cache."""
    told = host.run(graph("edit", invert={"image": cat}))
    assert told["end"] == "completed", told["error"]
    assert told["previews"]
    assert all(size == [128, 128] for size in told["previews"])
    for kind in ("Inverting", "Editing"):
        done = [share for message, share in told["progress"] if message == kind]
        assert done == sorted(done)
        assert done[-1] == 1
    edited = host.picture(told["outputs"]["apply"]["image"])
    assert edited.shape == (128, 128, 3)
    assert (edited != draw("cat")).any()
    assert host.picture(told["outputs"]["apply"]["where"]).max() == 255

    other = host.run(graph("edit", invert={"image": cat}, edit={"edit": "cat->rabbit"}))
    assert not [share for message, share in other["progress"] if message == "Inverting"]
    assert (host.picture(other["outputs"]["apply"]["image"]) != edited).any()


@real
def test_a_mask_limits_it(host, cat):
    mask = np.zeros((128, 128), np.uint8)
    mask[:, :64] = 255
    told = host.run(graph("edit", invert={"image": cat}, edit={"mask": host.upload(mask)}))
    edited, given = host.picture(told["outputs"]["apply"]["image"]), draw("cat")
    assert (edited[:, 76:] == given[:, 76:]).all()
    assert (edited[:, :64] != given[:, :64]).any()


@real
def test_cancel_stops_it(host, cat):
    asked = graph("edit", invert={"image": cat, "seed": 7})
    told = host.run(asked, cancel=1)
    assert told["end"] == "canceled"
    assert "apply" not in told["outputs"]
    assert host.run(asked)["end"] == "completed"


@real
def test_what_is_wrong_is_said_in_a_sentence(host, cat):
    for edit, said in (("dog", "write +WORDS to add"), ("cat->zebra", "does not know the word 'zebra'")):
        told = host.run(graph("edit", invert={"image": cat}, edit={"edit": edit}))
        assert told["end"] == "failed"
        assert said in told["error"]


@real
def test_a_sheet_and_an_inversion_for_another_day(host, cat):
    asked = graph("edit", invert={"image": cat})
    asked["nodes"]["apply"] = {"id": "apply", "type": "ledits_sheet", "strengths": [0.0, 2.0]}
    asked["nodes"]["save"] = {"id": "save", "type": "ledits_save_inversion", "name": "cat"}
    to_save = {"node_id": "save", "field": "inversion"}
    asked["edges"].append({"source": {"node_id": "invert", "field": "inversion"}, "destination": to_save})
    told = host.run(asked)
    assert told["end"] == "completed", told["error"]
    assert len(told["outputs"]["apply"]["collection"]) == 2
    assert (host.folder / "outputs/ledits/cat.safetensors").is_file()
    again = graph("edit")
    again["nodes"]["invert"] = {"id": "invert", "type": "ledits_load_inversion", "image": cat, "name": "cat"}
    told = host.run(again)
    assert told["end"] == "completed", told["error"]
    again["nodes"]["invert"]["name"] = "dog"
    assert "has no inversion 'dog': it holds cat" in host.run(again)["error"]


@pytest.fixture(scope="module")
def checkpoint(host, tmp_path_factory):
    """A random Stable Diffusion 1 in diffusers' layout, as the host's model manager knows it."""
    folder = tmp_path_factory.mktemp("models") / "random"
    parts = random_parts()
    torch.manual_seed(0)
    # That text is 768 wide is how the host tells Stable Diffusion 1.
    unet = UNet2DConditionModel(
        sample_size=32, in_channels=4, out_channels=4, block_out_channels=(16, 32, 32), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 3, up_block_types=("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=768, attention_head_dim=2, norm_num_groups=8,
    )  # fmt: skip
    config = CLIPTextConfig(
        **{
            **parts["text_encoder"].config.to_dict(),
            "hidden_size": 768,
            "num_attention_heads": 12,
            "num_hidden_layers": 1,
        }
    )
    StableDiffusionPipeline(
        unet=unet, vae=parts["vae"], text_encoder=CLIPTextModel(config), tokenizer=parts["tokenizer"],
        scheduler=PNDMScheduler(**SCHEDULER, skip_prk_steps=True, steps_offset=1), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    host.http.post(f"/v2/models/install?source={folder}&inplace=true", json={}).raise_for_status()
    for _ in range(600):
        found = host.http.get("/v2/models/?model_type=main").raise_for_status().json()["models"]
        if found:
            break
        jobs = host.http.get("/v2/models/install").json()
        assert not any(job["status"] == "error" for job in jobs), jobs
        time.sleep(0.5)
    (model,) = found
    assert model["base"] == "sd-1"
    return {name: model[name] for name in ("key", "hash", "name", "base", "type")}


@real
@pytest.mark.parametrize("caption", ["", "a cat"], ids=["words", "caption"])
def test_the_hosts_own_model(host, cat, checkpoint, caption):
    """From its model manager: reconstructed where nothing is asked for, edited within a mask where something is."""
    mask = np.zeros((128, 128), np.uint8)
    mask[:, :64] = 255
    changed = {
        "checkpoint": {"model": checkpoint}, "invert": {"image": cat, "caption": caption, "steps": 6},
        "edit": {"edit": "cat->dog" if caption else "+dog", "mask": host.upload(mask)},
    }  # fmt: skip
    told = host.run(graph("edit with your model", **changed))
    assert told["end"] == "completed", told["error"]
    assert told["previews"]
    edited, given = host.picture(told["outputs"]["apply"]["image"]), draw("cat")
    assert (edited[:, 76:] == given[:, 76:]).all()
    assert (edited[:, :64] != given[:, :64]).any()

    changed["edit"]["edit"] += ":0"  # a scale of zero replays the path
    told = host.run(graph("edit with your model", **changed, apply={"composite": True}))
    kept = host.picture(told["outputs"]["apply"]["image"])
    assert np.abs(kept.astype(int) - given.astype(int)).max() <= 2
