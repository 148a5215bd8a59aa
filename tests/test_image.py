"""Every file here is made by its own test, so that each kind is there for a stated reason."""

import errno
import io
import os
import struct
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from ledits.picture import image as ledits_image
from ledits.picture.image import check_writable, fit, pad, read, read_metadata, read_recipe, take, write

# A warning of Pillow's that leaks fails its test.
pytestmark = pytest.mark.filterwarnings("error")

Array = NDArray[np.uint8]

RECIPE = {"prompt": 'Katze 猫 🐈 "é"\n', "seed": 7, "steps": [1, 2.5], "file": "bad\udcff.png", "none": None}


def noise(height: int = 12, width: int = 20, channels: int = 3, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def flat(mode: str, colour: float | tuple[int, ...]) -> Image.Image:
    return Image.new(mode, (12, 10), colour)


@contextmanager
def refused(*parts: str) -> Generator[None]:
    """A ValueError of one sentence, with all the parts in it."""
    with pytest.raises(ValueError, match=r"^[^\n]+\.$") as caught:
        yield
    for part in parts:
        assert part in str(caught.value)


def only(picture: Array) -> list[int]:
    """The one colour of a flat picture."""
    colours = np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)
    assert len(colours) == 1
    return colours[0].tolist()


# Profiles


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_profile() -> bytes:
    """sRGB with red and green exchanged, so that no reader can overlook it unnoticed."""
    return srgb_profile().replace(b"rXYZ", b"----", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"----", b"gXYZ", 1)


def profile(kind: bytes, space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    white = struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    tags = {b"wtpt": b"XYZ \0\0\0\0" + white} | tags
    table, data, start = b"", b"", 132 + 12 * len(tags)
    for name, body in tags.items():
        table += name + struct.pack(">2I", start + len(data), len(body))
        data += body + b"\0" * (-len(body) % 4)
    header = struct.pack(">I4sI4s4s4s12s4s28s12s48s", start + len(data), b"", 0x02400000, kind, space, pcs, b"",
                         b"acsp", b"", white, b"")  # fmt: skip
    return header + struct.pack(">I", len(tags)) + table + data


def linear_grey_profile() -> bytes:
    return profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": b"curv\0\0\0\0" + struct.pack(">I", 0)})


def red_cyan_profile() -> bytes:
    """A CMYK profile in which the first ink is red, whatever the others do."""
    line = bytes(range(256))
    corners = b"".join(bytes((255, 128, 128)) if index < 8 else bytes((136, 208, 195)) for index in range(16))
    matrix = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x10000)
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + matrix + line * 4 + corners + line * 3
    return profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": lut})


# read


def test_reads_rgb_as_it_is(tmp_path: Path) -> None:
    rgb = noise()
    Image.fromarray(rgb).save(tmp_path / "a.png")
    picture = read(tmp_path / "a.png")
    assert (picture.rgb == rgb).all()
    assert picture.rgb.dtype == np.uint8
    assert picture.rgb.flags.writeable
    assert picture.alpha is None


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_turns_pictures_upright_with_their_alpha(tmp_path: Path, orientation: int, suffix: str) -> None:
    rgba = noise(channels=4)
    # By EXIF: the side of the upright picture that the first stored row is, and that the first stored column is.
    stored = {
        1: rgba,
        2: rgba[:, ::-1],
        3: rgba[::-1, ::-1],
        4: rgba[::-1],
        5: rgba.swapaxes(0, 1),
        6: np.rot90(rgba),
        7: rgba[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(rgba, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, lossless=True, exact=True)
    picture = read(path)
    assert picture.alpha is not None
    assert (np.dstack([picture.rgb, picture.alpha]) == rgba).all()


def test_broken_exif_counts_as_none(tmp_path: Path) -> None:
    rgb = noise()
    Image.fromarray(rgb).save(tmp_path / "a.png", exif=b"Exif\0\0no TIFF header at all")
    assert (read(tmp_path / "a.png").rgb == rgb).all()


def test_converts_by_an_rgb_profile(tmp_path: Path) -> None:
    flat("RGB", (255, 0, 0)).save(tmp_path / "a.png", icc_profile=swapped_profile())
    assert np.abs(np.array(only(read(tmp_path / "a.png").rgb)) - (0, 255, 0)).max() <= 1


def test_converts_palettes_and_alpha_by_their_profile(tmp_path: Path) -> None:
    rgba = flat("RGBA", (255, 0, 0, 90))
    rgba.save(tmp_path / "rgba.png", icc_profile=swapped_profile())
    flat("RGB", (255, 0, 0)).quantize(4).save(tmp_path / "p.png", icc_profile=swapped_profile())
    flat("L", 77).save(tmp_path / "l.png", icc_profile=swapped_profile())
    picture = read(tmp_path / "rgba.png")
    assert picture.alpha is not None
    assert (picture.alpha == 90).all()
    for rgb in (picture.rgb, read(tmp_path / "p.png").rgb):
        assert np.abs(np.array(only(rgb)) - (0, 255, 0)).max() <= 1
    assert np.abs(np.array(only(read(tmp_path / "l.png").rgb)) - 77).max() <= 1


def test_converts_by_a_grey_profile(tmp_path: Path) -> None:
    flat("L", 128).save(tmp_path / "a.png", icc_profile=linear_grey_profile())
    flat("LA", (128, 60)).save(tmp_path / "b.png", icc_profile=linear_grey_profile())
    # Half of the light of white is 188 in sRGB.
    for name in ("a.png", "b.png"):
        assert np.abs(np.array(only(read(tmp_path / name).rgb)) - 188).max() <= 1


def test_converts_by_a_cmyk_profile(tmp_path: Path) -> None:
    flat("CMYK", (255, 0, 0, 0)).save(tmp_path / "a.tif", icc_profile=red_cyan_profile())
    flat("CMYK", (255, 0, 0, 0)).save(tmp_path / "plain.tif")
    red, green, blue = only(read(tmp_path / "a.tif").rgb)
    assert red > 180
    assert max(green, blue) < 80
    assert only(read(tmp_path / "plain.tif").rgb) == [0, 255, 255]


def test_an_srgb_profile_changes_nothing(tmp_path: Path) -> None:
    rgb = noise(60, 60)
    Image.fromarray(rgb).save(tmp_path / "a.png", icc_profile=srgb_profile())
    assert (read(tmp_path / "a.png").rgb == rgb).all()


def test_an_srgb_profile_with_other_rounding_changes_nothing(tmp_path: Path) -> None:
    other = bytearray(srgb_profile())
    entry = other.index(b"rXYZ")
    place = int.from_bytes(other[entry + 4 : entry + 8], "big") + 8
    other[place : place + 4] = struct.pack(">i", struct.unpack(">i", other[place : place + 4])[0] + 20)
    rgb = noise(60, 60)
    Image.fromarray(rgb).save(tmp_path / "a.png", icc_profile=bytes(other))
    with Image.open(tmp_path / "a.png") as image:
        plain = ImageCms.profileToProfile(
            image, ImageCms.ImageCmsProfile(io.BytesIO(other)), ImageCms.createProfile("sRGB")
        )
    assert (np.asarray(plain) != rgb).any()
    assert (read(tmp_path / "a.png").rgb == rgb).all()


def test_a_lab_profile_is_no_reason_to_warn(tmp_path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    flat("LAB", (255, 128, 128)).save(tmp_path / "a.tif", icc_profile=lab)
    assert only(read(tmp_path / "a.tif").rgb) == pytest.approx([255, 255, 255], abs=1)


@pytest.mark.parametrize("icc", [b"no profile" * 30, linear_grey_profile(), srgb_profile()[:200]])
def test_a_profile_that_cannot_be_used_is_left_out_with_a_warning(tmp_path: Path, icc: bytes) -> None:
    rgb = noise()
    Image.fromarray(rgb).save(tmp_path / "a.png", icc_profile=icc)
    with pytest.warns(UserWarning, match=r"^The colour profile in .*a\.png is left out, .*\.$") as caught:
        picture = read(tmp_path / "a.png")
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert (picture.rgb == rgb).all()


def test_cmyk_jpeg_without_a_profile(tmp_path: Path) -> None:
    flat("CMYK", (0, 0, 0, 255)).save(tmp_path / "a.jpg")
    assert max(only(read(tmp_path / "a.jpg").rgb)) <= 2


@pytest.mark.parametrize(
    ("picture", "suffix", "rgb", "alpha"),
    [
        (flat("1", 1), ".png", [255, 255, 255], None),
        (flat("L", 77), ".png", [77, 77, 77], None),
        (flat("LA", (77, 9)), ".png", [77, 77, 77], 9),
        (flat("RGBA", (9, 8, 7, 255)), ".png", [9, 8, 7], 255),
        (flat("RGB", (9, 8, 7)).quantize(4), ".png", [9, 8, 7], None),
        (flat("RGB", (9, 8, 7)).quantize(4), ".gif", [9, 8, 7], None),
        (flat("YCbCr", (128, 128, 128)), ".tif", [128, 128, 128], None),
        (flat("LAB", (255, 128, 128)), ".tif", [255, 255, 255], None),
        (flat("RGB", (9, 8, 7)), ".bmp", [9, 8, 7], None),
    ],
    ids=lambda value: getattr(value, "mode", None),
)
def test_reads_other_modes(
    tmp_path: Path, picture: Image.Image, suffix: str, rgb: list[int], alpha: int | None
) -> None:
    # Pillow 11 cannot read its own uncompressed YCbCr.
    picture.save(tmp_path / f"a{suffix}", compression="jpeg" if picture.mode == "YCbCr" else None)
    found = read(tmp_path / f"a{suffix}")
    assert only(found.rgb) == pytest.approx(rgb, abs=1)
    assert (None if found.alpha is None else only(found.alpha[..., None])) == (None if alpha is None else [alpha])


def test_reads_transparency_of_palettes_and_keys(tmp_path: Path) -> None:
    palette = Image.fromarray(np.arange(120, dtype=np.uint8).reshape(10, 12) % 3)
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    palette.save(tmp_path / "index.png", transparency=1)
    palette.save(tmp_path / "index.gif", transparency=1)
    palette.save(tmp_path / "table.png", transparency=bytes((0, 99, 255)))
    flat("RGB", (1, 2, 3)).save(tmp_path / "key.png", transparency=(1, 2, 3))
    flat("L", 5).save(tmp_path / "grey.png", transparency=5)
    for name, alpha in {"index.png": [255, 0, 255], "index.gif": [255, 0, 255], "table.png": [0, 99, 255]}.items():
        picture = read(tmp_path / name)
        assert picture.rgb[0, :3].tolist() == [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
        assert picture.alpha is not None
        assert picture.alpha[0, :3].tolist() == alpha
    for name, colour in {"key.png": [1, 2, 3], "grey.png": [5, 5, 5]}.items():
        picture = read(tmp_path / name)
        assert only(picture.rgb) == colour
        assert picture.alpha is not None
        assert not picture.alpha.any()


def tiff_with(path: Path, tag: int, value: int) -> None:
    """Gives a short tag of a little-endian TIFF another value."""
    data = path.read_bytes()
    place = data.index(struct.pack("<HHI", tag, 3, 1)) + 8
    path.write_bytes(data[:place] + struct.pack("<H", value) + data[place + 2 :])


def test_premultiplied_alpha_is_undone(tmp_path: Path) -> None:
    flat("RGBA", (50, 25, 0, 128)).save(tmp_path / "a.tif")
    tiff_with(tmp_path / "a.tif", 338, 1)
    picture = read(tmp_path / "a.tif")
    assert only(picture.rgb) == pytest.approx([100, 50, 0], abs=1)
    assert picture.alpha is not None
    assert (picture.alpha == 128).all()


@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="Pillow 11 does not open these")
def test_premultiplied_grey_alpha_is_undone(tmp_path: Path) -> None:
    flat("LA", (50, 128)).save(tmp_path / "a.tif")
    tiff_with(tmp_path / "a.tif", 338, 1)
    picture = read(tmp_path / "a.tif")
    assert only(picture.rgb) == pytest.approx([100, 100, 100], abs=1)
    assert picture.alpha is not None
    assert (picture.alpha == 128).all()


def sixteen_bits() -> Image.Image:
    values = np.array([0, 255, 257, 32_768, 65_535], dtype=np.uint16)
    return Image.fromarray(np.tile(values, (10, 2)))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jp2"])
def test_scales_16_bits(tmp_path: Path, suffix: str) -> None:
    sixteen_bits().save(tmp_path / f"a{suffix}")
    picture = read(tmp_path / f"a{suffix}")
    assert picture.rgb[0, :5].tolist() == [[v] * 3 for v in (0, 1, 1, 128, 255)]
    assert picture.alpha is None


def test_scales_16_bits_of_pgm_and_of_big_endian_tiff(tmp_path: Path) -> None:
    values = np.asarray(sixteen_bits()).astype(">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5 10 10 65535\n" + values.tobytes())
    Image.frombytes("I;16B", (10, 10), values.tobytes()).save(tmp_path / "a.tif")
    for name in ("a.pgm", "a.tif"):
        assert read(tmp_path / name).rgb[0, :5, 0].tolist() == [0, 1, 1, 128, 255]


def test_16_bit_tiff_in_which_zero_is_white(tmp_path: Path) -> None:
    sixteen_bits().save(tmp_path / "a.tif")
    tiff_with(tmp_path / "a.tif", 262, 0)
    assert read(tmp_path / "a.tif").rgb[0, :5, 0].tolist() == [255, 254, 254, 127, 0]


def test_12_bit_tiff_reaches_white(tmp_path: Path) -> None:
    Image.fromarray(np.full((10, 10), 0xFFFF, dtype=np.uint16)).save(tmp_path / "a.tif")
    tiff_with(tmp_path / "a.tif", 258, 12)
    assert only(read(tmp_path / "a.tif").rgb) == [255, 255, 255]


def test_16_bit_transparency_key(tmp_path: Path) -> None:
    sixteen_bits().save(tmp_path / "a.png", transparency=257)
    picture = read(tmp_path / "a.png")
    assert picture.alpha is not None
    assert picture.alpha[0, :5].tolist() == [255, 255, 0, 255, 255]


@pytest.mark.parametrize(("mode", "colour"), [("F", 0.5), ("I", 70_000)])
def test_refuses_values_without_a_fixed_white(tmp_path: Path, mode: str, colour: float) -> None:
    flat(mode, colour).save(tmp_path / "a.tif")
    with refused("a.tif", "floating-point"):
        read(tmp_path / "a.tif")


def test_keeps_colours_under_transparent_pixels(tmp_path: Path) -> None:
    rgba = noise(channels=4)
    rgba[..., 3] = 0
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert (read(tmp_path / "a.png").rgb == rgba[..., :3]).all()


def test_the_hash_is_of_what_is_seen(tmp_path: Path) -> None:
    rgba = noise(channels=4)
    seen: list[str] = []
    for suffix in (".png", ".webp", ".tif"):
        write(tmp_path / f"a{suffix}", rgba[..., :3], rgba[..., 3], {"seed": suffix})
        seen.append(read(tmp_path / f"a{suffix}").sha256)
    assert len(set(seen)) == 1
    others = {
        "plain": (rgba[..., :3], None),
        "alpha": (rgba[..., :3], 255 - rgba[..., 3]),
        "pixels": (255 - rgba[..., :3], rgba[..., 3]),
        "shape": (rgba[..., :3].reshape(20, 12, 3), None),
    }
    for name, (rgb, alpha) in others.items():
        write(tmp_path / f"{name}.png", rgb, alpha)
        seen.append(read(tmp_path / f"{name}.png").sha256)
    assert len(set(seen)) == 5


def test_opaque_alpha_is_kept_and_hashes_as_none(tmp_path: Path) -> None:
    write(tmp_path / "a.png", noise(), np.full((12, 20), 255, dtype=np.uint8))
    write(tmp_path / "b.png", noise())
    with_alpha, without = read(tmp_path / "a.png"), read(tmp_path / "b.png")
    assert with_alpha.alpha is not None
    assert without.alpha is None
    assert with_alpha.sha256 == without.sha256


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    with refused("no file", "cat.png"):
        read(tmp_path / "cat.png")
    (tmp_path / "file").write_bytes(b"x")
    with refused("no file", "cat.png"):
        read(tmp_path / "file" / "cat.png")
    with refused("is a folder"):
        read(tmp_path)
    with refused("cannot be read"):
        read(tmp_path / ("x" * 300))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_refuses_a_pipe_instead_of_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with refused("not an ordinary file"):
        read(tmp_path / "pipe.png")


def test_refuses_a_file_it_may_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise()).save(tmp_path / "a.png")

    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with refused("cannot be read", "Permission denied"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("reader", [read, read_recipe])
def test_refuses_what_is_no_picture(tmp_path: Path, reader: Callable[[Path], object]) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"")
    with refused("empty"):
        reader(path)
    path.write_text("only text\n" * 50)
    with refused("not a picture", "PNG, JPEG, WebP, TIFF"):
        reader(path)
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 90\n%%EndComments\n")
    with refused("EPS"):
        reader(path)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
@pytest.mark.parametrize("options", [{}, {"compression": "tiff_adobe_deflate", "progressive": True, "lossless": True}])
def test_refuses_truncated_files(tmp_path: Path, name: str, share: float, options: dict[str, object]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(buffer, name, **options)
    whole = buffer.getvalue()
    (tmp_path / "a").write_bytes(whole)
    read(tmp_path / "a")
    (tmp_path / "a").write_bytes(whole[: int(len(whole) * share)])
    # A header that is cut, as a TIFF's may be, leaves nothing to recognise.
    with refused("a "):
        read(tmp_path / "a")


def test_refuses_tiny_pictures(tmp_path: Path) -> None:
    for height, width in ((7, 20), (20, 7)):
        Image.fromarray(noise(height, width)).save(tmp_path / "a.png")
        with refused(f"{width}x{height}", "8x8"):
            read(tmp_path / "a.png")
    Image.fromarray(noise(8, 8)).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png").rgb.shape == (8, 8, 3)


@pytest.mark.parametrize("side", [10_000, 30_000])
def test_refuses_bombs_by_their_header(tmp_path: Path, side: int) -> None:
    buffer = io.BytesIO()
    Image.fromarray(noise()).save(buffer, "PNG")
    data = buffer.getvalue()
    header = b"IHDR" + struct.pack(">2I", side, side) + data[24:29]
    (tmp_path / "a.png").write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    # Its pixels are missing: a reader that decodes first calls it damaged.
    with refused("a.png claims more than 89,478,485 pixels"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "TIFF"])
def test_refuses_animations_and_pages(tmp_path: Path, name: str) -> None:
    frames = [Image.fromarray(noise(seed=seed)) for seed in range(3)]
    frames[0].save(tmp_path / "a", name, save_all=True, append_images=frames[1:])
    with refused("a holds several frames", "save one frame"):
        read(tmp_path / "a")


def test_takes_the_first_picture_of_an_mpo(tmp_path: Path) -> None:
    flat("RGB", (200, 100, 50)).save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[flat("RGB", (0, 0, 0))])
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "MPO"
    assert only(read(tmp_path / "a.jpg").rgb) == pytest.approx([200, 100, 50], abs=2)


# write

LOSSLESS = [".png", ".PNG", ".webp", ".tif", ".tiff"]
ALL = [*LOSSLESS, ".jpg", ".jpeg"]


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("with_alpha", [False, True])
def test_lossless_formats_give_back_every_value(tmp_path: Path, suffix: str, with_alpha: bool) -> None:
    rgba = noise(channels=4)
    rgba[:4, :, 3] = 0
    alpha = rgba[..., 3] if with_alpha else None
    write(tmp_path / f"a{suffix}", rgba[..., :3], alpha)
    picture = read(tmp_path / f"a{suffix}")
    assert (picture.rgb == rgba[..., :3]).all()
    assert (picture.alpha is None) if alpha is None else (picture.alpha == alpha).all()


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
def test_jpeg_keeps_fine_colour(tmp_path: Path, suffix: str) -> None:
    rgb = np.zeros((16, 16, 3), dtype=np.uint8)
    rgb[:, ::2] = (255, 0, 0)
    rgb[:, 1::2] = (0, 0, 255)
    write(tmp_path / f"a{suffix}", rgb)
    # With 4:2:0, both would turn purple.
    assert np.abs(read(tmp_path / f"a{suffix}").rgb.astype(int) - rgb).max() < 40


@pytest.mark.parametrize("suffix", ALL)
def test_files_hold_srgb_the_recipe_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write(path, noise(), recipe=RECIPE)
    assert read_recipe(path) == RECIPE
    with Image.open(path) as image:
        assert image.info["icc_profile"][36:40] == b"acsp"
        exif = dict(image.getexif())
        if image.format == "PNG":
            assert isinstance(image, PngImagePlugin.PngImageFile)
            assert list(image.text) == ["ledits"]
            assert "猫" in image.text["ledits"]
            assert not exif
        else:
            assert exif[0x0131] == "ledits"
            assert str(exif[0x010E]).startswith('ledits: {"file": ')
            assert image.format == "TIFF" or len(exif) == 2


@pytest.mark.parametrize("suffix", ALL)
def test_no_recipe_is_none(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"a{suffix}", noise())
    assert read_recipe(tmp_path / f"a{suffix}") is None


@pytest.mark.parametrize("text", ["a fine day", "[1]", "[" * 100_000, "ledits: {"])
def test_other_texts_are_no_recipe(tmp_path: Path, text: str) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("ledits", text)
    Image.fromarray(noise()).save(tmp_path / "a.png", pnginfo=info)
    exif = Image.Exif()
    exif[0x010E] = text[:1000]
    Image.fromarray(noise()).save(tmp_path / "a.jpg", exif=exif)
    assert read_recipe(tmp_path / "a.png") is None
    assert read_recipe(tmp_path / "a.jpg") is None


@pytest.mark.parametrize("suffix", ALL)
def test_same_input_same_bytes(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / f"a{suffix}", noise(), recipe={"b": 1, "a": 2})
    # As if on another day: Pillow's profiles hold the date.
    create = ImageCms.ImageCmsProfile.tobytes

    def later(self: ImageCms.ImageCmsProfile) -> bytes:
        made = create(self)
        return made[:24] + struct.pack(">6H", 2031, 2, 3, 4, 5, 6) + made[36:]

    ledits_image._srgb_profile.cache_clear()  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(ImageCms.ImageCmsProfile, "tobytes", later)
    write(tmp_path / f"b{suffix}", noise(), recipe={"a": 2, "b": 1})
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_new_files_have_ordinary_permissions(tmp_path: Path) -> None:
    write(tmp_path / "a.png", noise())
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "overwrite", "parts"),
    [
        ("a.gif", False, ("'.gif'", ".png, .jpg, .jpeg, .webp, .tif, .tiff")),
        ("a", False, ("has no ending", ".png")),
        ("missing/a.png", False, ("missing", "does not exist")),
        ("old.png/a.png", True, ("old.png is a file",)),
        ("folder.png", True, ("is a folder",)),
        ("old.png", False, ("exists: pass overwrite=True to replace it, or choose another name",)),
        ("dangling.png", False, ("exists: pass overwrite=True",)),
        ("x" * 300 + ".png", False, ("cannot be written",)),
    ],
)
def test_refuses_targets_early_and_late(tmp_path: Path, name: str, overwrite: bool, parts: tuple[str, ...]) -> None:
    (tmp_path / "old.png").write_bytes(b"the user's own")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    before = listing(tmp_path)
    with refused(*parts):
        check_writable(tmp_path / name, overwrite=overwrite)
    with refused(*parts):
        write(tmp_path / name, noise(), overwrite=overwrite)
    assert listing(tmp_path) == before


def test_refuses_a_folder_it_may_not_write_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> bool:
        return False

    monkeypatch.setattr(os, "access", denied)
    with refused("cannot be written to"):
        check_writable(tmp_path / "a.png", overwrite=True)


def test_a_good_target_is_left_untouched_by_the_check(tmp_path: Path) -> None:
    (tmp_path / "old.png").write_bytes(b"old")
    check_writable(tmp_path / "old.png", overwrite=True)
    check_writable(tmp_path / "new.webp", overwrite=False, alpha=True)
    assert listing(tmp_path) == {str(tmp_path / "old.png"): b"old"}


def test_refuses_pictures_the_format_cannot_hold(tmp_path: Path) -> None:
    alpha = noise(channels=1)[..., 0]
    with refused("transparency", ".png"):
        check_writable(tmp_path / "a.JPG", overwrite=False, alpha=True)
    with refused("transparency", ".png"):
        write(tmp_path / "a.jpg", noise(), alpha)
    with refused("20000x8", "WEBP", "16383"):
        write(tmp_path / "a.webp", noise(8, 20_000))
    with refused("recipe", ".png"):
        write(tmp_path / "a.jpg", noise(), recipe={"prompt": "x" * 70_000})
    assert listing(tmp_path) == {}
    write(tmp_path / "a.webp", noise(), recipe={"prompt": "x" * 70_000})
    assert read_recipe(tmp_path / "a.webp") == {"prompt": "x" * 70_000}


def test_refuses_arrays_of_another_kind(tmp_path: Path) -> None:
    rgb = noise()
    for wrong in (rgb.astype(np.float32), rgb[..., 0], noise(channels=4), rgb[:0]):
        with refused("pass uint8 of shape (height, width, 3)"):
            write(tmp_path / "a.png", wrong)  # pyright: ignore[reportArgumentType]
    for wrong in (rgb[:5, :, 0], rgb, rgb[..., 0] > 0):
        with refused("pass uint8 of shape (12, 20)"):
            write(tmp_path / "a.png", rgb, wrong)  # pyright: ignore[reportArgumentType]
    assert listing(tmp_path) == {}


def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)


@pytest.mark.parametrize("links", [True, False])
def test_writes_and_replaces_only_when_told(tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:
        without_links(monkeypatch)
    path = tmp_path / "a.png"
    write(path, noise(seed=1))
    with refused("exists"):
        write(path, noise(seed=2))
    assert (read(path).rgb == noise(seed=1)).all()
    write(path, noise(seed=3), overwrite=True)
    assert (read(path).rgb == noise(seed=3)).all()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("links", [True, False])
def test_never_replaces_a_file_that_appears_meanwhile(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        without_links(monkeypatch)
    path = tmp_path / "a.png"
    encode = ledits_image.encode

    def slow(*arguments: Any, **named: Any) -> bytes:
        path.write_bytes(b"someone else's")
        return encode(*arguments, **named)

    monkeypatch.setattr(ledits_image, "encode", slow)
    with refused("exists: pass overwrite=True"):
        write(path, noise())
    assert listing(tmp_path) == {str(path): b"someone else's"}


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_failure_leaves_the_folder_as_it_was(
    tmp_path: Path, overwrite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_links(monkeypatch)
    if overwrite:
        (tmp_path / "a.png").write_bytes(b"old")
    before = listing(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with refused("cannot be written", "No space left"):
        write(tmp_path / "a.png", noise(), overwrite=overwrite)
    assert listing(tmp_path) == before


# fit and pad


def test_fit_leaves_what_is_small_enough() -> None:
    assert fit(640, 480, None) == (640, 480)
    assert fit(640, 480, 640 * 480) == (640, 480)
    assert fit(10, 10, 10**6) == (10, 10)


@pytest.mark.parametrize("size", [(4000, 3000), (3000, 4000), (1001, 999), (512, 513), (6000, 400)])
@pytest.mark.parametrize("area", [64**2, 512**2, 1000**2])
def test_fit_keeps_the_area_and_the_aspect(size: tuple[int, int], area: int) -> None:
    width, height = fit(*size, area)
    if size[0] * size[1] <= area:
        assert (width, height) == size
        return
    scale = (area / (size[0] * size[1])) ** 0.5
    assert abs(width - size[0] * scale) <= 0.5
    assert abs(height - size[1] * scale) <= 0.5


def test_fit_keeps_sides_of_8() -> None:
    assert fit(10_000, 10, 1000) == (1000, 8)
    assert fit(10, 10_000, 1000) == (8, 1000)
    with refused("63", "64"):
        fit(100, 100, 63)


def test_pad_reflects_at_the_bottom_and_the_right() -> None:
    rgb = noise(10, 13)
    grown = pad(rgb, 8)
    assert grown.shape == (16, 16, 3)
    assert grown.dtype == np.uint8
    assert (grown[:10, :13] == rgb).all()
    assert (grown[10:, :13] == rgb[8:2:-1]).all()
    assert (grown[:10, 13:] == rgb[:, 11:8:-1]).all()


def test_pad_repeats_the_edge_of_a_side_too_short_to_reflect() -> None:
    rgb = noise(8, 60)
    grown = pad(rgb, 64)
    assert grown.shape == (64, 64, 3)
    assert (grown[8:, :60] == rgb[7]).all()
    assert (grown[:8, 60:] == rgb[:, 58:54:-1]).all()


def test_pad_leaves_multiples_and_refuses_none() -> None:
    rgb = noise(16, 24)
    assert (pad(rgb, 8) == rgb).all()
    assert (pad(rgb, 1) == rgb).all()
    with refused("0", "1 or more"):
        pad(rgb, 0)


# Pictures of Pillow, addresses, and what is kept of EXIF

SHOWN = Image.fromarray(noise(channels=4))
MODES = {
    "RGBX": SHOWN.convert("RGB").convert("RGBX"), "RGBa": SHOWN.convert("RGBa"),
    "La": SHOWN.convert("LA").convert("La"),
    "PA": SHOWN.convert("RGB").quantize(8).convert("PA"), "HSV": SHOWN.convert("RGB").convert("HSV"),
    "YCbCr": SHOWN.convert("RGB").convert("YCbCr"), "CMYK": SHOWN.convert("RGB").convert("CMYK"),
    "P": SHOWN.convert("RGB").quantize(8), "1": SHOWN.convert("1"), "LA": SHOWN.convert("LA"), "RGBA": SHOWN,
    "LAB": ImageCms.applyTransform(SHOWN.convert("RGB"), ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")),
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_of_pillows_is_taken_in_every_mode_as_its_file_is(tmp_path: Path, mode: str) -> None:
    picture = MODES[mode]
    assert picture.mode == mode
    taken = take(picture)
    plain = {"La": "LA", "RGBX": "RGB", "RGBa": "RGBA", "PA": "RGBA", "HSV": "RGB", "YCbCr": "RGB"}
    # These no lossless file holds: they are saved as what they stand for.
    saved = (picture.convert("LA") if mode == "La" else picture).convert(plain[mode]) if mode in plain else picture
    saved.save(tmp_path / "a.tif")
    found = read(tmp_path / "a.tif")
    assert np.abs(taken.rgb.astype(int) - found.rgb).max() <= 1
    assert (taken.alpha is None) == (found.alpha is None)
    if taken.alpha is not None and found.alpha is not None:
        assert (taken.alpha == found.alpha).all()
    if mode not in ("P", "1"):
        assert np.ptp(taken.rgb) > 150


def test_16_bits_in_memory_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    values = sixteen_bits()
    values.save(tmp_path / "a.png")
    for picture in (values, Image.open(tmp_path / "a.png")):
        assert take(picture).rgb[0, :5, 0].tolist() == [0, 1, 1, 128, 255]


@pytest.mark.parametrize("mode", ["F", "I"])
def test_what_has_no_white_is_refused_in_memory_without_advice_that_clips(mode: str) -> None:
    with pytest.raises(ValueError, match="8 or 16 bits") as caught:
        take(Image.new(mode, (12, 10), 300))
    assert "convert" not in str(caught.value)


def test_an_address_is_no_file_name(tmp_path: Path) -> None:
    with refused("https://a.org/cat.png", "is an address", "download"):
        take("https://a.org/cat.png")


def test_heic_is_named_over_bytes_too(tmp_path: Path) -> None:
    with refused("HEIC"):
        read(b"\0\0\0\x18ftypheic" + bytes(40))


def exif_of_a_shot(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Copyright] = "Camera & Co", "CC BY 4.0"
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.XResolution] = orientation, 72.0
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2020:01:02 03:04:05"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageWidth] = 9999
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    return exif


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "LAB", "RGB", "RGBA", "I;16"])
def test_metadata_is_of_the_shot_and_never_of_the_old_pixels(tmp_path: Path, mode: str, orientation: int) -> None:
    picture = sixteen_bits() if mode == "I;16" else MODES.get(mode, SHOWN if mode == "RGBA" else SHOWN.convert("RGB"))
    picture = picture.convert("L") if mode == "L" else picture
    for source in (".tif", ".png", ".jpg", ".webp"):
        try:
            picture.save(tmp_path / f"a{source}", exif=exif_of_a_shot(orientation).tobytes())
        except (OSError, ValueError):  # a mode that this format can't hold
            continue
        before = read(tmp_path / f"a{source}")
        kept = read_metadata(tmp_path / f"a{source}")
        for target in (".tif", ".png", ".jpg", ".webp"):
            alpha = None if target == ".jpg" else before.alpha
            path = tmp_path / f"b{target}"
            write(path, before.rgb, alpha, {"seed": 1}, overwrite=True, metadata=kept)
            after = read(path)
            assert after.rgb.shape == before.rgb.shape
            assert target == ".jpg" or (after.rgb == before.rgb).all()
            assert read_recipe(path) == {"seed": 1}
            with Image.open(path) as image:
                exif = image.getexif()
                shot, place = exif.get_ifd(ExifTags.IFD.Exif), exif.get_ifd(ExifTags.IFD.GPSInfo)
            assert (exif[ExifTags.Base.Make], exif[ExifTags.Base.Copyright]) == ("Camera & Co", "CC BY 4.0")
            assert ExifTags.Base.Orientation not in exif
            assert shot[ExifTags.Base.DateTimeOriginal] == "2020:01:02 03:04:05"
            assert ExifTags.Base.ExifImageWidth not in shot
            assert place[ExifTags.GPS.GPSLatitudeRef] == "N"
