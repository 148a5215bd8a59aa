"""Pictures in every form, scaled by their type, and masks that count a picture's own area and not its padding."""

import numpy as np
import pytest
import torch
from PIL import Image

from ledits import LEditsPPPipelineStableDiffusion as OursSD
from ledits import LEditsPPPipelineStableDiffusionXL as OursXL
from ledits.method import core
from ledits.method import regions as finding
from ledits.method.core import Concept
from ledits.pipelines import compat, inputs

from conftest import picture, scheduler, seeded, tiny

both = pytest.mark.parametrize("ours", [OursSD, OursXL], ids=["sd", "xl"])
WORDS = {"editing_prompt": "cat", "edit_threshold": 0.75, "output_type": "latent"}


def read(given) -> torch.Tensor:
    return torch.cat(inputs.read(given, None, None, "default", None))


def test_a_picture_is_the_same_in_every_form():
    """Integers are scaled by what their type holds: uint8 arrays became -1 to 509 before."""
    shown = picture(3, 24, 16)
    rgb = np.asarray(shown)
    expected = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    channels_first = torch.from_numpy(rgb.copy()).permute(2, 0, 1)
    forms = {
        "PIL": shown, "uint8": rgb, "uint16": rgb.astype(np.uint16) * 257, "float32": rgb.astype(np.float32) / 255,
        "float64": rgb / 255, "batch": rgb[None], "tensor uint8": channels_first, "tensor": channels_first / 255,
        "tensor batch": channels_first[None] / 255, "not contiguous": np.asfortranarray(rgb), "list": [rgb],
    }  # fmt: skip
    for name, given in forms.items():
        assert (read(given) - expected).abs().max() < 1e-6, name
    assert (read(channels_first.half() / 255) - expected).abs().max() < 1e-2


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (np.full((16, 16, 3), 2.0), "from 2 to 2"),
        (np.full((16, 16, 3), 200.0), "from 200 to 200"),
        (torch.linspace(-1, 1, 3 * 256).view(3, 16, 16), "from -1 to 1"),
        (torch.full((3, 16, 16), torch.nan), "from nan to nan"),
        (np.zeros((16, 16, 3), np.int64), "int64"),
        (np.zeros((16, 16, 3), bool), "bool"),
        (np.zeros((16, 16, 3), object), "object"),
    ],
)
def test_a_picture_out_of_range_is_refused(given, says):
    with pytest.raises(ValueError, match=says):
        read(given)


def share(masks: torch.Tensor, rows: int, columns: int) -> float:
    """The share of a picture of so many cells that the first step's mask of the first edit lets through."""
    return masks[0, 0, 0, :rows, :columns].mean().item()


@both
@pytest.mark.parametrize("rule", ["noise", "attention"])
@pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
def test_quantiles_do_not_count_the_padding(ours, rule, upsampling):
    """Beside a larger picture 1 - threshold of the small one is let through, as when it is alone, and no padding."""
    pipe = tiny(ours, scheduler())
    pipe.invert(image=[picture(1), picture(2, 64, 64)], num_inversion_steps=2, generator=seeded())
    flags = {"use_cross_attn_mask": rule == "attention", "use_intersect_mask": False, "mask_upsampling": upsampling}
    masks = pipe(**WORDS, **flags).masks
    assert masks.shape[-2:] == (32, 32)
    assert share(masks, 16, 16) == pytest.approx(0.25, abs=0.02)
    assert masks[:, :, 0, 16:].max() == masks[:, :, 0, :, 16:].max() == 0
    assert masks[0, 0, 1].mean().item() == pytest.approx(0.25, abs=0.02)


@both
def test_a_cell_that_holds_some_of_the_picture_is_all_of_it(ours):
    """A picture of 25 x 19 pixels has 13 x 10 cells of 2 pixels, its last column and row being cut."""
    pipe = tiny(ours, scheduler())
    pipe.invert(image=picture(0, 25, 19), num_inversion_steps=2, generator=seeded())
    for mask in (None, np.ones((19, 25))):
        masks = pipe(**WORDS, use_intersect_mask=False, user_mask=mask).masks
        assert set(masks.unique().tolist()) == {0.0, 1.0}
        assert masks[..., 10:, :].max() == masks[..., 13:].max() == 0
        assert share(masks, 10, 13) == pytest.approx(0.25, abs=0.01)


def test_a_picture_without_padding_has_no_region():
    """So that nothing changes there."""
    assert inputs.regions(None, 2, [(32, 32), (31, 32)], (16, 16), 2) == [None, None]
    (own,) = inputs.regions(None, 1, [(32, 32), (30, 32)], (16, 16), 2)
    assert own.mean((1, 2, 3)).tolist() == [1.0, 15 / 16]


def test_a_captioned_edit_is_found_without_the_padding(random_model):
    """Otsu's split and the threshold are of the region's own values: what lies outside may be anything."""
    model = random_model()
    schedule = model.schedule(3, 0.15)
    x0 = torch.randn(1, 4, 8, 16, generator=seeded())
    region = torch.zeros(1, 1, 8, 16)
    region[..., :8] = 1
    found = []
    for outside in (0.0, 50.0):
        x = x0.clone()
        x[..., 8:] += outside
        with torch.inference_mode(), model.denoiser(schedule, maps=False) as denoise:
            inversion = core.invert(denoise, schedule, x, torch.randn(3, *x.shape, generator=seeded(1)))
            half, split = finding.find(
                denoise,
                inversion,
                [Concept("a dog", 4.0, 0.5, region=region), Concept("owl", 4.0, None, region=region)],
            )
        found.append((half, split))
        assert half.region[..., 8:].max() == split.region[..., 8:].max() == 0
    values = torch.rand(1, 8, 16, generator=seeded())
    inside = finding.otsu(values[..., :8], torch.ones(1, 8, 8))
    for beside in (-5.0, 0.3, 9.0):
        padded = torch.cat([values[..., :8], torch.full((1, 8, 8), beside)], -1)
        assert torch.equal(finding.otsu(padded, region[0])[..., :8], inside)
        assert not finding.otsu(padded, region[0])[..., 8:].any()
    one = torch.zeros(1, 8, 16)
    one[0, 0, 0] = 1
    assert torch.equal(finding.otsu(values, one), one)


def test_blocks_of_the_published_code_are_counted_in_the_region():
    """compat's M1 takes its quantile at the maps' own resolution, over the cells that the region touches."""
    schedule = core.Schedule((500.0,), (0.7, 1.0), (0.7, 0.0))
    shape = compat.mask("attention", schedule, "nearest", None)
    region = torch.zeros(1, 1, 16, 16)
    region[..., :8, :8] = 1
    maps = torch.rand(1, 8, 8, generator=seeded())
    for scale in (0.0, 100.0):
        beside = maps.clone()
        beside[..., 6:] *= scale  # beyond the smoothing's reach
        mask = shape(0, torch.ones(1, 4, 16, 16), beside, Concept("cat", 1.0, 0.5, region=region))
        assert mask[0, :8, :8].mean() == 0.5
        assert mask.sum() == 32


def test_pictures_and_masks_of_pillow_enter_by_the_one_road():
    """16 bits were clipped to white, and a mask's transparent part was open."""
    values = np.linspace(0, 65535, 16 * 16).reshape(16, 16).astype(np.uint16)
    grey = (values.astype(float) / 65535 * 255).round() / 127.5 - 1
    assert np.abs(read(Image.fromarray(values)).numpy()[0, 0] - grey).max() < 1 / 127
    with pytest.raises(ValueError, match="8 or 16 bits"):
        read(Image.fromarray(values.astype(np.int32)))
    rgba = np.full((16, 16, 4), 255, np.uint8)
    rgba[:, 8:, 3] = 0
    (region,) = inputs.regions(Image.fromarray(rgba), 1, [(16, 16)], (8, 8), 2)
    assert region[..., :8].min() == 1
    assert region[..., 8:].max() == 0
