"""SD.Next: edit the picture of its image tab with words, on the checkpoint that is loaded there.

Put the folder above this one into SD.Next's `extensions`, and `pip install ledits` into its environment. The prompt is
the caption: what the picture shows. A mask says where it may change.
"""

import logging

import gradio as gr
from modules import devices, images, processing, scripts_manager, sd_models, shared

from ledits import Editor

log = logging.getLogger("sd")  # SD.Next's own


class Interrupted(Exception):
    """Somebody pressed Stop."""


class Script(scripts_manager.Script):
    def title(self):
        return "LEDITS++: edit with words"

    def show(self, is_img2img):
        return is_img2img

    def ui(self, is_img2img):
        with gr.Row():
            edit = gr.Textbox(label="Edit", placeholder='"make the cat a dog", or +hat, -hat, cat->dog:8')
        with gr.Row():
            composite = gr.Checkbox(label="Keep the picture's own pixels away from the edit", value=True)
        return [edit, composite]

    def run(self, p, edit, composite):
        pictures = getattr(p, "init_images", None)
        if not edit.strip() or not pictures:
            return self.refused(p, "an edit and a picture are needed")
        seed = int(processing.get_fixed_seed(p.seed))
        sd_models.move_model(shared.sd_model, devices.device)
        try:
            # The loaded parts as they are, with their LoRAs: nothing of SD.Next is switched or restored.
            editor = Editor.from_pipe(shared.sd_model)
            edited = editor.edit(
                pictures[0], edit, source=p.prompt or None, steps=p.steps, skip=1 - p.denoising_strength, seed=seed,
                region=getattr(p, "image_mask", None), composite=composite, progress=self.tell,
            )  # fmt: skip
        except Interrupted:
            return self.refused(p, "the edit was interrupted")
        except ValueError as error:
            return self.refused(p, str(error))
        p.extra_generation_params["LEDITS++"] = ", ".join(edited.recipe.edits)
        done = processing.Processed(p, [edited.image], seed=seed)
        if not p.do_not_save_samples:
            images.save_image(
                edited.image, path=p.outpath_samples, basename="", seed=seed, prompt=p.prompt,
                extension=shared.opts.samples_format, info=done.info, p=p,
            )  # fmt: skip
        return done

    def tell(self, step, steps):
        shared.state.sampling_step, shared.state.sampling_steps = step, steps
        if shared.state.interrupted or shared.state.skipped:
            raise Interrupted

    def refused(self, p, why):
        """No picture but a sentence: without an answer SD.Next would draw a picture of the prompt."""
        log.error(f"LEDITS++: {why}")
        return processing.Processed(p, [], info=f"LEDITS++: {why}")
