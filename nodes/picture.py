"""Nodes from picture to picture: colours for a spectrogram, and a canvas laid out as its sound."""

from __future__ import annotations

import comfy.utils
import torch
from comfy_api.latest import io

from ..bridge import inputs, picture_inputs
from ..bridge.progress import interruptible
from ..itsound_core.colorize import color_spectrogram
from ..itsound_core.colormap import COLORMAPS, apply_colormap, renormalize
from ..itsound_core.spectrogram import FRAMES_AT_A_TIME
from ..itsound_core.views import FORMATS, VIEWS, canvas_height

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
                io.Image.Input(
                    "spectrogram", tooltip="The spectrogram picture, 256 rows high (another view: 512). Its channel mean counts."
                ),
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
                picture_inputs.view_choice("What the picture is: none, 256 rows; or a view of 512 rows. In Riffusion's, white is silence."),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The coloured picture, as large as the spectrogram.")],
        )

    @classmethod
    def execute(cls, spectrogram, colormap, stretch=True, view="none") -> io.NodeOutput:
        inputs.in_range(cls, locals())
        picture = picture_inputs.picture(spectrogram, "RenormalizeSpectrogram", view=view)
        pieces = (renormalize(picture) if stretch else picture).split(FRAMES_AT_A_TIME, dim=-1)
        after_piece = interruptible(comfy.utils.ProgressBar(1).update_absolute)
        coloured = []
        for piece in pieces:
            colours = apply_colormap(piece, colormap)
            if not stretch:
                colours = color_spectrogram(piece[:, None], colours.movedim(-1, 1)).pixels.movedim(1, -1)  # BHWC -> BCHW and back
            coloured.append(colours)
            after_piece(len(coloured), len(pieces))
        return io.NodeOutput(torch.cat(coloured, dim=2))


class ViewCanvas(io.ComfyNode):
    """The canvas as the audio model sees it (paper 3.2; official code's latent transformation), on pixels."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ViewCanvas",
            display_name="View Canvas",
            category=CATEGORY,
            description="Lays a picture out as the sound that it is: the upper and the lower half of a 512 x 512 picture, end to end, are "
            "the 256 x 1024 spectrogram. For canvases that were sampled with the same view; or the other way round.",
            search_aliases=["square to spectrogram", "spectrogram to square", "rearrange halves", "two rows", "end to end"],
            inputs=[
                io.Image.Input("canvas", tooltip="The decoded picture: 512 rows high for the two-row square, or 256 with inverse."),
                io.Combo.Input(
                    "view",
                    options=list(VIEWS),
                    default="two-row square",
                    tooltip="The view that the sampler was given. none and Riffusion leave the picture as it is.",
                ),
                io.Boolean.Input(
                    "inverse",
                    default=False,
                    optional=True,
                    tooltip="The other way round: a spectrogram laid out as the square picture, to look at or to start sampling from.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image", tooltip="The spectrogram, 256 rows high, for SpectrogramToAudio; inverse: the square."
                )
            ],
        )

    @classmethod
    def execute(cls, canvas, view, inverse=False) -> io.NodeOutput:
        node = "ViewCanvas"
        inputs.in_range(cls, locals())
        pixels = picture_inputs.pixels(canvas, node, "canvas")
        height, width = pixels.shape[1:3]
        rows = FORMATS[view].n_mels if inverse else canvas_height(view)
        if height != rows or width % 2:
            raise ValueError(
                f"{node}: canvas is {width} x {height} pixels; view {view}{', inverse,' if inverse else ''} takes {rows} rows and an even "
                "width. Decode a canvas that EmptySpectrogramLatent made with this view, or choose another view."
            )
        arrange = VIEWS[view].inverse_view if inverse else VIEWS[view].view
        return io.NodeOutput(arrange(pixels.movedim(-1, 1)).movedim(1, -1))  # BHWC -> BCHW and back


NODES = [RenormalizeSpectrogram, ViewCanvas]
