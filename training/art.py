"""Cut the Fluent emoji art that `ledits.scenes` ships out of its npm package.

    npm pack @lobehub/fluent-emoji-3d@1.1.0 && tar xzf lobehub-fluent-emoji-3d-1.1.0.tgz
    python training/art.py package/assets

Each piece is cropped to what is opaque and scaled to 96 pixels on its longer side: twice what a 64-pixel scene needs,
so the same art serves a 128-pixel model. Only names that are not there yet are cut, so that art stays as it is.
"""

import sys
from pathlib import Path

from PIL import Image

CODE_POINTS = {
    "cat": "1f431", "dog": "1f436", "fox": "1f98a", "panda": "1f43c", "frog": "1f438", "pig": "1f437",
    "rabbit": "1f430", "penguin": "1f427", "owl": "1f989", "fish": "1f420", "butterfly": "1f98b", "turtle": "1f422",
    "red apple": "1f34e", "green apple": "1f34f", "banana": "1f34c", "strawberry": "1f353", "pizza": "1f355",
    "donut": "1f369", "red heart": "2764-fe0f", "blue heart": "1f499", "yellow heart": "1f49b", "green heart": "1f49a",
    "star": "2b50", "sunflower": "1f33b", "balloon": "1f388", "gift": "1f381", "crown": "1f451", "ball": "26bd",
    "rocket": "1f680", "car": "1f697", "tree": "1f333", "mushroom": "1f344",
    "sunglasses": "1f576-fe0f", "top hat": "1f3a9", "bow": "1f380",
}  # fmt: skip
SIDE = 96

if __name__ == "__main__":
    source, target = Path(sys.argv[1]), Path(__file__).parent.parent / "src/ledits/scenes/art"
    for name, code in CODE_POINTS.items():
        if (file := target / f"{name.replace(' ', '_')}.png").exists():
            continue
        art = Image.open(source / f"{code}.webp").convert("RGBA")
        art = art.crop(art.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox())
        scale = SIDE / max(art.size)
        art = art.resize((round(art.width * scale), round(art.height * scale)), Image.Resampling.LANCZOS)
        art.save(file, optimize=True)
