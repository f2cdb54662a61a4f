"""Pictures or recordings of one's own as a MODEL, without training, and the sound in a recording's own phase."""

from __future__ import annotations

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import io

from ..bridge import audio_inputs, inputs, picture_inputs
from ..bridge.examples import NODE, SHIFTS, SPACES, Arrangement, examples_model, no_text, parse_sizes
from ..bridge.vocoding import LOOP_COLUMNS
from ..itsound_core.looping import close_loop, wrap
from ..itsound_core.mosaicing import mosaic
from ..itsound_core.spectrogram import AUFFUSION, SILENCE, limit_peak

SHORTEST_SECONDS = 0.1
"""Less of a recording holds too few whole windows to be compared with anything."""


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
                picture_inputs.view_choice(
                    "two-row square: the examples are pictures on a canvas 512 pixels high, as the image model sees it. An audio "
                    "model sees the canvas 256 high: none. Riffusion: 512 high for both, and silence is white."
                ),
                io.Combo.Input(
                    "shifts",
                    options=list(SHIFTS),
                    default=SHIFTS[0],
                    optional=True,
                    tooltip="How finely examples are placed along time: 8 px are 0.08 s, a column of the latents. 1 px needs eight times "
                    "the memory and time.",
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
        shifts=SHIFTS[0],
    ) -> io.NodeOutput:
        inputs.in_range(cls, locals())
        shift = int(shifts.removesuffix(" px"))
        arrangement = Arrangement(coherence, parse_sizes(sizes), mirror, negative_space, repeat, gap, temperature, shift)
        colours = picture_inputs.pixels(examples, NODE, "examples")
        if colours.shape[-1] == 4:
            colours = colours[..., :3] * colours[..., 3:]
        pictures = picture_inputs.gray(colours.expand(*colours.shape[:-1], 3) if colours.shape[-1] == 1 else colours)
        progress = comfy.utils.ProgressBar(len(pictures))
        model = examples_model(pictures, vae, arrangement, like, view, progress.update_absolute)
        return io.NodeOutput(model, no_text(like))


class ExamplesToAudio(io.ComfyNode):
    """Audio mosaicing: a spectrogram in a recording's own phase (beyond the paper)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ExamplesToAudio",
            display_name="Examples to Audio",
            category="Images that Sound/audio",
            description="Plays a spectrogram by pieces of your own recording: finds for each moment the place that is most like it, joins "
            "them without clicks, and makes them as loud as the picture is. It sounds like the recording, in stereo and at its own rate.",
            search_aliases=["own phase", "mosaic", "concatenative synthesis", "my recording", "granular"],
            inputs=[
                io.Image.Input(
                    "spectrogram",
                    tooltip="The spectrogram picture, 256 rows high, as a rule one that was sampled with the recording as a model. The "
                    "mean of its colours is what is played.",
                ),
                io.Audio.Input(
                    "recording", tooltip="The recording, of any length, sample rate and number of channels; after its end it begins again."
                ),
                io.Float.Input(
                    "coherence",
                    default=0.7,
                    min=0.0,
                    max=3600.0,
                    step=0.1,
                    round=0.01,
                    tooltip="About how many seconds of the recording stay together. Less follows the picture more closely, more jumps "
                    "less. 0: no jumps at all.",
                ),
                io.Float.Input(
                    "likeness",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    tooltip="How far the loudness at each moment and frequency is the picture's. 1: the picture is in the sound. 0: the "
                    "recording is only put in another order.",
                ),
                io.Boolean.Input(
                    "loop",
                    default=False,
                    optional=True,
                    tooltip="The picture is one turn of a loop: the sound's end goes on into its beginning without a click.",
                ),
            ],
            outputs=[
                io.Audio.Output(
                    display_name="audio",
                    tooltip="The sound, as long as the picture, at the recording's rate and with its channels; never beyond full scale.",
                )
            ],
        )

    @classmethod
    def execute(cls, spectrogram, recording, coherence, likeness=1.0, loop=False) -> io.NodeOutput:
        node = "ExamplesToAudio"
        inputs.in_range(cls, locals())
        pictures = picture_inputs.picture(spectrogram, node).cpu()
        samples, rate = audio_inputs.waveform(recording, node, "recording")
        pictures, samples = inputs.pair(pictures, samples, node, ("spectrogram", "recording"))
        if samples.shape[-1] < SHORTEST_SECONDS * rate:
            raise ValueError(
                f"{node}: recording is {samples.shape[-1] / rate:.3f} s long; it must hold {SHORTEST_SECONDS:g} s or more. "
                "Use a longer one."
            )
        mixes = audio_inputs.mixed(samples, rate, node)
        if float(mixes.abs().amax(-1).min()) <= SILENCE:
            raise ValueError(f"{node}: recording is silent, so that nothing can be played by it. Use another recording or another part.")
        columns = max(1, AUFFUSION.frames(coherence)) if coherence else 0
        lead = min(LOOP_COLUMNS, pictures.shape[-1]) if loop else 0
        samples_of_lead = round(lead * AUFFUSION.seconds(1) * rate)
        progress = comfy.utils.ProgressBar(1)
        sounds = []

        def after_step(done: int, steps: int) -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            progress.update_absolute(len(sounds) * steps + done, len(pictures) * steps)

        for picture, sound, mix in zip(wrap(pictures, lead) if loop else pictures, samples, mixes, strict=True):
            played = mosaic(picture, sound, mix, rate, columns, likeness, after_step)
            if loop:
                turn = close_loop(played, samples_of_lead)
                played = limit_peak(turn.flatten()[None])[0].view_as(turn)
            sounds.append(played)
        return io.NodeOutput({"waveform": torch.stack(sounds), "sample_rate": rate})


NODES = [ExamplesAsModel, ExamplesToAudio]
