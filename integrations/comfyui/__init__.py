"""LEDITS++ for ComfyUI: change a real picture with words."""

from comfy_api.latest import ComfyExtension, io

from . import nodes


class Ledits(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return nodes.NODES


async def comfy_entrypoint() -> Ledits:
    return Ledits()
