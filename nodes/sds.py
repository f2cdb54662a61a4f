"""The SDS baseline: one canvas distilled from an image and an audio model (paper A.1)."""

from __future__ import annotations

from functools import partial

import comfy.model_patcher
import comfy.sd
from comfy_api.latest import io

from ..bridge import inputs
from ..bridge.checkpoint import FOLDER
from ..bridge.deepfloyd_folder import DeepFloydIF
from ..bridge.distillation import LATENTS, NETWORK, Request, Settings, distill
from ..bridge.progress import tell
from ..bridge.sampling_inputs import LARGEST_SEED
from ..itsound_core.latents import PIXELS_PER_LATENT
from ..itsound_core.pixels import RGB
from .sampling import latent_columns


class SDSBaseline(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SDSBaseline",
            display_name="SDS Baseline",
            category="Images that Sound/baselines",
            description="The paper's slow baseline: a small network is a canvas, and it is trained until both models find it likely. Hours "
            "at the paper's settings, against seconds for Multimodal KSampler, and not better: to compare, and to see why.",
            search_aliases=["score distillation", "dreamfusion", "sds", "images that sound"],
            inputs=[
                io.Model.Input("audio_model", tooltip="Model that makes spectrograms, for example Auffusion."),
                io.Vae.Input("vae", tooltip="Its VAE; the canvas is seen through the encoder, with gradients."),
                io.Conditioning.Input("audio_positive", tooltip="What the canvas should sound like."),
                io.Conditioning.Input("audio_negative", tooltip="What it should not; usually the empty prompt."),
                io.MultiType.Input(
                    "image_model",
                    [io.Model, io.Custom("DEEPFLOYD_IF")],
                    tooltip="What paints: LoadDeepFloydIF as in the paper, a pixel-space model, or a model that shares the audio model's "
                    "VAE.",
                ),
                io.Conditioning.Input("image_positive", tooltip="What the canvas should look like."),
                io.Conditioning.Input("image_negative", tooltip="What it should not; usually the empty prompt."),
                io.Int.Input("iterations", default=40000, min=1, max=1000000, tooltip="Updates of the canvas. 40 000 in the paper."),
                io.Int.Input(
                    "warm_start",
                    default=5000,
                    min=0,
                    max=1000000,
                    tooltip="The first so many updates follow the sound alone. 5 000 in the paper.",
                ),
                io.Float.Input(
                    "lambda_sds",
                    default=0.4,
                    min=0.0,
                    max=100.0,
                    step=0.05,
                    tooltip="Weight of the picture beside the sound. 0.4 in the paper.",
                ),
                io.Float.Input("image_cfg", default=80.0, min=0.0, max=200.0, step=0.5, tooltip="Guidance scale of the picture."),
                io.Float.Input("audio_cfg", default=10.0, min=0.0, max=200.0, step=0.5, tooltip="Guidance scale of the sound."),
                io.Int.Input(
                    "crops",
                    default=8,
                    min=1,
                    max=64,
                    tooltip="Random squares of the canvas that a pixel-space model sees in each update. A latent model sees all of it.",
                ),
                io.Float.Input(
                    "learning_rate", default=1e-4, min=1e-6, max=1.0, step=1e-5, round=1e-7, tooltip="Of AdamW. 1e-4 in the paper."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=LARGEST_SEED,
                    control_after_generate=True,
                    tooltip="Seed of the canvas and of all noise.",
                ),
                io.String.Input(
                    "checkpoint_name",
                    default="",
                    tooltip=f"A name under which the run is kept in output/{FOLDER}, every five minutes and when it is cancelled; "
                    "the same name with the same settings goes on there. Empty: nothing is kept.",
                ),
                io.Float.Input(
                    "seconds", default=10.24, min=0.64, max=60.0, step=0.64, optional=True, advanced=True, tooltip="Length of the sound."
                ),
                io.Int.Input(
                    "hidden",
                    default=256,
                    min=8,
                    max=1024,
                    step=8,
                    optional=True,
                    advanced=True,
                    tooltip="Width of the canvas's network, and its number of features. 256 in the paper; 64 is bearable on a CPU.",
                ),
                io.Combo.Input(
                    "canvas",
                    options=[NETWORK, LATENTS],
                    default=NETWORK,
                    optional=True,
                    tooltip="What is optimised: a network that paints the picture, as in the paper, or the latents themselves, many times "
                    "cheaper a step, for an image_model that works on latents. Latents want a learning rate of about 0.02.",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The canvas, a gray spectrogram.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        audio_model: comfy.model_patcher.ModelPatcher,
        vae: comfy.sd.VAE,
        audio_positive: list,
        audio_negative: list,
        image_model: comfy.model_patcher.ModelPatcher | DeepFloydIF,
        image_positive: list,
        image_negative: list,
        iterations: int,
        warm_start: int,
        lambda_sds: float,
        image_cfg: float,
        audio_cfg: float,
        crops: int,
        learning_rate: float,
        seed: int,
        checkpoint_name: str,
        seconds: float = 10.24,
        hidden: int = 256,
        canvas: str = NETWORK,
    ) -> io.NodeOutput:
        inputs.in_range(cls, locals())
        columns = PIXELS_PER_LATENT * latent_columns(seconds)
        request = Request(
            node=cls.define_schema().node_id,
            audio_model=audio_model,
            vae=vae,
            image_model=image_model,
            prompts={
                "audio_positive": audio_positive,
                "audio_negative": audio_negative,
                "image_positive": image_positive,
                "image_negative": image_negative,
            },
            settings=Settings(canvas, columns, hidden, warm_start, lambda_sds, image_cfg, audio_cfg, crops, learning_rate, seed),
            iterations=iterations,
            checkpoint_name=checkpoint_name,
        )
        picture = distill(request, partial(tell, cls.hidden))
        return io.NodeOutput(picture.cpu().movedim(1, -1).expand(-1, -1, -1, RGB))  # BCHW -> BHWC


NODES = [SDSBaseline]
