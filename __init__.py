"""Images that Sound for ComfyUI: pictures that are spectrograms, made by two diffusion models on one canvas."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .nodes import audio, colorize, examples, imprint, keepers, loaders, picture, player, prompts, sampling, saving, scoring, sds, video

WEB_DIRECTORY = "./web"


class ImagesThatSound(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        families = (loaders, prompts, sampling, audio, picture, imprint, examples, colorize, sds, scoring, keepers, video, saving, player)
        return [node for family in families for node in family.NODES]


async def comfy_entrypoint() -> ImagesThatSound:
    return ImagesThatSound()
