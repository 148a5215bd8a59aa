"""The checks of `ledits doctor`, in the order in which they are made."""

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import psutil
import torch
from PIL import Image
from torch import Tensor

from ledits.backbones.network import NetworkBackbone
from ledits.backbones.texts import Text
from ledits.doctor import beside, captions, readings
from ledits.doctor.known import Known, stacked
from ledits.editor import Editor, Inversion
from ledits.method.core import Schedule

Verdict = Literal["ok", "wrong", "can't tell"]

_STEPS = 12  # of drawing and of inversions here
_GUIDANCE = 5.0
_RATIO = 0.5  # of alpha to sigma, where attention is looked at
_PSNR = 12  # dB: below it a picture is hardly that picture
_CPU_SIDE = 512
_LEAST_SIDE = 64
# How far two ways to one number may be apart, relative to its size.
_EQUAL = {torch.float32: 3e-5, torch.float16: 2e-3, torch.bfloat16: 1.5e-2}
_EVALUATIONS = 340  # of the network, that all checks take about
_SIZES = (0.4, 2.2)  # of latents, where the network can't be asked


@dataclass(frozen=True)
class Check:
    name: str
    verdict: Verdict
    says: str
    figures: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass
class Report:
    """What was found, with the pictures that were made on the way."""

    model: str
    checks: list[Check] = field(default_factory=list[Check])
    pictures: dict[str, Image.Image] = field(default_factory=dict[str, Image.Image])
    trained: bool = False  # whether its network takes noise away: of one that doesn't little can be told

    @property
    def healthy(self) -> bool:
        return all(check.verdict != "wrong" for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model, "healthy": self.healthy,
            "checks": [vars(check) | {"figures": dict(check.figures)} for check in self.checks],
        }  # fmt: skip


def examine(
    editor: Editor, *, known: Sequence[Known] | None = None, prompt: str | None = None, edit: str | None = None,
    size: int | None = None, told: Callable[[str, int, int], None] = lambda text, done, total: None,
) -> Report:  # fmt: skip
    """All checks of a loaded model. `known` are pictures whose captions are known, `prompt` is what it draws, `edit`
    what is changed there, `size` the side of the squares that it works at; `told` what the last check said, and how
    many evaluations of the network are done, of about how many.
    """
    backbone = editor.backbone
    if not isinstance(backbone, NetworkBackbone):
        raise ValueError("a doctor needs a model of a checkpoint: a folder, a file or a hub id")
    began, side = time.perf_counter(), _side(backbone, size)
    known = known or Known.scenes(side)
    words = prompt or known[0].caption
    report = Report(backbone.name)

    def show(done: int) -> None:
        last = report.checks[-1]
        told(f"{last.name}: {last.verdict}", min(done, _EVALUATIONS), _EVALUATIONS)

    with _counted(backbone.net, show):
        for check in _checks(editor, known, words, edit, side, report):
            report.checks.append(check)
    seconds = time.perf_counter() - began
    held = psutil.Process().memory_info()
    memory = (held.rss - getattr(held, "shared", 0)) / 2**30  # without the pages of files, which the system can take
    report.checks.append(
        Check(
            "time and memory", "ok", f"all of this took {seconds:.0f} s at {side} x {side} pixels; the process holds "
            f"{memory:.1f} GiB",
            {"seconds": round(seconds, 1), "side": side, "GiB": round(memory, 2), "device": backbone.device.type,
             "dtype": str(backbone.dtype).removeprefix("torch.")},
        )
    )  # fmt: skip
    return report


def _checks(
    editor: Editor, known: Sequence[Known], words: str, edit: str | None, side: int, report: Report
) -> Generator[Check]:
    """All that ask the network."""
    backbone: Any = editor.backbone
    yield from claims(backbone, known, report)
    yield _beside(backbone, words, side)
    drawn = _draw(editor, words, side)
    report.pictures["drawn: " + words] = drawn
    made = editor.invert(drawn, source=words, steps=_STEPS)
    yield _exact(made)
    yield from _edits(editor, drawn, words, edit or _usual_edit(words, known), report)


@contextmanager
def _counted(net: torch.nn.Module, told: Callable[[int], None]) -> Generator[None]:
    """While `told` hears how many pictures have gone through a network, after each batch."""
    done = 0

    def after(_: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], answer: Any) -> None:
        nonlocal done
        told_of = (each for each in (*args, *kwargs.values()) if not isinstance(each, Tensor) or each.dim())
        done += next((len(each) for each in told_of if isinstance(each, Tensor | list)), 1)
        told(done)

    hook = net.register_forward_hook(after, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def claims(backbone: NetworkBackbone, known: Sequence[Known], report: Report) -> Generator[Check]:
    """What a checkpoint says of itself, put to the test on pictures whose captions are known."""
    yield _weights(backbone)
    x0, levels = backbone.encode(stacked(known)), readings.levels(backbone, len(known[0].rgb))
    found = readings.compare(backbone, x0, levels)
    report.trained = found.trained
    yield _autoencoder(backbone, known[0], x0, found, report)
    yield _predicts(found)
    told = captions.ask(backbone, x0, known, found.believed) if found.trained else None
    misled = captions.misled(backbone, x0, known, found.believed) if told and not told.right else ""
    yield _listens(told, misled)
    yield _attention(backbone, x0[:1], known[0], levels)


def _side(backbone: NetworkBackbone, size: int | None) -> int:
    """Of a square that the model was trained at; on a CPU 512 pixels at most. `size` says another."""
    trained = math.sqrt(backbone.area)
    usual = min(trained, _CPU_SIDE) if backbone.device.type == "cpu" else trained
    if size is not None and not min(usual, _LEAST_SIDE) <= size <= 2 * trained:
        raise ValueError(f"size {size}: from {min(usual, _LEAST_SIDE):.0f} to {2 * trained:.0f} pixels are accepted")
    side = int(usual) if size is None else size
    return max(backbone.multiple, side - side % backbone.multiple)


def _weights(backbone: NetworkBackbone) -> Check:
    """Matrices of zeros or of numbers that are none: training leaves neither."""
    odd, empty, count = list[str](), list[str](), 0
    for part, module in backbone.modules().items():
        for name, each in module.named_parameters():
            if each.is_meta or type(each.data) is not Tensor or each.layout != torch.strided:
                continue
            count += 1
            if not bool(each.isfinite().all()):
                odd.append(f"{part}.{name}")
            elif each.dim() > 1 and not bool(each.any()):
                empty.append(f"{part}.{name}")
    if odd:
        return Check("weights", "wrong", f"numbers that are none in {', '.join(odd[:3])}: the file is damaged")
    if empty:
        more = f" and {len(empty) - 3} more" if len(empty) > 3 else ""
        return Check(
            "weights", "wrong", f"nothing but zeros in {', '.join(empty[:3])}{more}: these layers were lost, or never "
            "trained", {"zeros": empty},
        )  # fmt: skip
    return Check("weights", "ok", f"{count} tensors are finite, and no matrix is empty")


def _autoencoder(
    backbone: NetworkBackbone, known: Known, x0: Tensor, found: readings.Found, report: Report
) -> Check:  # fmt: skip
    """What comes back of a picture, and whether its latents are as large as those that the network was trained on."""
    back = backbone.decode(x0[:1])
    shown = ((back[0].permute(1, 2, 0).cpu() + 1) * 127.5).round().to(torch.uint8).numpy()
    report.pictures["the known picture"], report.pictures["through the autoencoder"] = (
        Image.fromarray(known.rgb), Image.fromarray(shown)
    )  # fmt: skip
    error = float(((shown.astype(np.float32) - known.rgb) ** 2).mean())
    psnr = 10 * math.log10(255**2 / max(error, 1e-3))
    size = float(x0.std())
    figures = {
        "PSNR": round(psnr, 1), "standard deviation of latents": round(size, 2),
        "size that the network knows": round(found.size, 2) if found.trained else None,
    }  # fmt: skip
    vae: Any = getattr(backbone.codec, "vae", None)
    if vae is None:
        return Check("autoencoder", "ok", "it has none: the network works on pixels", figures)
    if psnr < _PSNR:
        return Check(
            "autoencoder", "wrong", f"a picture comes back at {psnr:.0f} dB, which is hardly that picture: its "
            "weights are another's, or random", figures,
        )  # fmt: skip
    claimed = vae.config.get("scaling_factor")
    kind = "scaling_factor" if claimed else "statistics"
    if found.best == readings.SIZE:
        about = f", {claimed:.4g}, should be about {claimed * found.size:.2g}" if claimed else " are of another model"
        return Check(
            "autoencoder", "wrong", f"the network was trained on latents {found.size:.2f} times as large as those that "
            f"it is given: the autoencoder's {kind}{about}", figures,
        )  # fmt: skip
    if not found.trained and not _SIZES[0] < size < _SIZES[1]:
        return Check(
            "autoencoder", "wrong", f"latents have a standard deviation of {size:.2f}, and networks are trained "
            f"on about 1: its {kind} is wrong", figures,
        )  # fmt: skip
    return Check(
        "autoencoder", "ok", f"a picture comes back at {psnr:.0f} dB, its latents are of size {size:.2f}", figures
    )


def _predicts(found: readings.Found) -> Check:
    """Whether the network takes noise away as its scheduler says, or as another one would say."""
    own, best = found.errors[""], found.best
    figures = {name or "as it says": round(error, 3) for name, error in found.errors.items()}
    figures |= {f"noise kept {name or 'as it says'}": round(share, 3) for name, share in found.kept.items()}
    name = "what it predicts"
    if best in found.kept and best:
        return Check(
            name, "wrong", f"its predictions keep {found.kept['']:+.1%} of the noise where there is little but noise, "
            f"and {found.kept[best]:+.1%} with {best}: the scheduler's configuration is of another model", figures,
        )  # fmt: skip
    if best and best != readings.SIZE:
        return Check(
            name, "wrong", f"its predictions leave {own:.2f} of what is unknown in a noisy picture as its scheduler "
            f"says, and {found.errors[best]:.2f} with {best}: the scheduler's configuration is of another model",
            figures,
        )  # fmt: skip
    if not found.trained:
        return Check(
            name, "can't tell", f"its predictions leave {own:.2f} of what is unknown in a noisy picture, under every "
            "reading: the weights are random, or the pictures are nothing that it knows", figures,
        )  # fmt: skip
    return Check(
        name, "ok", f"its predictions leave {min(own, found.errors[best]):.2f} of what is unknown in a noisy picture, "
        "other readings more", figures,
    )  # fmt: skip


def _listens(told: captions.Told | None, misled: str) -> Check:
    """Whether text and picture mean the same."""
    name = "what it reads"
    if told is None:
        return Check(name, "can't tell", "it does not denoise, so that captions can't be compared")
    figures = {key: round(value, 4) for key, value in vars(told).items()}
    if told.deaf:
        return Check(name, "wrong", "no caption changes a prediction: text does not reach the network", figures)
    if misled:
        return Check(
            name, "wrong", f"told a caption alone, its {misled} says no more of a picture than with another's, and the "
            "other text encoder does: it or its tokenizer is another model's", figures,
        )  # fmt: skip
    if told.wrong:
        return Check(
            name, "wrong", "pictures' own captions explain them hardly better than each other's: its "
            "text encoder or tokenizer is another model's, or two are swapped", figures,
        )  # fmt: skip
    if told.right:
        return Check(
            name, "ok", f"{told.best:.0%} of pictures are explained best by their own caption, which takes away "
            f"{told.gain:.0%} of what is unknown without one", figures,
        )  # fmt: skip
    return Check(name, "can't tell", "pictures' own captions explain them little better than others do", figures)


def _beside(backbone: NetworkBackbone, prompt: str, side: int) -> Check:
    """Whether the network is told and answers what it is in diffusers' own pipeline."""
    name, allowed = "beside diffusers", _EQUAL.get(backbone.dtype, _EQUAL[torch.bfloat16])
    try:
        away = beside.compare(backbone, prompt, side)
    except ValueError as error:
        return Check(name, "can't tell", str(error))
    figures = {key: float(f"{value:.2g}") for key, value in away.items()}
    worst = max(away, key=lambda each: away[each])
    if away[worst] > allowed:
        return Check(
            name, "wrong", f"{worst} differs from what it is in diffusers' own pipeline, by {away[worst]:.1e} of it: "
            "report this, with the page", figures,
        )  # fmt: skip
    return Check(
        name, "ok", f"for {prompt!r} the network is told and answers what it is in diffusers' own pipeline, to "
        f"{away[worst]:.0e}", figures,
    )  # fmt: skip


def _attention(backbone: NetworkBackbone, x0: Tensor, known: Known, levels: Schedule) -> Check:
    """All tokens together get all attention, and words for the left and the right get theirs there."""
    schedule = readings.at(readings.Reading(backbone.prediction, levels), (_RATIO,))
    x = readings.noised(x0, schedule, 2)
    left, right = known.sides or (known.caption.split()[0], known.caption.split()[-1])
    try:
        with backbone.denoiser(schedule, maps=True) as denoise:
            text = backbone.prompts.embed(known.caption)
            every = replace(text, words=torch.ones_like(text.words))
            single = [replace(text, words=_words(backbone, text, known.caption, word)) for word in (left, right)]
            maps = denoise(x, [0], [(every,), *((each,) for each in single)])[1]
    except ValueError as error:
        return Check("attention", "can't tell", f"it can't be recorded here: {error}")
    assert maps is not None
    whole = float(maps[0].float().mean())
    columns = torch.linspace(0, 1, maps.shape[-1])
    places = [float((each / each.sum() * columns).sum()) for each in maps[1:, 0, 0].float().cpu().sum(-2)]
    figures = {"all tokens": round(whole, 4), left: round(places[0], 3), right: round(places[1], 3)}
    layout = backbone.map_layout(len(text.states), 4)
    if layout.to_text_alone and abs(whole - 1) > 0.02:
        return Check("attention", "wrong", f"attention to all tokens sums to {whole:.3f} and not to 1", figures)
    if known.sides is None or not places[0] < places[1] - 0.01:
        return Check(
            "attention", "can't tell", f"{left!r} and {right!r} are attended to in about the same places", figures
        )
    return Check(
        "attention", "ok", f"{left!r} is attended to on the left and {right!r} on the right, where they are", figures
    )


def _words(backbone: NetworkBackbone, text: Text, caption: str, word: str) -> Tensor:
    """Which of the caption's tokens are the word's: those that are others without it, and as many."""
    before = int(backbone.prompts.embed(caption[: caption.index(word)].strip() or "").words.sum())
    count = int(backbone.prompts.embed(word).words.sum())
    places = text.words.nonzero().flatten()[before : before + count]
    return torch.zeros_like(text.words).index_fill_(0, places, True)


def _draw(editor: Editor, prompt: str, side: int) -> Image.Image:
    """A picture of the model's own, by its sampler."""
    backbone: Any = editor.backbone
    schedule: Schedule = backbone.schedule(_STEPS, 0.0 if backbone.prediction != "epsilon" else 0.02, side, side)
    latent = backbone.encode(torch.zeros(1, 3, side, side))
    noise = torch.randn(_STEPS + 1, *latent.shape, generator=torch.Generator().manual_seed(0)).to(latent.device)
    guidance = 1.0 if getattr(backbone, "distilled", False) else _GUIDANCE
    with backbone.denoiser(schedule, maps=False) as denoise:
        x, previous = noise[0] * schedule.sigma[0], None
        for i in range(_STEPS):
            seen = denoise(x[None], [i], ["", prompt])[0][:, 0]
            clean = seen[0] + guidance * (seen[1] - seen[0])
            x = schedule.mean(i, x, clean, previous) + schedule.std(i) * noise[i + 1]
            previous = clean
    rgb = ((backbone.decode(x)[0].permute(1, 2, 0).cpu() + 1) * 127.5).round().to(torch.uint8).numpy()
    return Image.fromarray(rgb)


def _exact(made: Inversion) -> Check:
    error = made.latent_error()
    figures = {"relative latent error": error}
    if error > max(1e-4, _EQUAL.get(made.editor.backbone.dtype, _EQUAL[torch.bfloat16])):
        return Check("reconstruction", "wrong", f"a replay without edits is off by {error:.1e} in latents", figures)
    return Check(
        "reconstruction", "ok", f"a replay in which the network is asked at every level is off by {error:.0e}", figures
    )


def _usual_edit(words: str, known: Sequence[Known]) -> str:
    """A word of the caption, and another picture's in its place."""
    old = words.split()
    new = next(each.caption.split() for each in known if set(each.caption.split()) - set(old))
    fresh = [word for word in new if word not in old and len(word) > 2]
    gone = [word for word in old if word not in new and len(word) > 2]
    return f"{gone[0]}->{fresh[0]}" if gone else f"+{fresh[0]}"


def _edits(
    editor: Editor, drawn: Image.Image, words: str, edit: str, report: Report
) -> Generator[Check]:  # fmt: skip
    """Of the model's own picture: how far it changes where an edit acts, and how far elsewhere."""
    for name, source in (("by words", None), ("with a caption", words)):
        began = time.perf_counter()
        try:
            made = editor.edit(drawn, edit, source=source, steps=_STEPS)
        except ValueError as error:
            yield Check(f"an edit {name}", "can't tell", str(error))
            continue
        seconds = time.perf_counter() - began
        report.pictures[f"{edit} {name}"], report.pictures[f"where, {name}"] = made.image, made.overlay
        away = np.abs(np.asarray(made.image, np.float32)[..., :3] - np.asarray(made.reconstruction, np.float32)).mean(
            -1
        )
        mask = np.asarray(made.masks[0], np.float32) / 255
        inside, outside = (float((away * each).sum() / max(each.sum(), 1)) for each in (mask, 1 - mask))
        figures = {
            "levels inside": round(inside, 1), "levels outside": round(outside, 1), "seconds": round(seconds, 1),
            "area": round(float(mask.mean()), 2), "network evaluations": made.network_evaluations,
        }  # fmt: skip
        share = f"{mask.mean():.0%} of the picture by {inside:.0f} levels of 255"
        says = f"{edit!r} changes {share}, and the rest by {outside:.0f}"
        verdict: Verdict = "can't tell" if not report.trained or inside < 2 else "ok"
        yield Check(f"an edit {name}", verdict, says + ("" if verdict == "ok" else ", which says little here"), figures)
