"""Write the sample pictures into examples/pictures: python examples/pictures.py"""

from pathlib import Path

from PIL import Image

from ledits.scenes.samples import SAMPLES

if __name__ == "__main__":
    folder = Path(__file__).parent / "pictures"
    for name, scene in SAMPLES.items():
        Image.fromarray(scene.render()).save(folder / f"{name}.png", optimize=True)
