"""Nodes from picture to picture: colours for a spectrogram, and a photo imprinted into one."""

from __future__ import annotations

from comfy_api.latest import io

from ..itsound_core.colormap import COLORMAPS, apply_colormap, renormalize
from ..itsound_core.imprint import FITS, Fit, imprint
from . import checks

CATEGORY = "Images that Sound/picture"


class RenormalizeSpectrogram(io.ComfyNode):
    """Min-max renormalisation and colours, for viewing (paper 3.3)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RenormalizeSpectrogram",
            display_name="Renormalize Spectrogram",
            category=CATEGORY,
            description="Makes a spectrogram good to look at: stretches it to full black and white and colours it. "
            "Every colour's channel mean is its gray value, so colours alone do not change the sound; stretching does.",
            search_aliases=["normalize spectrogram", "colormap", "false colour", "magma", "viridis"],
            inputs=[
                io.Image.Input("spectrogram", tooltip="The spectrogram picture, 256 rows high. Its channel mean is what counts."),
                io.Combo.Input(
                    "colormap",
                    options=list(COLORMAPS),
                    default="gray",
                    tooltip="Colours from silence to loud. All of them keep the gray value as the mean of red, green and blue.",
                ),
                io.Boolean.Input(
                    "stretch",
                    default=True,
                    optional=True,
                    tooltip="Stretch each picture so that its darkest point is black and its brightest white. For viewing: heard, it is "
                    "louder and has another contrast. Off, the coloured picture sounds as the gray one does.",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The coloured picture, as large as the spectrogram.")],
        )

    @classmethod
    def execute(cls, spectrogram, colormap, stretch=True) -> io.NodeOutput:
        picture = checks.picture(spectrogram, "RenormalizeSpectrogram")
        return io.NodeOutput(apply_colormap(renormalize(picture) if stretch else picture, colormap))


class ImprintBaseline(io.ComfyNode):
    """The imprint baseline: a spectrogram darkened by a picture (paper A.1)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImprintBaseline",
            display_name="Imprint Baseline",
            category=CATEGORY,
            description="Darkens a spectrogram where a picture is dark, so that the picture can be seen in the sound: "
            "spectrogram x (1 - rho x gray(1 - image)). Needs no diffusion model; the paper's baseline.",
            search_aliases=["hide image in sound", "spectrogram art", "watermark"],
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="Any picture, in any size. Its dark parts quieten the sound; transparent ones (a fourth channel) do not.",
                ),
                io.Image.Input("spectrogram", tooltip="The sound's spectrogram, 256 rows high, from AudioToSpectrogram or a VAE."),
                io.Float.Input(
                    "rho",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How strongly the picture darkens. More makes the picture clearer and the sound worse; the paper uses 0.5.",
                ),
                io.Combo.Input(
                    "fit",
                    options=list(FITS),
                    default=FITS[0],
                    optional=True,
                    tooltip="How the picture meets the spectrogram's shape. cover: fill it and crop what sticks out. contain: show the "
                    "whole picture and leave the sound beside it alone. stretch: distort the picture.",
                ),
            ],
            outputs=[io.Image.Output(display_name="imprinted", tooltip="The darkened spectrogram, for SpectrogramToAudio.")],
        )

    @classmethod
    def execute(cls, image, spectrogram, rho, fit: Fit = FITS[0]) -> io.NodeOutput:
        node = "ImprintBaseline"
        picture = checks.picture(spectrogram, node)
        channels, picture = checks.pair(checks.pixels(image, node, "image"), picture, node, ("image", "spectrogram"))
        gray = imprint(channels.movedim(-1, 1).to(picture.device), picture, rho, fit)  # BHWC -> BCHW
        return io.NodeOutput(apply_colormap(gray, "gray"))


NODES = [RenormalizeSpectrogram, ImprintBaseline]
