"""What makes it fast changes nothing: each gain against the plain way, on the shapes of Stable Diffusion and SDXL.

The plain way is written out here as the paper has it: one sample through the network at a time, every level and every
edit at every step, noise maps z, explicit attention. Bounds are relative, in fp32.
"""

import random

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor
from torch.utils._python_dispatch import TorchDispatchMode

from ledits.backbones import memory, network
from ledits.backbones.latent_unet import LatentUNet
from ledits.backbones.network import UNCOMPILED
from ledits.backbones.stable_diffusion import ClipPrompts
from ledits.backbones.stable_diffusion_xl import ClipPairPrompts
from ledits.cpu import kernels, precision
from ledits.method import core
from ledits.method.core import Concept, Inversion

from conftest import SCHEDULER, random_parts, random_xl_parts, relative

CPU = torch.device("cpu")
BOUND = 1e-5


@pytest.fixture(scope="module", params=["SD", "SDXL"])
def make(request):
    """make(max_batch) is a backbone over the same random weights every time."""
    parts = random_parts(levels=3) if request.param == "SD" else random_xl_parts()
    if request.param == "SD":
        prompts = ClipPrompts(parts["tokenizer"], parts["text_encoder"], CPU)
    else:
        tokenizers, encoders = (parts[k] for k in ("tokenizer", "tokenizer_2")), ("text_encoder", "text_encoder_2")
        prompts = ClipPairPrompts(list(tokenizers), [parts[k] for k in encoders], CPU)

    def backbone(max_batch=None):
        return LatentUNet(
            parts["unet"], parts["vae"], prompts, SCHEDULER, name="random", fingerprint="0", max_batch=max_batch
        )

    return backbone


def latents(b: int = 1) -> torch.Tensor:
    return torch.randn(b, 4, 16, 16, generator=torch.Generator().manual_seed(b))


def noise(n: int, x0: torch.Tensor) -> torch.Tensor:
    return torch.randn(n, *x0.shape, generator=torch.Generator().manual_seed(7))


def invert(model, x0, steps=6, **options):
    schedule = model.schedule(steps, 0.15)
    with torch.inference_mode(), model.denoiser(schedule, maps=False) as denoise:
        return core.invert(denoise, schedule, x0, noise(steps, x0), **options), denoise.evaluations


def edit(model, inversion, concepts, mask="none"):
    with torch.inference_mode(), model.denoiser(inversion.schedule, maps=mask in core.WITH_MAPS) as denoise:
        return list(core.edit(denoise, inversion, concepts, mask)), denoise.evaluations


def ask(model, x, maps):
    with torch.inference_mode(), model.denoiser(model.schedule(2, 0.15), maps=maps) as denoise:
        return denoise(x, range(2), ["dog"])


def plainly(model, x0, concepts, steps=6):
    """The edited latents by the published algorithm, without anything that saves time."""
    s = model.schedule(steps, 0.15)
    with torch.inference_mode(), model.denoiser(s, maps=False) as denoise:

        def ask(x, i, prompt):
            return torch.cat([denoise(x[None, k : k + 1], [i], [prompt])[0][0, 0] for k in range(len(x))])

        eps = noise(steps, x0)
        path = [s.alpha[i] * x0 + s.sigma[i] * eps[i] for i in range(steps)] + [x0]
        before, maps = None, []
        for i in range(steps):
            seen = ask(path[i], i, "")
            maps.append((path[i + 1] - s.mean(i, path[i], seen, before)) / s.std(i))
            before = seen
        x, before = path[0], None
        for i in range(steps):
            null = ask(x, i, "")
            seen = null + sum(c.scale * (ask(x, i, c.prompt) - null) * c.active(i) for c in concepts)
            x, before = s.mean(i, x, seen, before) + s.std(i) * maps[i], seen
    return x


@pytest.mark.parametrize("b", [1, 3])
def test_an_edit_is_what_the_plain_way_gives(make, b):
    """Batched inversion, the jump over the prefix, the kept first prediction, active edits only, batched pictures."""
    concepts = [Concept("dog", 3.0, warmup=2), Concept("red hat", -2.0, warmup=3, cooldown=5)]
    model, x0 = make(), latents(b)
    done, _ = edit(model, invert(model, x0)[0], concepts)
    assert relative(done[-1].x, x0) > 1e-3
    assert relative(done[-1].x, plainly(make(1), x0, concepts)) <= BOUND


@pytest.mark.parametrize("max_batch", [1, 4])
def test_the_size_of_batches_changes_nothing(make, max_batch):
    x0, concepts = latents(2), [Concept("dog", 3.0), Concept("red hat", -2.0)]
    whole, parts = (invert(model, x0)[0] for model in (make(), make(max_batch)))
    assert relative(parts.denoised, whole.denoised) <= BOUND
    a, b = (edit(model, whole, concepts)[0][-1].x for model in (make(), make(max_batch)))
    assert relative(a, b) <= 3 * BOUND  # guidance multiplies what rounding differs by, and its scale is 3


@pytest.mark.parametrize("b", [1, 3])
def test_fused_attention_is_explicit_attention(make, b):
    model, x0 = make(), latents(b)
    fused = dict(model.unet.attn_processors)
    found = []
    for processors in (dict(fused), AttnProcessor()):
        model.unet.set_attn_processor(processors)
        try:
            found.append(edit(model, invert(model, x0)[0], [Concept("dog", 3.0, 0.5)], "none")[0][-1].x)
        finally:
            model.unet.set_attn_processor(dict(fused))
    assert relative(*found) <= 3 * BOUND  # guidance multiplies what rounding differs by, as above


def test_recording_maps_changes_no_picture(make):
    model, x0 = make(), latents()
    inversion, seen = invert(model, x0)[0], []
    for maps in (False, True):
        with torch.inference_mode(), model.denoiser(inversion.schedule, maps=maps) as denoise:
            seen.append(denoise(inversion.x[:-1], range(6), ["dog"])[0])
    assert torch.equal(*seen)


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_compiled_network_gives_the_same(random_model, wrapped):
    """As `unet.compile()` or as `torch.compile(unet)`; maps are recorded all the same."""
    model, x, whole = random_model(), latents()[None].expand(2, -1, -1, -1, -1), random_model().unet
    plain = [ask(model, x, maps) for maps in (False, True)]
    if wrapped:
        model.unet = torch.compile(whole, backend="eager")
    else:
        whole.compile(backend="eager")
    try:
        seen, maps = ask(model, x, True)
        assert torch.equal(seen, plain[1][0])
        assert torch.equal(maps, plain[1][1])
        assert relative(ask(model, x, False)[0], plain[0][0]) <= BOUND
    finally:
        whole._compiled_call_impl = None
        torch.compiler.reset()


def test_a_network_that_can_not_be_compiled_runs_as_it_is(random_model, caplog):
    def broken(graph, inputs):
        raise RuntimeError("no compiler is here")

    model, x = random_model(), latents()[None].expand(2, -1, -1, -1, -1)
    plain = ask(model, x, False)[0]
    model.unet.compile(backend=broken)
    try:
        assert torch.equal(ask(model, x, False)[0], plain)
        assert "can't be compiled" in caplog.text
    finally:
        model.unet._compiled_call_impl = None
        torch.compiler.reset()


def test_threads_that_overlap_leave_the_compiler_as_it_was():
    """The first one in leaves before the second: each restoring what it found would turn the compiler off for good."""
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    with UNCOMPILED:
        UNCOMPILED.__enter__()
    torch.compile(lambda x: x + 1, backend=backend)(torch.ones(2))
    assert not compiled
    UNCOMPILED.__exit__()
    torch.compile(lambda x: x + 2, backend=backend)(torch.ones(2))
    assert compiled
    torch.compiler.reset()


def test_channels_last_is_another_order_of_the_same_numbers(make):
    model, x0, found = make(), latents(2), []
    for layout in (torch.contiguous_format, torch.channels_last):
        model.unet.to(memory_format=layout)
        found.append(invert(model, x0)[0].denoised)
    model.unet.to(memory_format=torch.contiguous_format)
    assert relative(*found) <= BOUND


def test_an_autoencoder_in_parts_is_the_whole(make, monkeypatch, caplog):
    """By single pictures where memory is short, in tiles where one is too much, and said so; as it was after it."""
    model, images = make(), torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    x = model.encode(images)
    whole = model.decode(x)
    one = 8 * 16 * 32 * 32 * 4
    monkeypatch.setattr(memory, "free", lambda _: 2 * one)
    assert relative(model.encode(images), x) <= BOUND
    assert relative(model.decode(x), whole) <= BOUND
    assert not caplog.records
    monkeypatch.setattr(memory, "free", lambda _: one // 2)
    assert relative(model.decode(x), whole) <= BOUND  # no larger than a tile
    assert "tiles" in caplog.text
    assert not model.vae.use_tiling


def test_too_large_a_picture_is_one_sentence(make, monkeypatch):
    monkeypatch.setattr(memory, "free", lambda _: 2**10)
    with pytest.raises(ValueError, match=r"32x32 pixels needs about .* GiB .* free: work at a smaller size"):
        invert(make(), latents())


def test_batches_follow_free_memory(make, monkeypatch):
    """Twice what a row needs is one row at a time; the largest batch is 32, and smaller where rows are large."""
    model, sizes = make(), []
    row = 40 * 16 * 16 * 16 * 4
    for free in (2 * row, 12 * row, 2**40):
        monkeypatch.setattr(memory, "free", lambda _, free=free: free)
        with model.denoiser(model.schedule(40, 0.0), maps=False) as denoise:
            evaluate = denoise._evaluate
            denoise._evaluate = lambda x, *rest, evaluate=evaluate: sizes.append(len(x)) or evaluate(x, *rest)
            denoise(torch.randn(40, 1, 4, 16, 16), range(40), ["dog"])
    assert sizes == [1] * 40 + [6] * 6 + [4] + [32, 8]
    monkeypatch.setattr(network, "_CPU_ROOM", 20 * row)
    with model.denoiser(model.schedule(40, 0.0), maps=False) as denoise:
        assert denoise._batch(torch.randn(40, 1, 4, 16, 16), tokens=8) == 20


def test_cost_is_the_formula(make):
    """b pictures, T steps, k edits of which some act in a window: what design and documents say is due."""
    model, draw = make(), random.Random(3)
    for _ in range(20):
        steps, b = draw.randint(2, 7), draw.randint(1, 3)
        sourced = draw.random() < 0.3
        windows = [sorted(draw.sample(range(steps + 1), 2)) for _ in range(draw.randint(1, 4))]
        concepts = [Concept(f"dog {k}", 1.0, warmup=w, cooldown=c) for k, (w, c) in enumerate(windows)]
        options = {"source": "a cat"} if sourced else {}
        inversion, inverting = invert(model, latents(b), steps, **options)
        assert inverting == b * steps * (1 + sourced)
        first = min(w for w, _ in windows)
        off_path = steps - first - 1  # the first guided step knows what the path predicted
        due = b * (sum(c - w for w, c in windows) + off_path * (1 + sourced))
        assert edit(model, inversion, concepts)[1] == due


def test_precision_is_measured_where_products_count(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "one"))
    monkeypatch.setattr(precision, "_seconds", lambda dtype, _: {torch.float32: 2.0, torch.bfloat16: 1.0}[dtype])
    assert precision.best(CPU, 1280) == torch.bfloat16
    for there in (True, False):  # kernels.c, by which narrow networks are faster
        monkeypatch.setattr(kernels, "available", lambda _, there=there: there)
        assert precision.best(CPU, 192) == (torch.bfloat16 if there else torch.float32)
    assert precision.best(torch.device("cuda"), 192) == torch.float16
    assert precision.best(torch.device("mps"), 1280) == torch.float32
    monkeypatch.setattr(precision, "_seconds", lambda dtype, _: {torch.float32: 1.4, torch.bfloat16: 1.0}[dtype])
    # Beside other work a measurement may come out otherwise: what was found once on a machine stays, for each width.
    assert precision.best(CPU, 1280) == torch.bfloat16
    assert precision.best(CPU, 1024) == torch.float32
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "two"))
    assert precision.best(CPU, 1280) == torch.float32


class _NothingAsked(TorchDispatchMode):
    """Refuses what makes a GPU's host wait: a number read from a tensor, two tensors compared for the answer."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        assert name not in ("aten::item", "aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero"), name
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("mask", ["intersect", "attention", "noise", "none"])
def test_nothing_in_the_loop_waits_for_the_device(make, mask):
    model = make()
    inversion, _ = invert(model, latents(2))
    texts = [model.prompts.embed(text) for text in ("dog", "hat")]  # a tokenizer and an encoder may ask
    concepts = [Concept(texts[0], 4.0, 0.8), Concept(texts[1], -4.0, 0.7, 2, 4)]
    replaced = Inversion(
        inversion.schedule, inversion.x, inversion.denoised, inversion.base_denoised, model.prompts.embed("")
    )
    with torch.inference_mode(), model.denoiser(replaced.schedule, maps=mask in core.WITH_MAPS) as denoise:
        for _ in core.edit(denoise, replaced, concepts, mask):
            break  # what is planned once, with the first step
        with _NothingAsked():
            assert len(list(core.edit(denoise, replaced, concepts, mask))) == 6
