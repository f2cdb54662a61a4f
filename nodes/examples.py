"""Pictures or recordings of one's own as a MODEL, without training."""

from __future__ import annotations

import comfy.utils
from comfy_api.latest import io

from ..bridge import inputs
from ..bridge.examples import NODE, SPACES, Arrangement, examples_model, no_text, parse_sizes
from ..itsound_core.views import VIEWS, canvas_rows


class ExamplesAsModel(io.ComfyNode):
    """The exact denoiser of some examples (Scarvelis et al. 2023; Kamb and Ganguli 2024)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id=NODE,
            display_name="Examples as Model",
            category="Images that Sound/sampling",
            description="Makes a model of your own pictures, or of a recording's spectrogram: its canvas shows them, whole or woven anew "
            "along time. No training and no weights; as the image model, a photo comes apart where the sound wants it, and stays a photo.",
            search_aliases=["photo as model", "my picture", "recording as model", "mosaic", "patch denoiser"],
            inputs=[
                io.Image.Input(
                    "examples",
                    tooltip="One or more pictures, or spectrograms from AudioToSpectrogram; colours count by their mean, and transparent "
                    "parts are black. They are scaled to the canvas's height.",
                ),
                io.Vae.Input("vae", tooltip="The VAE of the other models of the canvas: that of Stable Diffusion 1.x."),
                io.Float.Input(
                    "coherence",
                    default=3.3,
                    min=0.0,
                    max=3600.0,
                    step=0.1,
                    round=0.01,
                    tooltip="How many seconds of an example stay together. 0: the whole canvas, the picture stays whole and chooses its "
                    "place. Less than a second: it is woven anew, column by column.",
                ),
                io.String.Input(
                    "sizes",
                    default="1, 1.5, 2",
                    tooltip="Widths in which an example may appear, as multiples of its own; the height is always the canvas's. For a "
                    "recording: 1.",
                ),
                io.Boolean.Input("mirror", default=False, tooltip="Examples may also appear mirrored from left to right."),
                io.Combo.Input(
                    "negative_space",
                    options=list(SPACES),
                    default=SPACES[0],
                    optional=True,
                    tooltip="What lies between examples. black: silence. edge: their outermost columns go on. open: anything of the "
                    "examples' mean and spread, so that the other model decides.",
                ),
                io.Boolean.Input(
                    "repeat",
                    default=True,
                    optional=True,
                    tooltip="An example is repeated along the whole canvas. Off: it lies there once; with a coherence, anywhere, "
                    "also in part.",
                ),
                io.Float.Input(
                    "gap",
                    default=0.64,
                    min=0.0,
                    max=600.0,
                    step=0.08,
                    round=0.01,
                    optional=True,
                    tooltip="Seconds between repetitions, in steps of 0.08. 0 for a loop.",
                ),
                io.Float.Input(
                    "temperature",
                    default=1.0,
                    min=0.01,
                    max=1000.0,
                    step=0.1,
                    round=0.001,
                    optional=True,
                    tooltip="1 is exact. Higher mixes more examples and places for longer; lower chooses sooner.",
                ),
                io.Model.Input(
                    "like",
                    optional=True,
                    tooltip="A model whose latent space and noise schedule this one is to have; without one, Stable Diffusion 1.x's.",
                ),
                io.Combo.Input(
                    "view",
                    options=list(VIEWS),
                    default="none",
                    optional=True,
                    tooltip="two-row square: the examples are pictures on a canvas 512 pixels high, as the image model sees it. An audio "
                    "model sees the canvas 256 high: none.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip="The examples as a model: for an image or audio model's socket; its cfg is 1."
                ),
                io.Conditioning.Output(
                    display_name="conditioning", tooltip="Stands for the prompts that it does not read: for positive and negative."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        examples,
        vae,
        coherence,
        sizes,
        mirror,
        negative_space="black",
        repeat=True,
        gap=0.64,
        temperature=1.0,
        like=None,
        view="none",
    ) -> io.NodeOutput:
        inputs.in_range(cls, {"coherence": coherence, "gap": gap, "temperature": temperature})
        arrangement = Arrangement(coherence, parse_sizes(sizes), mirror, negative_space, repeat, gap, temperature)
        colours = inputs.pixels(examples, NODE, "examples")
        if colours.shape[-1] == 4:
            colours = colours[..., :3] * colours[..., 3:]
        pictures = inputs.gray(colours.expand(*colours.shape[:-1], 3) if colours.shape[-1] == 1 else colours)
        progress = comfy.utils.ProgressBar(len(pictures))
        model = examples_model(pictures, vae, arrangement, like, canvas_rows(VIEWS[view]), progress.update_absolute)
        return io.NodeOutput(model, no_text(like))


NODES = [ExamplesAsModel]
