"""Images that Sound for ComfyUI: pictures that are spectrograms, made by two diffusion models on one canvas."""

from __future__ import annotations

import importlib

from comfy_api.latest import ComfyExtension, io

WEB_DIRECTORY = "./web"

NODE_FILES = ["loaders", "sampling", "audio", "picture", "video"]


class ImagesThatSound(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        files = [importlib.import_module(f".nodes.{name}", __name__) for name in NODE_FILES]
        return [node for file in files for node in file.NODES]


async def comfy_entrypoint() -> ImagesThatSound:
    return ImagesThatSound()
