"""`ledits.keep`: what another editor changed by accident goes back, what it changed on purpose stays."""

import base64
import io
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

import ledits
from ledits.cli import main
from ledits.picture import align
from ledits.picture.keeping import keep
from ledits.scenes.samples import draw
from serving import served

SIDE = 256
DRIFTS = {
    "a pixel": (1.0, 0.0, 1.0, (1, 1, 1), (0, 0, 0)),
    "three pixels": (3.0, -2.0, 1.0, (1, 1, 1), (0, 0, 0)),
    "half a pixel, 1 %, colours": (0.5, 0.25, 1.01, (1.03, 1.0, 0.97), (4, -3, 2)),
    "2 % larger, colours": (2.6, -1.3, 1.02, (0.95, 0.98, 1.04), (-5, 3, 6)),
    "1 % smaller, colours": (-3.0, 3.0, 0.99, (1.05, 0.95, 1.0), (0, 5, -4)),
}


@cache
def photo(seed: int) -> Image.Image:
    """A picture with detail of every size and sharp edges, as photographs have."""
    rng = np.random.default_rng(seed)
    f = np.fft.fftfreq(SIDE)[:, None] ** 2 + np.fft.rfftfreq(SIDE)[None] ** 2
    waves = [np.fft.irfft2(np.fft.rfft2(rng.normal(size=(SIDE, SIDE))) / np.sqrt(f + 1e-5)) for _ in range(4)]
    channels = [waves[3] + 0.4 * wave for wave in waves[:3]]
    rgb = np.stack([(c - c.min()) / (c.max() - c.min()) for c in channels], 2)
    picture = Image.fromarray((rgb * 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(12):
        x, y, r = (int(v) for v in rng.integers(0, SIDE, 3))
        r = r // 6 + 6
        draw.ellipse([x - r, y - r, x + r, y + r], fill=tuple(map(int, rng.integers(0, 255, 3))))
    return picture.filter(ImageFilter.GaussianBlur(0.6))


def changed(picture: Image.Image) -> tuple[Image.Image, NDArray[np.bool_]]:
    mask = Image.new("L", picture.size, 0)
    ImageDraw.Draw(mask).ellipse([SIDE * 0.3, SIDE * 0.35, SIDE * 0.62, SIDE * 0.7], fill=255)
    result = picture.copy()
    result.paste(photo(99), mask=mask)
    return result, np.asarray(mask) > 0


def moved(
    picture: Image.Image, right: float, down: float, scale: float, gain: tuple[float, ...], offset: tuple[float, ...],
    resample: Image.Resampling = Image.Resampling.BICUBIC,
) -> Image.Image:  # fmt: skip
    """What an editor makes of a picture that it draws anew: moved, scaled about its middle, of other colours."""
    (width, height), edge = picture.size, 40
    padded = np.pad(np.asarray(picture).astype(np.float32), ((edge, edge), (edge, edge), (0, 0)), mode="reflect")
    left, top = edge + (width - width / scale) / 2 - right, edge + (height - height / scale) / 2 - down
    box = (left, top, left + width / scale, top + height / scale)
    channels = [
        np.asarray(Image.fromarray(c).resize((width, height), resample, box)) for c in np.moveaxis(padded, 2, 0)
    ]
    rgb = np.stack(channels, 2) * np.array(gain) + np.array(offset)
    return Image.fromarray(rgb.round().clip(0, 255).astype(np.uint8))


def decibels(a: NDArray[np.uint8], b: NDArray[np.uint8], where: NDArray[np.bool_]) -> float:
    error = ((a.astype(np.float64) - b) ** 2)[where].mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


@pytest.mark.parametrize("drift", DRIFTS.values(), ids=DRIFTS)
def test_what_drifted_goes_back_and_what_changed_stays(drift) -> None:
    before = photo(3)
    wanted, where = changed(before)
    kept = keep(before, moved(wanted, *drift))
    right, down, scale, gain, offset = drift
    assert decibels(kept.rgb, np.asarray(before), ~where) > 60
    # The change itself, as undoing exactly what was done to it gives it.
    undone = (np.asarray(moved(wanted, *drift)).astype(np.float32) - np.array(offset)) / np.array(gain)
    back = moved(
        Image.fromarray(undone.round().clip(0, 255).astype(np.uint8)), -right / scale, -down / scale, 1 / scale,
        (1, 1, 1), (0, 0, 0), Image.Resampling.LANCZOS,
    )  # fmt: skip
    own = min(decibels(np.asarray(back), np.asarray(wanted), where), 45.0)
    assert decibels(kept.rgb, np.asarray(wanted), where) > own - 1
    assert kept.shift == pytest.approx((right, down), abs=0.05)
    assert kept.scale == pytest.approx((scale, scale), abs=0.0005)


@pytest.mark.parametrize("drift", DRIFTS.values(), ids=DRIFTS)
def test_in_a_flat_picture_of_sharp_edges_too(drift) -> None:
    """Hardly a pixel says where it lies, and resampling draws each edge anew: glasses by the very edge of a head."""
    before = Image.fromarray(draw("cat"))
    side = before.width
    mask = Image.new("L", before.size, 0)
    for left, right in ((0.31, 0.49), (0.52, 0.69)):
        ImageDraw.Draw(mask).ellipse([left * side, 0.34 * side, right * side, 0.47 * side], fill=255)
    wanted, where = before.copy(), np.asarray(mask) > 0
    wanted.paste((20, 20, 24), mask=mask)
    kept = keep(before, moved(wanted, *drift))
    right, down, scale, _, _ = drift
    assert decibels(kept.rgb, np.asarray(before), ~where) > 60
    assert decibels(kept.rgb, np.asarray(wanted), where) > 25
    assert kept.shift == pytest.approx((right, down), abs=0.1)
    assert kept.scale == pytest.approx((scale, scale), abs=0.0015)


def test_outside_of_its_own_mask_not_a_bit_changes() -> None:
    before = photo(3)
    kept = keep(before, moved(changed(before)[0], *DRIFTS["2 % larger, colours"]))
    outside = np.asarray(kept.mask) == 0
    assert outside.mean() > 0.8
    assert (kept.rgb == np.asarray(before))[outside].all()


def test_a_given_mask_is_kept_to_with_soft_edges_inside() -> None:
    before = photo(3)
    wanted, where = changed(before)
    after = moved(wanted, *DRIFTS["half a pixel, 1 %, colours"])
    for mask in (where, Image.fromarray(where), where.astype(np.float32)):
        kept = keep(before, after, mask if isinstance(mask, Image.Image) else mask.astype(np.float32))
        weight = np.asarray(kept.mask)
        assert (kept.rgb == np.asarray(before))[~where].all()
        assert weight[~where].max() == 0
        assert ((weight > 0) & (weight < 255)).any()
        assert weight[where].mean() > 200
    box = keep(before, after, (100, 100, 40, 30))
    assert np.asarray(box.mask)[100:130, 100:140].max() == 255
    assert np.asarray(box.mask).astype(bool).sum() <= 1200


def test_an_edited_picture_of_another_size_is_laid_onto_the_original_at_its_own() -> None:
    before = photo(3)
    wanted, where = changed(before)
    buffer = io.BytesIO()
    small = moved(wanted, *DRIFTS["half a pixel, 1 %, colours"]).resize((192, 192), Image.Resampling.LANCZOS)
    small.save(buffer, "JPEG", quality=90)
    kept = keep(before, buffer.getvalue())
    assert kept.image.size == (SIDE, SIDE)
    near = np.asarray(Image.fromarray(where).convert("L").filter(ImageFilter.MaxFilter(13))) > 0
    assert decibels(kept.rgb, np.asarray(before), ~near) > 45
    assert (np.asarray(kept.mask)[where] > 0).mean() > 0.9


def test_nothing_changed_gives_the_original() -> None:
    kept = keep(photo(3), moved(photo(3), *DRIFTS["1 % smaller, colours"]))
    assert kept.share == 0
    assert (kept.rgb == np.asarray(photo(3))).all()


def test_a_plain_picture_that_lost_its_only_thing_has_not_moved() -> None:
    before = Image.fromarray(draw("gift"))
    after = before.copy()
    after.paste(before.crop((0, 40, 16, 128)).resize((96, 88)), (16, 40))
    kept = keep(before, after)
    assert (kept.shift, kept.scale) == ((0, 0), (1, 1))
    assert 0.05 < kept.share < 0.6


def test_alpha_stays_the_originals() -> None:
    before = photo(3).convert("RGBA")
    before.putalpha(Image.linear_gradient("L").resize(before.size))
    kept = keep(before, changed(photo(3))[0])
    assert kept.image.mode == "RGBA"
    assert kept.image.getchannel("A").tobytes() == before.getchannel("A").tobytes()


REFUSED = {
    "another picture": (lambda: keep(photo(3), photo(4)), "don't lie on each other"),
    "another shape": (lambda: keep(photo(3), photo(3).crop((0, 0, 256, 128))), "of another shape"),
    "an empty mask": (lambda: keep(photo(3), photo(3), np.zeros((SIDE, SIDE))), "black everywhere"),
    "a mask of one pixel": (lambda: keep(photo(3), photo(3), (9, 9, 1, 1)), "too thin"),
    "a mask of another size": (lambda: keep(photo(3), photo(3), np.ones((8, 8))), "same size"),
    "all of it": (lambda: keep(photo(3), Image.new("RGB", (SIDE, SIDE), "red")), "each other"),
}


@pytest.mark.parametrize(("call", "said"), REFUSED.values(), ids=REFUSED)
def test_what_can_not_be_kept_is_said_in_one_sentence(call, said) -> None:
    with pytest.raises(ValueError, match=said):
        call()


def test_plain_pictures_have_a_place_too() -> None:
    grey = np.full((40, 50, 3), 0.5, np.float32)
    assert align.place(grey, grey) == align.WHOLE


def test_keeping_needs_no_torch() -> None:
    code = "import sys, ledits; ledits.keep; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    photo(3).save(tmp_path / "photo.png")
    moved(changed(photo(3))[0], *DRIFTS["a pixel"]).save(tmp_path / "edited.png")
    command = ["keep", "photo.png", "edited.png"]

    def run(*more: str) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([*command, *more])
        return ended.value.code, *capfd.readouterr()

    said = json.loads(run("--json", "--show-mask", "where.png")[1])
    assert said["output"] == "photo-kept.png"
    assert said["shift"] == pytest.approx([1, 0], abs=0.05)
    assert 0.08 < said["changed"] < 0.11
    with Image.open(tmp_path / "where.png") as where:
        assert where.size == (SIDE, SIDE)
    changed(photo(3))[0].save(tmp_path / "in place.png")
    told = run("--force")[1]
    assert "it had moved by +1.0," in told
    assert "-0.0" not in told
    command[-1] = "in place.png"
    assert "moved" not in run("-o", "b.png")[1]
    command[-1] = "edited.png"
    code, _, told = run()
    assert code == 2
    assert "--force" in told
    assert run("--force", "--mask", "where.png", "-q")[1] == ""
    code, _, told = run("--force", "--mask", "missing.png")
    assert code == 2
    assert told.count("\n") == 1


def test_over_http(tmp_path: Path) -> None:
    def png(picture: Image.Image) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        return buffer.getvalue()

    before, after = png(photo(3)), png(moved(changed(photo(3))[0], *DRIFTS["a pixel"]))
    here = ledits.keep(before, after)
    with served(tmp_path) as server, server.client() as http:
        answer = http.post("/v1/keep", files={"before": before, "after": after})
        assert answer.status_code == 200, answer.text
        image = Image.open(io.BytesIO(base64.b64decode(answer.json()["image"])))
        assert image.tobytes() == here.image.tobytes()
        masked = http.post("/v1/keep", files={"before": before, "after": after, "mask": png(here.mask)})
        assert masked.json()["changed"] <= here.share
        missing = http.post("/v1/keep", files={"before": before})
        assert missing.status_code == 400
        assert "after is missing" in missing.json()["error"]["message"]
        other = http.post("/v1/keep", files={"before": before, "after": png(photo(4))})
        assert other.status_code == 400
        assert "each other" in other.json()["error"]["message"]
        assert http.post("/v1/keep", files={"before": before, "after": after, "what": before}).status_code == 400
