"""What an installed package does, asked by its own Python in an empty folder: `make test-packages`.

    python tests/installed.py library    # ledits alone: no weights, no server
    python tests/installed.py demo       # with the small models
    python tests/installed.py serve      # with the server as well

It needs nothing but what the packages bring, so that a dependency that they forgot is missed here.
"""

import base64
import io
import json
import subprocess
import sys
import threading
import urllib.request
from importlib import import_module
from pathlib import Path

BESIDE = Path(sys.executable).parent / ("ledits.exe" if sys.platform == "win32" else "ledits")
MISSING = "the small model 'scenes' is not installed: pip install 'ledits[demo]'"
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ledits(*arguments: str, code: int = 0) -> str:
    """What the command prints, which must end with this code."""
    done = subprocess.run([BESIDE, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code, (arguments, done.returncode, done.stderr)
    return done.stdout + done.stderr


def library() -> None:
    from PIL import Image

    import ledits as package

    assert "site-packages" in str(package.__file__), package.__file__
    assert "torch" not in sys.modules
    assert package.__version__ in ledits("--version")
    for command in ("edit", "invert", "batch", "demo", "info", "models", "doctor", "keep", "serve", "studio", "bench"):
        assert "Usage" in ledits(command, "--help"), command
    Image.new("RGB", (64, 64), "white").save("white.png")
    for line in ("edit white.png cat->dog -o dog.png", "batch white.png --edit cat->dog -o edited", "demo made"):
        assert MISSING in ledits(*line.split(), code=2), line
    assert "pip install 'ledits[serve]'" in ledits("serve", code=2)
    assert "pip install 'ledits[demo]'" in ledits("models")
    from ledits.testing import ToyBackbone

    edited = package.Editor(ToyBackbone()).edit("white.png", "+hat")
    assert edited.image.size == (64, 64)
    assert import_module("leditspp").StableDiffusionPipeline_LEDITS
    edited.save("toy.png")
    assert '"kind": "picture"' in ledits("info", "toy.png", "--json")


def demo() -> None:
    from ledits.picture import image
    from ledits.scenes import Scene
    from ledits.scenes.recognise import recognise
    from ledits.scenes.samples import SAMPLES, SIDE

    assert "small scenes of these words only" in ledits("models")
    print(ledits("demo", "demo"), end="")
    # The README's first lines.
    ledits("edit", "demo/cat.png", "+sunglasses", "-o", "cool.png")
    ledits("edit", "demo/cat.png", "cat->panda", "--source", "a cat on a meadow", "-o", "panda.png")
    ledits("edit", "demo/cat.png", "--recipe", "panda.png", "-o", "again.png")
    assert Path("panda.png").read_bytes() == Path("again.png").read_bytes()
    meadow = Scene((), SAMPLES["cat"].background, SAMPLES["cat"].seed).render(SIDE)
    found = recognise(image.read(Path("panda.png")).rgb, meadow, near=SAMPLES["cat"].objects[0])[0].name
    assert found == "panda", found
    # The other small model, and many pictures.
    swap = ("edit", "demo/cat.png", "cat->dog", "--source", "a cat on a meadow")
    ledits(*swap, "-o", "flow.png", "--model", "scenes-flow")
    ledits("batch", "demo/cat.png", "demo/panda.png", "--edit", "+sunglasses", "-o", "edited")
    assert len(list(Path("edited/demo").glob("*.png"))) == 2


class Running:
    """A command that serves, until the block ends; `at` is its address."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen([BESIDE, *arguments], stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> str:
        assert self.process.stderr is not None
        said = list[str]()
        for line in self.process.stderr:
            said.append(line)
            if (found := line.partition(" at http://")[2]) and line.startswith("ledits "):
                # What else it says is read, or the pipe fills up and it waits.
                threading.Thread(target=self.process.stderr.read, daemon=True).start()
                return "http://" + found.split()[0]
        raise AssertionError("".join(said))

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        # Windows has no signal that asks: there it is ended at once, with this code.
        assert self.process.wait(30) in ((1,) if sys.platform == "win32" else (0, -15, 143)), self.process.returncode


def serve() -> None:
    from PIL import Image

    with Running("serve", "--port", "0", "--store", "store") as at:
        assert [model["id"] for model in json.loads(get(f"{at}/v1/models"))["data"]] == ["scenes"]
        picture = "data:image/png;base64," + base64.b64encode(Path("demo/cat.png").read_bytes()).decode()
        asked = {"images": [{"image_url": picture}], "prompt": "make the cat a dog", "source": "a cat on a meadow"}
        request = urllib.request.Request(
            f"{at}/v1/images/edits", json.dumps(asked).encode(), {"Content-Type": "application/json"}
        )
        answer = json.loads(HTTP.open(request, timeout=300).read())
        edited = Image.open(io.BytesIO(base64.b64decode(answer["data"][0]["b64_json"])))
        assert edited.size == (128, 128)
        edited.save("served.png")
    with Running("studio", "demo/cat.png", "--port", "0", "--no-browser", "--store", "store") as at:
        # The page is there at once, its files with it; the model is named as soon as it is loaded.
        assert b"main.js" in get(f"{at}/")
        for name in ("main.js", "style.css", "texts/en.json", "icon.svg"):
            assert get(f"{at}/{name}")
        for _ in range(300):
            about = json.loads(get(f"{at}/studio.json"))
            if not about["loading"]:
                break
            threading.Event().wait(1)
        assert list(about["models"]) == ["scenes"]


def get(address: str) -> bytes:
    return HTTP.open(address, timeout=60).read()


if __name__ == "__main__":
    {"library": library, "demo": demo, "serve": serve}[sys.argv[1]]()
    print(f"Python {sys.version.split()[0]}, {sys.argv[1]}: works")
