"""What the command line imports for an edit, and that nothing behaves differently for it."""

import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from ledits.cli import lean

HEAVY = (
    "torch._dynamo.eval_frame", "peft.auto", "peft.tuners.lora", "diffusers.models.unets.unet_1d",
    "diffusers.models.transformers.transformer_flux", "transformers.models.auto.processing_auto",
    "torch.distributed.tensor._api", "torch.distributed.checkpoint.state_dict", "scipy", "sklearn", "torchvision",
)  # fmt: skip


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


EDIT = """
import json, os, sys
from ledits.cli import main
sys.argv = ["ledits", "edit", {path!r}, "+dog", "-o", {out!r}, "--steps", "1", "--dtype", "float32", "-q"]
try:
    main()
except SystemExit as stop:
    assert stop.code == 0
print(json.dumps([name for name in {heavy} if name in sys.modules]))
"""


def edited(path, out, **environment: str) -> list[str]:
    """Edit in a process of its own, as the command does; the heavy modules that it has imported."""
    code = EDIT.format(path=str(path), out=str(out), heavy=HEAVY)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def plain(tmp_path_factory, scene_pictures):
    """A picture, the edit of it without lean imports, and the heavy modules that were imported for it."""
    folder = tmp_path_factory.mktemp("plain")
    Image.fromarray(scene_pictures[0]).save(folder / "cat.png")
    loaded = edited(folder / "cat.png", folder / "all.png", LEDITS_PLAIN_IMPORTS="1")
    return folder / "cat.png", (folder / "all.png").read_bytes(), loaded


def test_an_edit_imports_what_it_needs_and_gives_the_same(tmp_path, plain):
    path, result, loaded = plain
    assert edited(path, tmp_path / "lean.png") == []
    assert len(loaded) > 4  # else the names above say nothing
    assert (tmp_path / "lean.png").read_bytes() == result


_BROKEN = """
import sys
sys.argv = ["ledits", "edit", "-", "+dog", "-o", {out!r}, "--steps", "1", "--dtype", "float32", "-q"]
sys.orig_argv[1:] = ["-m", *sys.argv]
from ledits.cli import lean
class Broken:
    def __init__(self, *_, **__): pass
    def __getattr__(self, name): raise RuntimeError("a stub is broken")
    def __call__(self, *_, **__): raise RuntimeError("a stub is broken")
    def __mro_entries__(self, bases): raise RuntimeError("a stub is broken")
    def __instancecheck__(self, instance): raise RuntimeError("a stub is broken")
def missing(name):
    raise RuntimeError("a stub is broken")
lean._STUBS = {{
    name: names if name not in {broken} else dict.fromkeys(names or (), Broken()) | {{"__getattr__": missing}}
    for name, names in lean._STUBS.items()
}}
from ledits.cli import main
main()
"""


@pytest.mark.parametrize("stub", [*lean._STUBS] if os.environ.get("LEDITS_STUBS") else ["all"])
def test_where_a_stub_is_broken_the_edit_is_made_without(tmp_path, plain, stub):
    """All at once, and with LEDITS_STUBS=1 each by itself; the picture comes by standard input, which is read once."""
    path, result, _ = plain
    code = _BROKEN.format(out=str(tmp_path / "lean.png"), broken=[*lean._STUBS] if stub == "all" else [stub])
    done = subprocess.run([sys.executable, "-c", code], input=path.read_bytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "lean.png").read_bytes() == result


def test_what_waits_is_there_when_it_is_asked_for():
    pytest.importorskip("peft")
    out = run("""
from ledits.cli import lean
lean.install()
lean.install()
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
import diffusers.loaders.lora_base as lora_base
import transformers
assert not isinstance(torch.nn.Linear(1, 1), lora_base.BaseTunerLayer)

# The compiler: a module of its own first, then a name, then use.
import torch._dynamo.config
assert torch._dynamo.config.__name__ == "torch._dynamo.config"
assert torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item() == 2

# Packages: names that only they have, and all of them.
from diffusers.models.unets import UNet1DModel
from diffusers.models.transformers import FluxTransformer2DModel
from transformers import AutoModel, AutoImageProcessor, T5EncoderModel, __version__
import transformers.models.auto
assert AutoImageProcessor.__name__ == "AutoImageProcessor"
assert "CLIPTextModel" in dir(transformers)
try:
    transformers.nothing_of_the_kind
except AttributeError as error:
    assert "nothing_of_the_kind" in str(error)

# peft: a LoRA on a network that was imported before it.
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
assert issubclass(LoraLayer, BaseTunerLayer)
unet = UNet2DConditionModel(
    sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    cross_attention_dim=8, attention_head_dim=2,
)
unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
layers = [layer for layer in unet.modules() if isinstance(layer, lora_base.BaseTunerLayer)]
assert layers and all(isinstance(layer, BaseTunerLayer) for layer in layers)

from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.placement_types import Shard as Same
assert Shard(0) == Same(0) and not isinstance(torch.ones(1), DTensor)
print("right")
""")
    assert out == "right\n"


def test_the_library_leaves_others_as_they_are():
    out = run("""
import sys
import ledits.editor, ledits.backbones.loading
assert not any(type(finder).__module__.startswith("ledits") for finder in sys.meta_path)
print("right")
""")
    assert out == "right\n"
