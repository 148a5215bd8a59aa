"""Write the sample pictures into examples/pictures: python examples/pictures.py"""

from pathlib import Path

from PIL import Image

from ledits.scenes.samples import SAMPLES, draw

if __name__ == "__main__":
    folder = Path(__file__).parent / "pictures"
    for name in SAMPLES:
        Image.fromarray(draw(name)).save(folder / f"{name}.png", optimize=True)
