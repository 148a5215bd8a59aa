"""What tests/test_gimp.py runs inside GIMP: each case edits an image by the plug-in and writes down what came of it."""

import json
import os
import time
from pathlib import Path

from gi.repository import Gegl, Gimp

FOLDER, ADDRESS = Path(os.environ["LEDITS_TEST_FOLDER"]), os.environ["LEDITS_TEST_ADDRESS"]
KINDS = {  # base type, precision, layer type
    "rgb": (Gimp.ImageBaseType.RGB, Gimp.Precision.U8_NON_LINEAR, Gimp.ImageType.RGB_IMAGE),
    "rgba": (Gimp.ImageBaseType.RGB, Gimp.Precision.U8_NON_LINEAR, Gimp.ImageType.RGBA_IMAGE),
    "grey": (Gimp.ImageBaseType.GRAY, Gimp.Precision.U8_NON_LINEAR, Gimp.ImageType.GRAY_IMAGE),
    "16": (Gimp.ImageBaseType.RGB, Gimp.Precision.U16_NON_LINEAR, Gimp.ImageType.RGB_IMAGE),
    "float": (Gimp.ImageBaseType.RGB, Gimp.Precision.FLOAT_LINEAR, Gimp.ImageType.RGBA_IMAGE),
}
WIDTH, HEIGHT = 40, 32


def pixels(drawable, kind="R'G'B'A u16", width=WIDTH, height=HEIGHT):
    area = Gegl.Rectangle.new(0, 0, width, height)
    return bytes(drawable.get_buffer().get(area, 1.0, kind, Gegl.AbyssPolicy.NONE))


def seen(image):
    """The image as it looks."""
    layer = Gimp.Layer.new_from_visible(image, image, "seen")
    found = pixels(layer)
    layer.delete()
    return found


def filled(image, kind, name, data, width=WIDTH, height=HEIGHT):
    """A layer of 16-bit RGBA, above the others."""
    layer = Gimp.Layer.new(image, name, width, height, KINDS[kind][2], 100, Gimp.LayerMode.NORMAL)
    buffer = layer.get_buffer()
    buffer.set(Gegl.Rectangle.new(0, 0, width, height), "R'G'B'A u16", data)
    buffer.flush()
    image.insert_layer(layer, None, 0)
    return layer


def started(kind):
    base, precision, _ = KINDS[kind]
    return Gimp.Image.new_with_precision(WIDTH, HEIGHT, base, precision)


def edited(name, image, drawables, **given):
    """Run the plug-in, and note what it said and what is there after it."""
    before = seen(image)
    procedure = Gimp.get_pdb().lookup_procedure("plug-in-ledits")
    config = procedure.create_config()
    config.set_property("run-mode", Gimp.RunMode.NONINTERACTIVE)
    config.set_property("image", image)
    config.set_core_object_array("drawables", drawables)
    for key, value in {"edit": "+crown:30", "address": ADDRESS, **given}.items():
        config.set_property(key, value)
    result = procedure.run(config)
    done = result.index(0) == Gimp.PDBStatusType.SUCCESS
    note = {"done": done, "said": "" if done else Gimp.get_pdb().get_last_error()}
    note["layers"] = [layer.get_name() for layer in image.get_layers()]
    (FOLDER / f"{name}.before").write_bytes(before)
    (FOLDER / f"{name}.after").write_bytes(seen(image))
    (FOLDER / f"{name}.selection").write_bytes(pixels(image.get_selection(), "Y u8"))
    if done:
        layer = result.index(1)
        width, height = layer.get_width(), layer.get_height()
        parent = layer.get_parent()
        note |= {"name": layer.get_name(), "parent": parent and parent.get_name()}
        note |= {"offsets": list(layer.get_offsets()[-2:]), "size": [width, height]}
        (FOLDER / f"{name}.mask").write_bytes(pixels(layer.get_mask(), "Y u8", width, height))
        (FOLDER / f"{name}.layer").write_bytes(pixels(layer, "R'G'B'A u8", width, height))
    notes[name] = note


notes = {}
noise = (FOLDER / "noise").read_bytes()  # 16-bit RGBA
opaque = bytearray(noise)
opaque[6::8] = opaque[7::8] = b"\xff" * (WIDTH * HEIGHT)

for kind in KINDS:
    image = started(kind)
    layer = filled(image, kind, "below", noise if kind == "rgba" else bytes(opaque))
    edited(kind, image, [layer])

image = started("rgb")
layer = filled(image, "rgb", "below", bytes(opaque))
image.select_ellipse(Gimp.ChannelOps.REPLACE, 6, 4, 24, 20)
Gimp.Selection.feather(image, 6)
edited("selected", image, [layer])
edited("again", image, [layer], edit="give it a hat")
edited("captioned", image, [image.get_layers()[0]], edit="make the cat a dog", caption="a cat on a beach")

image = started("rgb")
image.set_color_profile(Gimp.ColorProfile.new_rgb_adobe())
edited("profile", image, [filled(image, "rgb", "below", bytes(opaque))])

image = started("rgba")
filled(image, "rgba", "ground", bytes(opaque))
group = Gimp.GroupLayer.new(image, "group")
image.insert_layer(group, None, 0)
layer = filled(image, "rgba", "inner", noise)
image.reorder_item(layer, group, 0)
edited("grouped", image, [layer])

image = started("16")
layer = filled(image, "16", "below", bytes(opaque))
image.select_rectangle(Gimp.ChannelOps.REPLACE, 8, 8, 16, 16)
edited("selected-16", image, [layer])

image = started("rgba")
filled(image, "rgba", "ground", bytes(opaque))
small = filled(image, "rgba", "small", noise[: 16 * 16 * 8], 16, 16)
small.set_offsets(20, 10)
filled(image, "rgba", "above", bytes(8 * WIDTH * HEIGHT))
edited("among", image, [small])
edited("visible", image, [small], visible=True)
image.select_rectangle(Gimp.ChannelOps.REPLACE, 0, 0, 5, 5)
edited("beside", image, [small])
Gimp.Selection.none(image)
edited("two", image, [small, image.get_layers()[-1]])
edited("nothing-asked", image, [small], edit=" ")
edited("unread", image, [small], edit="make it nice")
edited("nobody", image, [small], address="http://127.0.0.1:9")
edited("no-address", image, [small], address="here")
edited("idle", image, [small], edit="+crown:0")
# The test holds the network, and cancels what waits for it.
(FOLDER / "hold").touch()
while not (FOLDER / "held").exists():
    time.sleep(0.05)
edited("cancelled", image, [small], edit="+sword:30", visible=True)

image = Gimp.Image.new(WIDTH, HEIGHT, Gimp.ImageBaseType.RGB)
layer = filled(image, "rgb", "below", bytes(opaque))
image.convert_indexed(Gimp.ConvertDitherType.NONE, Gimp.ConvertPaletteType.GENERATE, 8, False, False, "")
edited("indexed", image, [layer])

(FOLDER / "notes.json").write_text(json.dumps(notes))
