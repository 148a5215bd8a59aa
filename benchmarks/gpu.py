"""What only a GPU shows, in one command: exactness, attention maps, offload, waits, and diffusers beside ours.

    python benchmarks/gpu.py [--device cuda] [--out gpu.jsonl]       # or `make gpu`; under 8 minutes on a GPU

Without a GPU the same runs to the end on the CPU at small sizes. Each check prints one line; the exit code is 1 where
one failed. The comparisons are compare.py's, at the shapes of SD 1.5 (512) and SDXL (1024) in float16 and bfloat16.
"""

import argparse
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from diffusers.utils import logging

from ledits import LEditsPPPipelineStableDiffusion, LEditsPPPipelineStableDiffusionXL

from conftest import picture, relative, scheduler, seeded, tiny

FAMILIES = (LEditsPPPipelineStableDiffusion, LEditsPPPipelineStableDiffusionXL)
BOUND = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 1e-2}


def exactness(device: torch.device) -> str:
    """An edit of scale 0 asks the network again at every level, and ends at the picture."""
    found = dict[str, float]()
    for family in FAMILIES:
        for dtype, bound in BOUND.items():
            pipe = tiny(family, scheduler()).to(device, dtype)
            inversion = pipe.invert(image=picture(), num_inversion_steps=6, generator=seeded())
            out = pipe(editing_prompt="cat", edit_guidance_scale=0.0, output_type="latent").images
            error = relative(out.cpu(), inversion.inversion.x[-1].cpu())
            assert error <= bound, f"{family.__name__} in {dtype}: {error:.1e}"
            kind = str(dtype).removeprefix("torch.")
            found[kind] = max(error, found.get(kind, 0.0))
    return ", ".join(f"{kind} {error:.1e}" for kind, error in found.items())


def same_as_on_the_cpu(device: torch.device) -> str:
    """Masks by attention and difference, and the picture that comes of them."""
    worst = 0.0
    for family in FAMILIES:
        made = list[torch.Tensor]()
        for where in (torch.device("cpu"), device):
            pipe = tiny(family, scheduler()).to(where)
            pipe.invert(image=[picture(k) for k in range(2)], num_inversion_steps=6, generator=seeded())
            options = {"use_cross_attn_mask": True, "edit_threshold": 0.8, "output_type": "latent"}
            made.append(pipe(editing_prompt=["cat", "dog"], **options).images.cpu())
        worst = max(worst, relative(made[1], made[0]))
    assert worst < 2e-2, f"differs by {worst:.1e}"
    return f"differs by {worst:.1e}"


def offload(device: torch.device) -> str:
    """Networks that come to the device when they are called give the same picture."""
    if device.type == "cpu":
        return "left out: there is nothing to offload from"
    found = list[str]()
    for way in ("enable_model_cpu_offload", "enable_sequential_cpu_offload"):
        made = list[torch.Tensor]()
        for offloaded in (False, True):
            pipe = tiny(FAMILIES[0], scheduler())
            if offloaded:
                getattr(pipe, way)(device=device)
            else:
                pipe.to(device)
            pipe.invert(image=picture(), num_inversion_steps=4, generator=seeded())
            made.append(pipe(editing_prompt="cat", output_type="latent").images.cpu())
        error = relative(made[1], made[0])
        assert error < 1e-4, f"{way}: {error:.1e}"
        found.append(f"{way} {error:.1e}")
    return ", ".join(found)


def waits(device: torch.device) -> str:
    """How often the host waits for the device in a step: the difference of edits of 20 and of 10 steps."""
    if device.type != "cuda":
        return "left out: only CUDA tells"
    counted = list[int]()
    for steps in (10, 20):
        pipe = tiny(FAMILIES[0], scheduler()).to(device)
        pipe.invert(image=picture(), num_inversion_steps=steps, generator=seeded())
        pipe(editing_prompt="cat", output_type="latent")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always")
                pipe(editing_prompt="cat", output_type="latent")
        finally:
            torch.cuda.set_sync_debug_mode("default")
        counted.append(sum("synchroniz" in str(each.message) for each in heard))
    a_step = (counted[1] - counted[0]) / 10
    assert a_step <= 1, f"{a_step:.1f} waits a step"
    return f"{a_step:.1f} waits a step, {counted[0]} in an edit of 10"


def comparison(device: torch.device, out: Path) -> list[tuple[str, Callable[[], str]]]:
    """compare.py in a process of its own for each shape and number format, so that memory is counted from nothing."""
    small = device.type == "cpu"
    runs = [("scenes", "float32", 2)] if small else [
        (model, dtype, 20) for model in ("sd15", "sdxl") for dtype in ("float16", "bfloat16")
    ]  # fmt: skip

    def run(model: str, dtype: str, steps: int) -> str:
        command = [
            sys.executable, str(Path(__file__).with_name("compare.py")), "--model", model, "--dtype", dtype,
            "--device", str(device), "--steps", str(steps), "--quick", "--out", str(out),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, (done.stderr.strip().splitlines() or ["failed"])[-1]
        return "\n" + done.stdout.rstrip()

    return [(f"{model} in {dtype}", lambda one=(model, dtype, steps): run(*one)) for model, dtype, steps in runs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("gpu.jsonl"), help="rows of compare.py are appended to it")
    args = parser.parse_args()
    device = torch.device(args.device)
    logging.set_verbosity(logging.CRITICAL)  # it advises against half precision on a CPU, at every cast
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    print(f"{name}, torch {torch.__version__}", flush=True)
    checks: list[tuple[str, Callable[[], str]]] = [
        (check.__name__.replace("_", " "), lambda check=check: check(device))
        for check in (exactness, same_as_on_the_cpu, offload, waits)
    ]
    failed = 0
    for title, check in [*checks, *comparison(device, args.out)]:
        began = time.perf_counter()
        try:
            said, mark = check(), "ok"
        except Exception as error:  # the others are to be seen too
            said, mark = str(error) or type(error).__name__, "FAILED"
            failed += 1
        print(f"{mark:7} {title} ({time.perf_counter() - began:.0f} s): {said}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
