"""A page of gradio's kind: open a picture, say what to change, see it. For a hub Space with ZeroGPU, and anywhere."""

import os
import tempfile
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import spaces  # before anything that imports PyTorch: on ZeroGPU it stands in for a GPU until one is lent
from PIL import Image

from ledits import Editor
from ledits.errors import LeditsError
from ledits.scenes.samples import draw

MODEL = os.environ.get("LEDITS_MODEL", "scenes")
PIXELS = 16_000_000  # of a stranger's picture
STEPS = 60
SECONDS = 60  # of a GPU, for one edit
EXAMPLES = [
    ("cat", "a cat on a meadow", "make the cat a dog"),
    ("pair", "a fox and a star on a blue background", "fox->owl, star->sunflower"),
    ("panda", "a panda in the snow", "->a panda wearing a top hat in the snow"),
]

editor = Editor(MODEL)
bar = gr.Progress()  # gradio looks for one among a function's defaults


def region(drawn: dict[str, Any]) -> np.ndarray[Any, Any] | None:
    """Where somebody painted, (H W) in 0..255; None where nobody did."""
    layers = [np.asarray(layer.convert("RGBA"))[..., 3] for layer in drawn["layers"]]
    painted = np.maximum.reduce(layers) if layers else None
    return (painted > 0) * np.uint8(255) if painted is not None and painted.any() else None


def refusal(said: str) -> gr.Error:
    """One sentence for who asked, and no traceback in the log."""
    return gr.Error(said, title="Not edited", print_exception=False)


@spaces.GPU(duration=SECONDS)
def edit(
    drawn: dict[str, Any] | None, caption: str, text: str, steps: int, seed: int, progress: gr.Progress = bar
) -> tuple[tuple[Image.Image, Image.Image], Image.Image, str]:
    """The picture before and after, where it was edited, and what was understood."""
    shown = drawn and drawn["background"]
    if shown is None:
        raise refusal("Open a picture first, or take one of the examples.")
    if not text.strip():
        raise refusal("Say what to change, such as: make the cat a dog.")
    if shown.width * shown.height > PIXELS:
        raise refusal(f"The picture has {shown.width}x{shown.height} pixels, and {PIXELS:,} are the most here.")
    try:
        edited = editor.edit(
            shown, text, source=caption.strip() or None, steps=min(int(steps), STEPS), seed=int(seed),
            region=region(drawn), composite=True,
            progress=lambda done, total: progress((done, total), unit="steps"),
        )  # fmt: skip
    except LeditsError as error:
        raise refusal(f"{error.what}.") from None
    except ValueError as error:
        raise refusal(f"{error}.") from None
    for text, idle in zip(edited.recipe.edits, edited.idle, strict=True):
        if idle:
            gr.Warning(f"{text} changed nothing: {idle}.")
    return (shown.convert("RGB"), edited.image.convert("RGB")), edited.overlay, ", ".join(edited.recipe.edits)


def page() -> gr.Blocks:
    """The page; its examples lie in a folder that gradio may show."""
    folder = Path(tempfile.mkdtemp())
    for name, _, _ in EXAMPLES:
        Image.fromarray(draw(name)).resize((512, 512), Image.Resampling.NEAREST).save(folder / f"{name}.png")
    with gr.Blocks(title="LEDITS++") as made:
        gr.Markdown("# LEDITS++\nOpen a picture, say what should change. What an edit does not mean stays as it was.")
        with gr.Row():
            with gr.Column():
                drawn = gr.ImageEditor(
                    label="Picture; paint where it may change, or nowhere", type="pil", image_mode="RGBA",
                    sources=["upload", "clipboard"], transforms=(),
                    brush=gr.Brush(colors=[("#ff0000", 0.5)], default_size=40),
                )  # fmt: skip
                caption = gr.Textbox(label="What the picture shows", placeholder="a cat on a meadow")
                text = gr.Textbox(label="What to change", placeholder="make the cat a dog")
                with gr.Accordion("More", open=False):
                    steps = gr.Slider(4, STEPS, editor.backbone.defaults.steps, step=1, label="Steps")
                    seed = gr.Number(0, label="Seed", precision=0, minimum=0)
                button = gr.Button("Edit", variant="primary")
            with gr.Column():
                result = gr.ImageSlider(label="Before and after", type="pil", format="png")
                where = gr.Image(label="Where it was edited", format="png")
                understood = gr.Textbox(label="Understood", interactive=False)
        gr.Examples(
            [[{"background": str(folder / f"{name}.png"), "layers": [], "composite": None}, says, asks]
             for name, says, asks in EXAMPLES],
            [drawn, caption, text],
        )  # fmt: skip
        asked = [drawn, caption, text, steps, seed]
        gr.on(
            [button.click, text.submit], edit, asked, [result, where, understood], concurrency_limit=1,
            show_progress_on=result, api_name="edit",
        )  # fmt: skip
    return made


if __name__ == "__main__":
    page().queue(max_size=8).launch()
