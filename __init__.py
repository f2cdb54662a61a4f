"""Images that Sound for ComfyUI: pictures that are spectrograms, made by two diffusion models on one canvas."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .nodes import audio, colorize, loaders, picture, sampling, video

WEB_DIRECTORY = "./web"


class ImagesThatSound(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [*loaders.NODES, *sampling.NODES, *audio.NODES, *picture.NODES, *colorize.NODES, *video.NODES]


async def comfy_entrypoint() -> ImagesThatSound:
    return ImagesThatSound()
