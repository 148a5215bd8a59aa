#!/usr/bin/env python3
"""GIMP 3: Filters > Edit with Words. The result is a new layer, with a mask that says where it changed.

`client.py` asks the server. Here pixels are taken from GIMP and given back to it, which converts between what a picture
has (its profile, grey, 16 bits, floating point) and 8-bit sRGB.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gegl", "0.4")
gi.require_version("Gimp", "3.0")
from client import ADDRESS, Failed, Picture, Server, changed  # noqa: E402  (Python looks in this file's folder first)
from gi.repository import Gegl, Gimp, Gio, GLib, GObject  # noqa: E402

PROCEDURE = "plug-in-ledits"
KEPT = "ledits-inversion"  # noted on a picture: the server's id of what its last edit was made from
RGB, RGBA, GREY = "R'G'B' u8", "R'G'B'A u8", "Y u8"  # as babl calls them


def take(drawable: Any, area: Any, pixels: str) -> bytes:
    """The pixels of a drawable in an area of it, row by row; those beyond it are 0."""
    return bytes(drawable.get_buffer().get(area, 1.0, pixels, Gegl.AbyssPolicy.NONE))


def put(drawable: Any, area: Any, pixels: str, data: bytes) -> None:
    """Write the pixels of a drawable."""
    buffer = drawable.get_buffer()
    buffer.set(area, pixels, data)
    buffer.flush()
    drawable.update(area.x, area.y, area.width, area.height)


def opened(png: bytes, area: Any) -> bytes:
    """The RGB of a file, by GIMP's own reader."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "edited.png"
        path.write_bytes(png)
        image = Gimp.file_load(Gimp.RunMode.NONINTERACTIVE, Gio.File.new_for_path(str(path)))
    try:
        return take(image.get_layers()[0], area, RGB)
    finally:
        image.delete()


def tell(text: str, share: float) -> None:
    """Show what is being done. GIMP ends this program where its Cancel is pressed, and the server then stops too."""
    Gimp.progress_set_text(text)
    Gimp.progress_update(share)


def edited(image: Any, drawables: list[Any], given: Any) -> Any:
    """The new layer, in the image; raises Failed."""
    text = (given.get_property("edit") or "").strip()
    if not text:
        raise Failed('Say what to change: a sentence such as "make the cat a dog", or an edit such as +sunglasses.')
    if image.get_base_type() == Gimp.ImageBaseType.INDEXED:
        raise Failed("A picture with a colormap can't take an edit: choose Image > Mode > RGB first.")
    if given.get_property("visible"):
        shown = Gimp.Layer.new_from_visible(image, image, text)
        try:
            return added(image, shown, None, text, given)
        finally:
            shown.delete()
    if len(drawables) != 1 or not drawables[0].is_layer():
        raise Failed("Select one layer, and not its mask or a channel; or choose to edit what is visible.")
    return added(image, drawables[0], drawables[0], text, given)


def added(image: Any, shown: Any, beneath: Any, text: str, given: Any) -> Any:
    """A layer with the edited pixels of `shown`, above the layer `beneath`, or above all; raises Failed."""
    left, top = shown.get_offsets()[-2:]
    area = Gegl.Rectangle.new(0, 0, shown.get_width(), shown.get_height())
    before, clear = take(shown, area, RGB), b""
    if shown.has_alpha():
        clear = take(shown, area, RGBA)
        clear = clear if clear[3::4].strip(b"\xff") else b""
    region = None
    if not Gimp.Selection.is_empty(image):
        region = take(image.get_selection(), Gegl.Rectangle.new(left, top, area.width, area.height), GREY)
        if not any(region):
            raise Failed("The selection lies beside the layer: select a part of the layer, or nothing.")
    server = Server(
        given.get_property("address") or ADDRESS, given.get_property("key") or os.environ.get("LEDITS_API_KEY", "")
    )
    noted = image.get_parasite(KEPT)
    kept = json.loads(bytes(noted.get_data())) if noted else {}
    sent = Picture(area.width, area.height, clear or before)
    answer = server.edit(sent, text, (given.get_property("caption") or "").strip(), region, kept, tell)
    if not image.is_valid() or (beneath and not beneath.is_valid()):
        raise Failed("The layer was removed while it was edited: nothing is there to lay the result on.")
    after = opened(answer.image, area)
    mask = changed(before, after)
    if not any(mask):
        raise Failed(" ".join(answer.notes) or "The edit changed nothing: ask for more of it, such as +crown:12.")
    image.undo_group_start()
    try:
        layer = laid(image, beneath, answer.understood, after, clear, mask, area)
        layer.set_offsets(left, top)
        # Not written into files, and nothing to undo: it holds for as long as the picture is open.
        noted = json.dumps({"key": answer.key, "inversion": answer.inversion}).encode()
        image.attach_parasite(Gimp.Parasite.new(KEPT, 0, noted))
    finally:
        image.undo_group_end()
    Gimp.displays_flush()
    for note in answer.notes:
        Gimp.message(note)
    return layer


def laid(image: Any, beneath: Any, name: str, rgb: bytes, clear: bytes, mask: bytes, area: Any) -> Any:
    """A new layer of RGB pixels, where `mask` is white; `clear` has the RGBA of before where some of it is."""
    grey = image.get_base_type() == Gimp.ImageBaseType.GRAY
    parent = beneath.get_parent() if beneath else None
    place = image.get_item_position(beneath) if beneath else 0
    # Where nothing lies under what is edited, the new layer is opaque and gets its shape from what it lies on, which is
    # exact; else it has the transparency of that itself, and what is half transparent shows a part of both.
    siblings = parent.get_children() if parent else image.get_layers()
    if clear and beneath and (parent or place < len(siblings) - 1):
        pixels = bytearray(clear)
        for k in range(3):
            pixels[k::4] = rgb[k::3]
        kind = Gimp.ImageType.GRAYA_IMAGE if grey else Gimp.ImageType.RGBA_IMAGE
        data, order = bytes(pixels), RGBA
    else:
        kind = Gimp.ImageType.GRAY_IMAGE if grey else Gimp.ImageType.RGB_IMAGE
        data, order = rgb, RGB
    layer = Gimp.Layer.new(image, name, area.width, area.height, kind, 100, Gimp.LayerMode.NORMAL)
    layer.set_composite_mode(Gimp.LayerCompositeMode.CLIP_TO_BACKDROP)
    put(layer, area, order, data)
    image.insert_layer(layer, parent, place)
    layer.add_mask(layer.create_mask(Gimp.AddMaskType.BLACK))
    put(layer.get_mask(), area, GREY, mask)
    layer.set_edit_mask(False)  # the next edit, or a brush, is meant for the layer
    return layer


def asked(procedure: Any, config: Any) -> bool:
    """The dialog; False where it was left."""
    gi.require_version("GimpUi", "3.0")
    from gi.repository import GimpUi

    GimpUi.init(PROCEDURE)
    dialog = GimpUi.ProcedureDialog.new(procedure, config, "Edit with Words")
    dialog.fill(["edit", "caption", "visible", "address", "key"])
    try:
        return dialog.run()
    finally:
        dialog.destroy()


def run(procedure: Any, mode: Any, image: Any, drawables: list[Any], config: Any, _: Any) -> Any:
    """What GIMP calls."""
    if mode == Gimp.RunMode.INTERACTIVE and not asked(procedure, config):
        return procedure.new_return_values(Gimp.PDBStatusType.CANCEL, GLib.Error())
    Gimp.progress_init("Edit with words")
    try:
        layer = edited(image, drawables, config)
    except Failed as error:
        return procedure.new_return_values(Gimp.PDBStatusType.EXECUTION_ERROR, GLib.Error(str(error)))
    finally:
        Gimp.progress_end()
    done = GObject.Value(Gimp.PDBStatusType, Gimp.PDBStatusType.SUCCESS)
    return Gimp.ValueArray.new_from_values([done, GObject.Value(Gimp.Layer, layer)])


class Ledits(Gimp.PlugIn):
    """What GIMP is told at its start."""

    def do_set_i18n(self, _: str) -> bool:
        return False

    def do_query_procedures(self) -> list[str]:
        return [PROCEDURE]

    def do_create_procedure(self, name: str) -> Any:
        procedure = Gimp.ImageProcedure.new(self, name, Gimp.PDBProcType.PLUGIN, run, None)
        procedure.set_image_types("*")
        procedure.set_sensitivity_mask(
            Gimp.ProcedureSensitivityMask.DRAWABLE
            | Gimp.ProcedureSensitivityMask.DRAWABLES
            | Gimp.ProcedureSensitivityMask.NO_DRAWABLES
        )
        procedure.set_menu_label("Edit with _Words (LEDITS++)...")
        procedure.add_menu_path("<Image>/Filters")
        procedure.set_documentation(
            "Change the layer with words, in the selection or wherever the words are",
            "The result is a new layer with a mask. A server made by `ledits serve` does the work.",
            name,
        )
        procedure.set_attribution("ledits", "Apache-2.0", "2026")
        both = GObject.ParamFlags.READWRITE
        procedure.add_string_argument(
            "edit", "Edit", 'A sentence: "make the cat a dog". Or edits: cat->dog, +crown:8, -hat', "", both
        )
        procedure.add_string_argument(
            "caption",
            "_Caption",
            'What the picture shows: "a cat on a beach". Edits then keep more of the rest',
            "",
            both,
        )
        procedure.add_boolean_argument(
            "visible", "Edit what is visible", "All layers as they look, in place of the selected one", False, both
        )
        procedure.add_string_argument("address", "Server", "Where `ledits serve` listens", ADDRESS, both)
        procedure.add_string_argument(
            "key",
            "_Key",
            "The server's API key, if it has one; GIMP keeps it as text. Empty: LEDITS_API_KEY's",
            "",
            both,
        )
        procedure.add_layer_return_value("layer", "Layer", "The result", True, both)
        return procedure


Gimp.main(Ledits.__gtype__, sys.argv)
