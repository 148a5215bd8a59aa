"""Pictures in and out of files: read as they are seen, written with their recipe and never over another file."""

import contextlib
import hashlib
import io
import json
import math
import stat
import struct
import warnings
from collections.abc import Collection, Generator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from ledits.errors import FileMissing
from ledits.files import atomic as files

with contextlib.suppress(ImportError):  # the pictures of phones, where somebody has installed what reads them
    import pillow_heif  # pyright: ignore[reportMissingTypeStubs]

    pillow_heif.register_heif_opener()  # pyright: ignore[reportUnknownMemberType]

SMALLEST = 8
"""Pixels: the shortest side of a picture that can be edited."""

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
_LONGEST = {"JPEG": 65_500, "WEBP": 16_383}
_JPEG_SEGMENT = 65_533
_RECIPE = "ledits"
_HEIC = {b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc", b"ftypavif"}

# Of EXIF, what tells of camera, date, place and rights: in a picture's own list, and in that of the shot.
_KEPT = (
    ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.DateTime,
    ExifTags.Base.Artist, ExifTags.Base.HostComputer, ExifTags.Base.Rating, ExifTags.Base.RatingPercent,
    ExifTags.Base.Copyright, ExifTags.Base.XPTitle, ExifTags.Base.XPComment, ExifTags.Base.XPAuthor,
    ExifTags.Base.XPKeywords, ExifTags.Base.XPSubject,
)  # fmt: skip
_KEPT_OF_SHOT = tuple(
    getattr(ExifTags.Base, name)
    for name in (
        "ExposureTime", "FNumber", "ExposureProgram", "ISOSpeedRatings", "SensitivityType", "ExifVersion",
        "DateTimeOriginal", "DateTimeDigitized", "OffsetTime", "OffsetTimeOriginal", "OffsetTimeDigitized",
        "ShutterSpeedValue", "ApertureValue", "BrightnessValue", "ExposureBiasValue", "MaxApertureValue",
        "SubjectDistance", "MeteringMode", "LightSource", "Flash", "FocalLength", "UserComment", "SubsecTime",
        "SubsecTimeOriginal", "SubsecTimeDigitized", "ExposureMode", "WhiteBalance", "DigitalZoomRatio",
        "FocalLengthIn35mmFilm", "SceneCaptureType", "GainControl", "Contrast", "Saturation", "Sharpness",
        "SubjectDistanceRange", "ImageUniqueID", "CameraOwnerName", "BodySerialNumber", "LensSpecification",
        "LensMake", "LensModel", "LensSerialNumber",
    )
)  # fmt: skip
_LONGEST_TAG = 8192  # bytes

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# Arrays compare element by element, so a generated __eq__ could only fail: `sha256` says whether two are the same.
@dataclass(frozen=True, eq=False)
class Picture:
    """A still picture as it is seen: upright, sRGB, 8 bits."""

    rgb: NDArray[np.uint8]
    """(H, W, 3)."""
    alpha: NDArray[np.uint8] | None
    """(H, W), 0 transparent, 255 opaque; None where the file has no alpha."""
    sha256: str
    """Of size, pixels and alpha, so that the same picture in another container matches; opaque alpha counts as none."""


def take(picture: Any) -> Picture:
    """A picture of any kind: a path, a file's bytes, a PIL image, an array (H W), (H W 3) or (H W 4), or a tensor
    (3 H W) or (1 3 H W).

    Arrays and tensors are uint8, or floating-point in 0..1. Raises ValueError for anything else.
    """
    if isinstance(picture, Picture):
        return picture
    if isinstance(picture, bytes | str | Path):
        return read(_path(picture) if isinstance(picture, str) else picture)
    if isinstance(picture, Image.Image):
        rgb, alpha = pixels(picture)
        _check_size(rgb.shape[1], rgb.shape[0], "the picture")
        return Picture(rgb, alpha, _fingerprint(rgb, alpha))
    if hasattr(picture, "detach"):  # a tensor, without importing torch
        picture = picture.detach().float().cpu().numpy() if picture.is_floating_point() else picture.cpu().numpy()
        picture = picture[0] if picture.ndim == 4 and len(picture) == 1 else picture
        if picture.ndim != 3 or picture.shape[0] not in (1, 3, 4):
            raise ValueError(f"a tensor of shape {tuple(picture.shape)}: (3, height, width) is needed, one picture")
        picture = picture.transpose(1, 2, 0)
    return _from_array(np.asarray(picture))


def pixels(image: Image.Image, name: Path | str = "the picture") -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """What a picture that Pillow has opened or made looks like: colours (H W 3), upright and sRGB, and alpha (H W).

    Of any mode and any size; ValueError for values of which nobody knows what is white.
    """
    # "I" is how Pillow 11 opens 16-bit PGM; elsewhere it is 32 or signed bits, and what is white is anyone's guess.
    if image.mode == "F" or (image.mode == "I" and image.format not in {"PNG", "PPM"}):
        raise ValueError(
            f"{name} holds floating-point, signed or 32-bit values; "
            f"ledits edits pictures of 8 or 16 bits: save it as one of these and pass that."
        )
    with _guarded(name):
        image.load()
    turn = _UPRIGHT.get(_exif(image).get(ExifTags.Base.Orientation, 1))
    with _guarded(name):
        colour, opacity = _split(_eight_bits(image))
    colour = _srgb(name, colour, image.info.get("icc_profile"))
    if turn is not None:
        colour = colour.transpose(turn)
        opacity = None if opacity is None else opacity.transpose(turn)
    return np.array(colour, dtype=np.uint8), None if opacity is None else np.array(opacity, dtype=np.uint8)


def _path(text: str) -> Path:
    if "://" in text[:12]:
        raise ValueError(f"{text} is an address, and ledits opens files: download the picture and pass its file.")
    return Path(text)


def _check_size(width: int, height: int, name: Path | str) -> None:
    if min(width, height) < SMALLEST:
        raise ValueError(
            f"{name} is {width}x{height} pixels; "
            f"ledits edits pictures of at least {SMALLEST}x{SMALLEST}: pass a larger one."
        )


def _from_array(pixels: NDArray[Any]) -> Picture:
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or min(pixels.shape[:2]) < SMALLEST:
        raise ValueError(
            f"an array of shape {pixels.shape}: (height, width, 3) is needed, of at least {SMALLEST}x{SMALLEST} pixels"
        )
    if pixels.dtype.kind == "f":
        # One rounding error past the range is no other range.
        if not (pixels.min() >= -1e-4 and pixels.max() <= 1 + 1e-4):
            raise ValueError(
                f"floating-point pixels from {pixels.min():g} to {pixels.max():g}: values in 0..1 are needed, or uint8"
            )
        pixels = (pixels * 255).round().clip(0, 255).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise ValueError(f"pixels of type {pixels.dtype}: uint8 is needed, or floating-point in 0..1")
    rgb = np.ascontiguousarray(np.broadcast_to(pixels[:, :, :3], (*pixels.shape[:2], 3)))
    alpha = np.ascontiguousarray(pixels[:, :, 3]) if pixels.shape[2] == 4 else None
    return Picture(rgb, alpha, _fingerprint(rgb, alpha))


def read(path: Path | bytes) -> Picture:
    """The picture in a file of any format Pillow opens, at least 8x8 pixels, with colours under alpha as stored.

    Bytes are a file's content. Raises ValueError for what is not one whole still picture; warns where a broken colour
    profile is left out.
    """
    with _opened(path) as (image, path):
        with _guarded(path):
            # Photoshop layers and the extra views of a phone's MPO are no frames: the first is the picture.
            # Whether there is a second is enough to know: a file of some megabytes can hold millions.
            several = image.format not in {"MPO", "PSD"} and bool(getattr(image, "is_animated", False))
        if several:
            raise ValueError(f"{path} holds several frames; ledits edits still pictures: save one frame and pass that.")
        _check_size(image.width, image.height, path)
        rgb, alpha = pixels(image, path)
    return Picture(rgb, alpha, _fingerprint(rgb, alpha))


def write(
    path: Path,
    rgb: NDArray[np.uint8],
    alpha: NDArray[np.uint8] | None = None,
    recipe: Mapping[str, object] | None = None,
    *,
    overwrite: bool = False,
    quality: int | None = None,
    metadata: bytes | None = None,
) -> None:
    """Writes rgb (H, W, 3) and alpha (H, W) with an sRGB profile and the recipe; the same input gives the same bytes.

    The file appears whole or not at all. PNG, WebP and TIFF are lossless. Raises ValueError as `check_writable` does,
    for arrays of another kind, and for a picture or a recipe too large for the format.
    """
    check_writable(path, overwrite=overwrite, alpha=alpha is not None)
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise ValueError(f"rgb is {rgb.dtype} of shape {rgb.shape}; pass uint8 of shape (height, width, 3).")
    if alpha is not None and (alpha.dtype != np.uint8 or alpha.shape != rgb.shape[:2]):
        raise ValueError(f"alpha is {alpha.dtype} of shape {alpha.shape}; pass uint8 of shape {rgb.shape[:2]}.")
    encoded = encode(path, rgb, alpha, recipe, quality=quality, metadata=metadata)
    with files.written(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(encoded)


def check_writable(path: Path, *, overwrite: bool, alpha: bool = False) -> None:
    """Raises the ValueError that `write` would raise for this path, before any long computation.

    alpha: whether the picture will have an alpha channel, which JPEG cannot hold.
    """
    files.check_writable(path, _FORMATS, overwrite=overwrite)
    if alpha and _FORMATS[path.suffix.lower()] == "JPEG":
        raise ValueError(f"{path} would lose the picture's transparency, which JPEG cannot hold: choose a .png name.")


def check_quality(path: Path) -> None:
    """Raises ValueError where the format that the path's ending names has no quality to choose."""
    if _FORMATS.get(path.suffix.lower()) not in ("JPEG", "WEBP"):
        raise ValueError(f"{path} loses nothing in its format: leave the quality out, or choose a .jpg or .webp name.")


def read_recipe(path: Path | bytes) -> dict[str, object] | None:
    """The recipe that `write` put in the file, None where there is none; ValueError where it is not a picture."""
    with _opened(path) as (image, path):
        text: str | None = None
        if isinstance(image, PngImagePlugin.PngImageFile):
            with _guarded(path):
                text = image.text.get(_RECIPE)
        else:
            description = _exif(image).get(ExifTags.Base.ImageDescription)
            if isinstance(description, str) and description.startswith(f"{_RECIPE}: "):
                text = description.removeprefix(f"{_RECIPE}: ")
    try:
        recipe: object = None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        # Another program's text under the same key is no recipe, and no fault of the picture.
        return None
    return cast(dict[str, object], recipe) if isinstance(recipe, dict) else None


def read_metadata(path: Path | bytes) -> bytes | None:
    """What a picture's EXIF says of camera, date, place and rights; None where it says nothing of them.

    All else there, such as size, layout, colours and orientation, describes the old pixels, and a TIFF keeps it in the
    same list as what its reader needs.
    """
    kept = Image.Exif()
    with _opened(path) as (image, _), contextlib.suppress(Exception):  # what is broken there is not kept
        found = image.getexif()
        _keep(found, kept, _KEPT)
        if str(kept.get(ExifTags.Base.ImageDescription, "")).startswith(f"{_RECIPE}: "):
            kept.pop(ExifTags.Base.ImageDescription)  # of the edit before this one
        for folder, tags in ((ExifTags.IFD.Exif, _KEPT_OF_SHOT), (ExifTags.IFD.GPSInfo, None)):
            part: dict[int, Any] = {}
            _keep(found.get_ifd(folder), part, tags)
            if part:
                kept.get_ifd(folder).update(part)
    return kept.tobytes() if len(kept) or any(map(kept.get_ifd, (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo))) else None


def _keep(found: Mapping[int, Any], into: MutableMapping[int, Any], tags: Collection[int] | None) -> None:
    """Copy those of `tags`, all where that is None, whose values can be written."""
    for tag in found if tags is None else [tag for tag in tags if tag in found]:
        alone = Image.Exif()
        with contextlib.suppress(Exception):
            alone[tag] = found[tag]
            if len(alone.tobytes()) < _LONGEST_TAG:
                into[tag] = found[tag]


def ending(path: Path | bytes) -> str:
    """The ending of a file in the picture's own format, or .png where ledits doesn't write that."""
    with _opened(path) as (image, _):
        return {name: ending for ending, name in reversed(_FORMATS.items())}.get(image.format or "", ".png")


def fit(width: int, height: int, area: int | None) -> tuple[int, int]:
    """The working (width, height) in pixels: scaled down to at most about `area`, never up, each side at least 8.

    Raises ValueError for an area of less than 8x8 pixels.
    """
    if area is None:
        return width, height
    if area < SMALLEST**2:
        raise ValueError(f"An area of {area} pixels is too small to work at: pass at least {SMALLEST**2}.")
    if width * height <= area:
        return width, height
    scale = math.sqrt(area / (width * height))
    return max(SMALLEST, round(width * scale)), max(SMALLEST, round(height * scale))


def pad(rgb: NDArray[np.uint8], multiple: int) -> NDArray[np.uint8]:
    """(H', W', 3): rgb (H, W, 3) grown at the bottom and the right to multiples by reflection.

    A side shorter than its own reflection needs repeats its edge. Raises ValueError for a multiple below 1.
    """
    if multiple < 1:
        raise ValueError(f"A picture cannot be padded to multiples of {multiple}: pass 1 or more.")
    for axis in (0, 1):
        grow = -rgb.shape[axis] % multiple
        widths = [(0, grow if each == axis else 0) for each in range(rgb.ndim)]
        rgb = np.pad(rgb, widths, mode="reflect" if grow < rgb.shape[axis] else "edge")
    return rgb


@contextmanager
def _opened(path: Path | bytes) -> Generator[tuple[Image.Image, Path]]:
    """The file at path, or its bytes, opened by Pillow, its pixels not yet decoded; and what errors call it."""
    if isinstance(path, bytes):
        head, path, file = path[:12], Path("the picture"), io.BytesIO(path)
    else:
        file = _file(path)
        head = file.read(12)
        file.seek(0)
    with file:
        with _guarded(path, head):
            image = Image.open(file)
        # Pillow would run Ghostscript on it.
        if image.format == "EPS":
            raise ValueError(f"{path} is a drawing (EPS), not a picture of pixels: export it as PNG and pass that.")
        yield image, path


def _file(path: Path) -> BinaryIO:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ValueError(f"{path} is a folder; ledits edits one picture at a time: pass a picture file.")
        # Opening a pipe would wait for ever, and Pillow could not seek in it.
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is not an ordinary file: save the picture to a file and pass that.")
        if status.st_size == 0:
            raise ValueError(f"{path} is empty (0 bytes): pass a picture file.")
        return path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        raise FileMissing(path) from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): check the name and its permissions.") from error


@contextmanager
def _guarded(path: Path | str, head: bytes = b"") -> Generator[None]:
    """Pillow at work on a file that may be anything: its warnings stay quiet and its errors become one sentence.

    `head`: the file's first bytes, which may tell what it is where Pillow can't.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path} claims more than {Image.MAX_IMAGE_PIXELS:,} pixels, the most that ledits opens: scale it down."
        ) from error
    except UnidentifiedImageError as error:
        if head[4:] in _HEIC:
            raise ValueError(
                f"{path} is a HEIC or AVIF picture, which can't be opened here: install pillow-heif, or export the "
                "picture as JPEG or PNG and pass that."
            ) from None
        raise ValueError(
            f"{path} is not a picture that ledits can open; PNG, JPEG, WebP, TIFF, BMP and GIF work: "
            f"save it as one of these and pass that."
        ) from error
    # A damaged file makes Pillow's parsers raise nearly anything.
    except Exception as error:
        raise ValueError(f"{path} is damaged or incomplete ({error}): save or copy it again.") from error


def _exif(image: Image.Image) -> Mapping[int, Any]:
    """The EXIF tags of the picture's own directory, none where they cannot be parsed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dict(image.getexif())
    # A camera's or an editor's broken EXIF is no reason to refuse a whole picture, whatever Pillow raises for it.
    except Exception:
        return {}


def _eight_bits(image: Image.Image) -> Image.Image:
    """The picture itself, or 16-bit grey as "L" or "LA"."""
    if not image.mode.startswith("I"):
        return image
    # Not Image.convert, which clips everything above 255.
    values = np.asarray(image).astype(np.int32)
    white, inverted = 65_535, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = cast(Mapping[int, Any], image.tag_v2)
        white = 2 ** int(tags[TiffImagePlugin.BITSPERSAMPLE][0]) - 1
        # Pillow inverts "white is zero" for 8 bits only.
        inverted = tags[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] == 0
    scaled = (values * 510 + white) // (2 * white)
    grey = Image.fromarray((255 - scaled if inverted else scaled).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is not None:
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours ("L", "RGB", "CMYK" or "LAB", not premultiplied) and the alpha ("L"), None where there is none."""
    grey = image.mode in {"1", "L", "LA", "La"}
    if image.has_transparency_data:
        # Pillow converts premultiplied grey to nothing but "LA".
        full = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        return full.getchannel("R") if grey else full.convert("RGB"), full.getchannel("A")
    if image.mode in {"CMYK", "LAB"}:
        return image, None
    return image.convert("L" if grey else "RGB"), None


def _srgb(path: Path | str, colour: Image.Image, icc: object) -> Image.Image:
    """The colours as sRGB "RGB": by the profile where the file has one that fits, else by Pillow's own conversion."""
    if not isinstance(icc, bytes) or not icc or colour.mode == "LAB":
        return colour.convert("RGB")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        space = icc[16:20].decode("ascii", "replace").strip()
        # A grey picture under an RGB profile is common, and what it means is plain.
        fitting = colour.convert("RGB") if colour.mode == "L" and space == "RGB" else colour
        if space != {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}[fitting.mode]:
            raise ValueError(f"a {space} profile on {colour.mode} pixels")
        target = ImageCms.ImageCmsProfile(io.BytesIO(_srgb_profile()))
        transform = ImageCms.buildTransform(
            profile,
            target,
            fitting.mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        converted = _converted(fitting, transform)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        warnings.warn(f"The colour profile in {path} is left out, as it cannot be used ({error}).", stacklevel=4)
        return colour.convert("RGB")
    return converted


def _converted(colour: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    """The colours through the transform, or unchanged where it is sRGB to sRGB but for rounding.

    Every editor has its own sRGB profile: without this, a picture would drift with each that saves it.
    """
    if colour.mode != "CMYK":
        steps = np.arange(0, 256, 15, dtype=np.uint8)
        cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
        probe = Image.fromarray(cube if colour.mode == "RGB" else steps[None, :])
        before = np.asarray(probe.convert("RGB")).astype(np.int16)
        after = np.asarray(_applied(probe, transform)).astype(np.int16)
        if np.abs(after - before).max() <= 2:
            return colour.convert("RGB")
    return _applied(colour, transform)


def _applied(colour: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    """The transform's output; Pillow types it as perhaps None, which it is only in place."""
    return cast(Image.Image, ImageCms.applyTransform(colour, transform))


@cache
def _srgb_profile() -> bytes:
    """An sRGB ICC profile, the same bytes on every day."""
    # Pillow's annotation of createProfile names a type that checkers cannot resolve.
    profile = ImageCms.ImageCmsProfile(cast(Any, ImageCms).createProfile("sRGB")).tobytes()
    # Bytes 24 to 36 of the header hold the date of creation.
    return profile[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + profile[36:]


def _fingerprint(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8] | None) -> str:
    """SHA-256 of the size, the pixels and any alpha that is not opaque."""
    height, width, _ = rgb.shape
    digest = hashlib.sha256(f"{width}x{height}:".encode())
    digest.update(rgb.tobytes())
    # WebP drops an alpha that is opaque everywhere, and the picture is the same without it.
    if alpha is not None and (alpha < 255).any():
        digest.update(alpha.tobytes())
    return digest.hexdigest()


def encode(
    path: Path,
    rgb: NDArray[np.uint8],
    alpha: NDArray[np.uint8] | None = None,
    recipe: Mapping[str, object] | None = None,
    *,
    quality: int | None = None,
    metadata: bytes | None = None,
) -> bytes:
    """The bytes of a file for rgb (H, W, 3) and alpha (H, W) in the format that the path's ending names.

    `quality`: 1 to 100 for JPEG (95) and WebP (lossless without it). `metadata`: EXIF to keep, from `read_metadata`.
    """
    pixels = rgb if alpha is None else np.dstack([rgb, alpha])
    name = _FORMATS[path.suffix.lower()]
    height, width, _ = pixels.shape
    longest = _LONGEST.get(name)
    if longest is not None and max(width, height) > longest:
        raise ValueError(
            f"The picture for {path} is {width}x{height} pixels and {name} holds at most {longest} a side: "
            f"choose a .png name."
        )
    if quality is not None:
        check_quality(path)
    exif = Image.Exif()
    if metadata is not None:
        exif.load(metadata)
    options: dict[str, object] = {"icc_profile": _srgb_profile()}
    if name == "PNG":
        text = PngImagePlugin.PngInfo()
        if recipe is not None:
            # Half a surrogate pair, as in a file name of foreign bytes, has no UTF-8, but it has a JSON escape.
            line = json.dumps(recipe, sort_keys=True, ensure_ascii=False).encode(errors="backslashreplace").decode()
            text.add_itxt(_RECIPE, line)
        options["pnginfo"] = text
        if metadata is not None:
            options["exif"] = exif.tobytes()
    else:
        exif[ExifTags.Base.Software] = "ledits"
        if recipe is not None:
            exif[ExifTags.Base.ImageDescription] = f"{_RECIPE}: {json.dumps(recipe, sort_keys=True)}"
        options["exif"] = exif.tobytes()
    if name == "JPEG":
        if len(cast(bytes, options["exif"])) > _JPEG_SEGMENT:
            raise ValueError(f"The recipe for {path} is longer than a JPEG can hold: choose a .png name.")
        options |= {"quality": quality or 95, "subsampling": "4:4:4"}
    elif name == "WEBP":
        # exact: the colours under transparent pixels stay.
        options |= {"lossless": True, "exact": True} if quality is None else {"quality": quality, "exact": True}
    elif name == "TIFF" and not any(map(exif.get_ifd, (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo))):
        # libtiff, which compresses, can't write lists within lists.
        options["compression"] = "tiff_adobe_deflate"
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, name, **options)
    return buffer.getvalue()
