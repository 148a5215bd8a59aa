"""The checks of `ledits doctor`, in the order in which they are made."""

import math
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import psutil
import torch
from PIL import Image
from torch import Tensor

from ledits.backbones.network import PRECISION, NetworkBackbone
from ledits.backbones.schedule import from_config
from ledits.backbones.texts import Text
from ledits.editor import Editor, Inversion
from ledits.method.core import Schedule

Verdict = Literal["ok", "wrong", "can't tell"]

_LEVELS = 4
_STEPS = 12  # of drawing and of inversions here
_GUIDANCE = 5.0
# Schedules that networks are trained with: where a checkpoint's own is one of these and another one explains its
# predictions better, its file says the wrong one.
_SCHEDULES: Mapping[str, Mapping[str, Any]] = {
    "scaled_linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "linear": {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
    "squaredcos_cap_v2": {"beta_schedule": "squaredcos_cap_v2", "beta_start": 0.0001, "beta_end": 0.02},
}
_BETTER = 0.8  # of the error: what another reading has to be under, to be believed
_KNOWS = 0.7  # of what is left by who knows nothing: a network that was trained is under it


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

    @property
    def healthy(self) -> bool:
        return all(check.verdict != "wrong" for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model, "healthy": self.healthy,
            "checks": [vars(check) | {"figures": dict(check.figures)} for check in self.checks],
        }  # fmt: skip


@dataclass(frozen=True)
class Known:
    """A picture whose caption is known, at the model's own size."""

    rgb: np.ndarray[Any, np.dtype[np.uint8]]
    caption: str
    others: tuple[str, ...]  # captions of other pictures
    sides: tuple[str, str] | None = None  # a word for what is on the left, and one for what is on the right

    @classmethod
    def scene(cls, side: int) -> "Known":
        """One of the small scenes that come with us, which is no photograph: two things side by side."""
        from ledits.scenes.samples import PAIR, SAMPLES, SIDE

        shown = SAMPLES[PAIR]
        rgb = Image.fromarray(shown.render(SIDE)).resize((side, side), Image.Resampling.BICUBIC)
        others = tuple(scene.caption() for name, scene in SAMPLES.items() if name != PAIR)
        left, right = (placed.name for placed in shown.objects)
        return cls(np.asarray(rgb), shown.caption(), others, (left, right))


def examine(
    editor: Editor, *, known: Known | None = None, prompt: str | None = None, edit: str | None = None,
    told: Callable[[str], None] = lambda text: None,
) -> Report:  # fmt: skip
    """All checks of a loaded model. `prompt` is what it draws, `edit` what is changed there; `told` of each check."""
    backbone = editor.backbone
    if not isinstance(backbone, NetworkBackbone):
        raise ValueError("a doctor needs a model of a checkpoint: a folder, a file or a hub id")
    side = _side(backbone)
    known = known or Known.scene(side)
    words = prompt or known.caption
    report = Report(backbone.name)

    def add(check: Check) -> Check:
        told(check.name)
        report.checks.append(check)
        return check

    began = time.perf_counter()
    add(_weights(backbone))
    x0 = backbone.encode(_tensor(known.rgb))
    add(_autoencoder(backbone, known, x0, report))
    trained = _denoising(backbone, x0, add)
    add(_listens(backbone, x0, known, trained))
    add(_attention(backbone, x0, known))
    drawn = _draw(editor, words, side)
    report.pictures["drawn: " + words] = drawn
    made = editor.invert(drawn, source=words, steps=_STEPS)
    add(_exact(made))
    for check in _edits(editor, drawn, words, edit or _usual_edit(words, known), report, trained):
        add(check)
    seconds = time.perf_counter() - began
    memory = psutil.Process().memory_info().rss / 2**30
    add(
        Check(
            "time and memory", "ok", f"all of this took {seconds:.0f} s; the process holds {memory:.1f} GiB",
            {"seconds": round(seconds, 1), "GiB": round(memory, 2), "device": backbone.device.type,
             "dtype": str(backbone.dtype).removeprefix("torch.")},
        )
    )  # fmt: skip
    return report


def _side(backbone: NetworkBackbone) -> int:
    """A square that the model was trained at, or 512 pixels where that is more than a check needs on a CPU."""
    side = int(math.sqrt(backbone.area))
    return side - side % backbone.multiple


def _tensor(rgb: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    return torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


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


def _autoencoder(backbone: NetworkBackbone, known: Known, x0: Tensor, report: Report) -> Check:
    """What comes back of a picture, and whether its latents are as large as networks are trained on."""
    back = backbone.decode(x0)
    shown = ((back[0].permute(1, 2, 0).cpu() + 1) * 127.5).round().to(torch.uint8).numpy()
    report.pictures["the known picture"], report.pictures["through the autoencoder"] = (
        Image.fromarray(known.rgb), Image.fromarray(shown)
    )  # fmt: skip
    error = float(((shown.astype(np.float32) - known.rgb) ** 2).mean())
    psnr = 10 * math.log10(255**2 / max(error, 1e-3))
    size = float(x0.std())
    figures = {"PSNR": round(psnr, 1), "standard deviation of latents": round(size, 2)}
    vae: Any = getattr(backbone.codec, "vae", None)
    if vae is None:
        return Check("autoencoder", "ok", "it has none: the network works on pixels", figures)
    if psnr < 12:
        return Check(
            "autoencoder", "wrong", f"a picture comes back at {psnr:.0f} dB, which is hardly that picture: its "
            "weights are another's, or random", figures,
        )  # fmt: skip
    if not 0.4 < size < 2.2:
        kind = "scaling_factor" if "scaling_factor" in vae.config else "statistics"
        return Check(
            "autoencoder", "wrong", f"latents have a standard deviation of {size:.2f}, and networks are trained "
            f"on about 1: its {kind} is wrong", figures,
        )  # fmt: skip
    return Check(
        "autoencoder", "ok", f"a picture comes back at {psnr:.0f} dB, its latents are of size {size:.2f}", figures
    )


def _denoising(backbone: NetworkBackbone, x0: Tensor, add: Callable[[Check], Check]) -> bool:
    """Whether the network takes noise away, under what it says that it predicts or another reading; True if so."""
    readings = _readings(backbone)
    errors = {name: _error(backbone, x0, *reading) for name, reading in readings.items()}
    own, blind = errors.pop(""), _blind(x0, _schedule(backbone))
    knows = _KNOWS * blind
    best = min(errors, key=lambda name: errors[name], default="")
    figures = {
        "error": round(own, 3),
        "blind": round(blind, 3),
        **{name: round(error, 3) for name, error in errors.items()},
    }
    if best and errors[best] < _BETTER * own and errors[best] < knows:
        add(
            Check(
                "what it predicts", "wrong", f"its predictions leave {own:.2f} of the noise as its scheduler says, and "
                f"{errors[best]:.2f} with {best}: the scheduler's configuration is of another model", figures,
            )
        )  # fmt: skip
        return True
    if own > knows:
        add(
            Check(
                "what it predicts", "can't tell", f"its predictions leave {own:.2f} of the noise in a picture, under "
                "every reading: the weights are random, or the picture is nothing that it knows", figures,
            )
        )  # fmt: skip
        return False
    add(Check("what it predicts", "ok", f"its predictions leave {own:.2f} of the noise, other readings more", figures))
    return True


def _readings(backbone: NetworkBackbone) -> dict[str, tuple[str, Schedule]]:
    """What the network may predict at which levels, by name; "" is what the checkpoint says."""
    own = _schedule(backbone)
    found = {"": (backbone.prediction, own)}
    config: Mapping[str, Any] = getattr(backbone, "scheduler", {})
    if backbone.prediction == "flow_prediction":
        return found
    for kind in ("epsilon", "v_prediction", "sample"):
        if kind != backbone.prediction:
            found[f"prediction_type {kind}"] = (kind, own)
    for name, betas in _SCHEDULES.items():
        other = from_config({**config, **betas, "trained_betas": None}, _LEVELS + 2, 0.3)
        if max(abs(a - b) for a, b in zip(own.alpha, other.alpha, strict=True)) > 0.02:
            found[f"beta_schedule {name}"] = (backbone.prediction, other)
    return found


def _schedule(backbone: NetworkBackbone) -> Schedule:
    side = _side(backbone)
    return backbone.schedule(_LEVELS + 2, 0.3, side, side)


def _blind(x0: Tensor, schedule: Schedule) -> float:
    """What is left of the noise where nothing is known of the picture: all of it, or the picture itself."""
    size = float(x0.square().mean().sqrt())
    left = [min(1.0, size * schedule.alpha[i] / schedule.sigma[i]) for i in range(1, _LEVELS + 1)]
    return sum(left) / len(left)


def _error(backbone: NetworkBackbone, x0: Tensor, prediction: str, schedule: Schedule) -> float:
    """The share of a known noise that predictions leave in a picture, the mean of some levels."""
    kept, backbone.prediction = backbone.prediction, prediction
    try:
        with backbone.denoiser(schedule, maps=False) as denoise:
            levels = range(1, _LEVELS + 1)
            noise = torch.randn(_LEVELS, *x0.shape, generator=torch.Generator().manual_seed(0)).to(x0.device)
            x = torch.stack([schedule.alpha[i] * x0 + schedule.sigma[i] * noise[i - 1] for i in levels])
            seen = denoise(x, levels, [""])[0][0]
            left = [
                float((seen[k] - x0).norm() / (schedule.sigma[i] / schedule.alpha[i] * noise[k]).norm())
                for k, i in enumerate(levels)
            ]
    except ValueError:
        return math.inf
    finally:
        backbone.prediction = kept
    return sum(left) / len(left) if all(map(math.isfinite, left)) else math.inf


def _listens(backbone: NetworkBackbone, x0: Tensor, known: Known, trained: bool) -> Check:
    """Whether the picture's own caption explains it better than others: so text and picture mean the same."""
    schedule, levels = _schedule(backbone), range(1, _LEVELS + 1)
    captions = [known.caption, "", *known.others]
    with backbone.denoiser(schedule, maps=False) as denoise:
        noise = torch.randn(_LEVELS, *x0.shape, generator=torch.Generator().manual_seed(1)).to(x0.device)
        x = torch.stack([schedule.alpha[i] * x0 + schedule.sigma[i] * noise[i - 1] for i in levels])
        seen = denoise(x, levels, captions)[0]
    errors = [float((each - x0).square().mean()) for each in seen]
    better = sum(errors[0] < other for other in errors[2:])
    moved = float((seen[0] - seen[2]).norm() / (seen[0].norm() + 1e-9))
    figures = {"own caption": errors[0], "no caption": errors[1], "other captions": errors[2:], "moved": moved}
    if not trained:
        return Check("what it reads", "can't tell", "it does not denoise, so that captions can't be compared", figures)
    if moved < 1e-4:
        return Check(
            "what it reads", "wrong", "no caption changes a prediction: text does not reach the network", figures
        )
    if better == len(errors) - 2 and errors[0] < errors[1]:
        return Check(
            "what it reads", "ok", "a picture's own caption explains it better than others and than none", figures
        )
    if better < (len(errors) - 2) / 2 and errors[0] > errors[1]:
        return Check(
            "what it reads", "wrong", "a picture's own caption explains it worse than none and than most others: "
            "its text encoder or tokenizer is another model's, or two are swapped", figures,
        )  # fmt: skip
    return Check(
        "what it reads", "can't tell", "a picture's own caption explains it about as well as others do", figures
    )


def _attention(backbone: NetworkBackbone, x0: Tensor, known: Known) -> Check:
    """All tokens together get all attention, and words for the left and the right get theirs there."""
    schedule = _schedule(backbone)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(2)).to(x0.device)
    level = _LEVELS
    x = (schedule.alpha[level] * x0 + schedule.sigma[level] * noise)[None]
    left, right = known.sides or (known.caption.split()[0], known.caption.split()[-1])
    try:
        with backbone.denoiser(schedule, maps=True) as denoise:
            text = backbone.prompts.embed(known.caption)
            every = replace(text, words=torch.ones_like(text.words))
            single = [replace(text, words=_words(backbone, text, known.caption, word)) for word in (left, right)]
            maps = denoise(x, [level], [(every,), *((each,) for each in single)])[1]
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
    if error > max(1e-4, 4 * PRECISION.get(made.editor.backbone.dtype, 0.0)):
        return Check("reconstruction", "wrong", f"a replay without edits is off by {error:.1e} in latents", figures)
    return Check(
        "reconstruction", "ok", f"a replay in which the network is asked at every level is off by {error:.0e}", figures
    )


def _usual_edit(words: str, known: Known) -> str:
    """The last word of the caption in place of another caption's."""
    old = words.split()
    new = next(other.split() for other in known.others if set(other.split()) - set(old))
    fresh = [word for word in new if word not in old and len(word) > 2]
    gone = [word for word in old if word not in new and len(word) > 2]
    return f"{gone[0]}->{fresh[0]}" if gone else f"+{fresh[0]}"


def _edits(
    editor: Editor, drawn: Image.Image, words: str, edit: str, report: Report, trained: bool
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
        verdict: Verdict = "can't tell" if not trained or inside < 2 else "ok"
        yield Check(f"an edit {name}", verdict, says + ("" if verdict == "ok" else ", which says little here"), figures)
