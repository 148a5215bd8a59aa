"""Tiny random networks in the layouts of Stable Diffusion and SDXL, and the bundled model; both loaded once."""

import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
from transformers import CLIPTokenizerFast as CLIPTokenizer

from ledits import scenes
from ledits.backbones import BUNDLED, load
from ledits.backbones.latent_unet import LatentUNet
from ledits.backbones.stable_diffusion import ClipPrompts
from ledits.files import checkpoints
from ledits.method import core
from ledits.scenes.samples import SIDE

# An sdist has its tokenizer and no weights: those of `ledits-scenes` are taken where it is installed.
BUNDLED_FOLDER = checkpoints.bundled(BUNDLED) or Path(__file__).parent.parent / "src/ledits/models" / BUNDLED
SCHEDULER = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
# Files that take longest, the longest first: begun early, they leave no worker alone with one of them at the end.
LONGEST = (
    "test_studio", "test_doctor", "test_pipelines", "test_serve_process", "test_batch_ray", "test_bench", "test_batch",
    "test_cli", "test_bundled", "test_docs", "test_lean", "test_families_grid", "test_kernels", "test_batch_kills",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Workers side by side share the cores, and so do the processes that they start.

    Each with a thread for every core, they wait for threads that the others have put to sleep: the file that was
    measured took 79 s so, and 11 s with one thread.
    """
    if workers := getattr(config.option, "numprocesses", None):
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In `make test` workers take whole files in this order; the order within a file stays."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Without the small models, whose weights only an sdist lacks, a test that failed for want of them is skipped."""
    report = yield
    said = report.longreprtext + report.capstderr + report.capstdout
    wanted = any(text in said for text in ("ledits[demo]", "has no .safetensors file", str(BUNDLED_FOLDER)))
    if wanted and report.failed and checkpoints.bundled(BUNDLED) is None:
        report.outcome = "skipped"
        report.longrepr = (*report.location[:2], "needs the small models: pip install ledits-scenes")
    return report


def random_text(projection: bool = False) -> CLIPTextModel | CLIPTextModelWithProjection:
    tokenizer = CLIPTokenizer.from_pretrained(BUNDLED_FOLDER / "tokenizer")
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, projection_dim=16, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def random_vae(levels: int = 2) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(16,) * levels, latent_channels=4, norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
    ).eval()  # fmt: skip


def random_parts(levels: int = 2) -> dict[str, torch.nn.Module]:
    """Stable Diffusion with random weights, the same on every call; it attends to text at every level."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(16, 16, 32)[-levels:], layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * levels, up_block_types=("CrossAttnUpBlock2D",) * levels,
        cross_attention_dim=16, attention_head_dim=2, norm_num_groups=8,
    )  # fmt: skip
    tokenizer = CLIPTokenizer.from_pretrained(BUNDLED_FOLDER / "tokenizer")
    return {"unet": unet.eval(), "vae": random_vae(), "text_encoder": random_text(), "tokenizer": tokenizer}


def random_xl_parts(refiner: bool = False) -> dict[str, torch.nn.Module]:
    """SDXL with random weights, the same on every call; as the real one it attends to text below the first level.

    Its refiner has the second text encoder alone, and is told five numbers in place of six.
    """
    torch.manual_seed(1)
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(16, 16, 32), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2), use_linear_projection=True, cross_attention_dim=16 if refiner else 32,
        attention_head_dim=(2, 2, 4), norm_num_groups=8, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=16 + (5 if refiner else 6) * 8,
    )  # fmt: skip
    tokenizer = CLIPTokenizer.from_pretrained(BUNDLED_FOLDER / "tokenizer")
    return {
        "unet": unet.eval(), "vae": random_vae(), "text_encoder": None if refiner else random_text(),
        "text_encoder_2": random_text(projection=True), "tokenizer": None if refiner else tokenizer,
        "tokenizer_2": tokenizer,
    }  # fmt: skip


def picture(seed: int = 0, width: int = 32, height: int = 32) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def asked_again(denoise: core.Denoiser, inversion: core.Inversion) -> torch.Tensor:
    """The end of a replay without edits in which the network is asked at every level, for each step is handed back."""
    steps = core.edit(denoise, inversion, [])
    x = next(steps).x
    for _ in range(len(inversion.schedule) - 1):
        x = steps.send(x).x
    return x


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.float() - b.float()).norm() / b.float().norm()).item()


def scheduler(kind: str = "dpm", **config: object) -> DDIMScheduler | DPMSolverMultistepScheduler:
    """A scheduler as LEDITS++ wants it: "dpm", SDE-DPM-Solver++ of order 2 down to the smallest sigma, or "ddim"."""
    base: dict[str, object] = {**SCHEDULER, "steps_offset": 1}
    if kind == "ddim":
        return DDIMScheduler(**(base | {"clip_sample": False, "set_alpha_to_one": False} | config))
    sde = {"algorithm_type": "sde-dpmsolver++", "solver_order": 2, "final_sigmas_type": "sigma_min"}
    return DPMSolverMultistepScheduler(**(base | sde | config))


def tiny(pipeline: type, scheduler: object, parts: dict[str, torch.nn.Module] | None = None) -> Any:
    """A pipeline of ours or of diffusers, Stable Diffusion or SDXL by its name, over random weights."""
    if "XL" in pipeline.__name__:
        pipe = pipeline(**(parts or random_xl_parts()), scheduler=scheduler, add_watermarker=False)
    else:
        pipe = pipeline(
            **(parts or random_parts(levels=3)), scheduler=scheduler, safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def ip_adapter(unet) -> dict:
    """An IP-Adapter's weights for a tiny UNet: one image of 16 numbers becomes four tokens."""
    torch.manual_seed(9)
    across, keys = unet.config.cross_attention_dim, {}
    for key, (name, _) in enumerate((n, p) for n, p in unet.attn_processors.items() if "attn2" in n):
        hidden = unet.get_submodule(name.removesuffix(".processor")).to_q.out_features
        keys[f"{2 * key + 1}.to_k_ip.weight"] = torch.randn(hidden, across)
        keys[f"{2 * key + 1}.to_v_ip.weight"] = torch.randn(hidden, across)
    project = {
        "proj.weight": torch.randn(4 * across, 16), "proj.bias": torch.zeros(4 * across),
        "norm.weight": torch.ones(across), "norm.bias": torch.zeros(across),
    }  # fmt: skip
    return {"image_proj": project, "ip_adapter": keys}


@pytest.fixture(scope="module")
def several_threads() -> Generator[None]:
    """More than one share a layer's work, though a worker of pytest may have one alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(2, before))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def random_model() -> Callable[..., LatentUNet]:
    """random_model("v_prediction") is a backbone over random weights that predicts v; pictures are multiples of 8."""
    parts, cpu = random_parts(), torch.device("cpu")
    prompts = ClipPrompts(parts["tokenizer"], parts["text_encoder"], cpu)

    def make(prediction: str = "epsilon", max_batch: int | None = None) -> LatentUNet:
        scheduler = {**SCHEDULER, "prediction_type": prediction}
        return LatentUNet(
            parts["unet"], parts["vae"], prompts, scheduler, name="random", fingerprint="0", max_batch=max_batch
        )

    return make


@pytest.fixture(scope="session")
def bundled() -> LatentUNet:
    return load(device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def scene_pictures() -> list[np.ndarray]:
    """Three pictures of the bundled model's world, (128 128 3) uint8."""
    rng = np.random.default_rng(5)
    return [scenes.sample(rng, 1).render(SIDE) for _ in range(3)]
