"""The video of a picture with its sound and the playhead between them."""

from __future__ import annotations

import io as files
from collections.abc import Iterable
from fractions import Fraction

import av
import comfy.model_management
import comfy.utils
import torch.nn.functional as F
from comfy_api.latest import InputImpl, io
from torch import Tensor

from ..itsound_core.playhead import frame_count, playhead_frames
from ..itsound_core.resampling import resample
from . import checks

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
OTHER_RATE = 48000


def encode_mp4(
    frames: Iterable[Tensor], size: tuple[int, int], fps: Fraction, samples: Tensor, rate: int, metadata: dict[str, str]
) -> files.BytesIO:
    """MP4 (H.264 and AAC) of uint8 frames (H, W, 3), with H, W = `size` even, and samples (1 or 2 channels, T), frame by frame."""
    buffer = files.BytesIO()
    with av.open(buffer, mode="w", format="mp4") as container:
        container.metadata.update(metadata)
        video = container.add_stream("h264", rate=fps, options={"crf": "18"})
        video.height, video.width = size
        video.pix_fmt = "yuv420p"
        layout = "mono" if len(samples) == 1 else "stereo"
        audio = container.add_stream("aac", rate=rate, layout=layout)
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame.numpy(), format="rgb24")))
        container.mux(video.encode())

        sound = av.AudioFrame.from_ndarray(samples.contiguous().numpy(), format="fltp", layout=layout)
        sound.sample_rate = rate
        sound.pts = 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode())
    buffer.seek(0)
    return buffer


class PlayheadVideo(io.ComfyNode):
    """Picture, moving line, sound: the form in which the paper shows its results (A.3)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlayheadVideo",
            display_name="Playhead Video",
            category="Images that Sound/video",
            description="A video of the picture in which a line runs from left to right in step with the sound. "
            "Batches are played one after the other. Connect it to Save Video.",
            search_aliases=["spectrogram video", "scrolling line", "audio visualizer"],
            inputs=[
                io.Image.Input("image", tooltip="The picture, of any size: the spectrogram itself or its coloured version."),
                io.Audio.Input("audio", tooltip="The sound. The line crosses the picture once in its length. Stereo stays stereo."),
                io.Float.Input("fps", default=25.0, min=1.0, max=60.0, step=1.0, tooltip="Frames a second: how smoothly the line moves."),
                io.String.Input(
                    "image_prompt",
                    default="",
                    multiline=True,
                    tooltip="What the picture was made to show; written into the file's metadata with a note that it is AI-generated.",
                ),
                io.String.Input(
                    "audio_prompt",
                    default="",
                    multiline=True,
                    tooltip="What the sound was made to be; written into the file's metadata with a note that it is AI-generated.",
                ),
            ],
            outputs=[io.Video.Output(display_name="video", tooltip="MP4 (H.264, AAC) that Save Video stores as it is.")],
        )

    @classmethod
    def execute(cls, image, audio, fps, image_prompt, audio_prompt) -> io.NodeOutput:
        node = "PlayheadVideo"
        samples, rate = checks.waveform(audio, node)
        pictures, samples = checks.pair(checks.pixels(image, node, "image")[..., :3].cpu(), samples, node, ("image", "audio"))
        if samples.shape[1] > 2:
            samples = samples.mean(dim=1, keepdim=True)
        seconds = samples.shape[2] / rate
        if rate not in AAC_RATES:
            samples, rate = resample(samples, rate, OTHER_RATE), OTHER_RATE
        height, width = pictures.shape[1:3]
        # H.264 takes even sizes only.
        pictures = F.pad(pictures.expand(-1, -1, -1, 3), (0, 0, 0, width % 2, 0, height % 2))

        progress = comfy.utils.ProgressBar(frame_count(len(pictures) * seconds, fps))

        def frames():
            for frame in playhead_frames(pictures, seconds, fps):
                comfy.model_management.throw_exception_if_processing_interrupted()
                yield frame
                progress.update(1)

        video = encode_mp4(
            frames(),
            size=(height + height % 2, width + width % 2),
            fps=Fraction(fps).limit_denominator(1001),
            samples=samples.movedim(0, 1).flatten(1),  # one item after the other
            rate=rate,
            metadata=metadata(image_prompt, audio_prompt),
        )
        return io.NodeOutput(InputImpl.VideoFromFile(video))


def metadata(image_prompt: str, audio_prompt: str) -> dict[str, str]:
    """Title and comment that say what the file is, with the prompts where there are any."""
    prompts = {"Image prompt": image_prompt.strip(), "Audio prompt": audio_prompt.strip()}
    told = [f"{name}: {text}" for name, text in prompts.items() if text]
    if not told:
        return {"title": "An image that sounds", "comment": "Images that Sound: the picture is the sound's spectrogram."}
    return {"title": " / ".join(filter(None, prompts.values())), "comment": ". ".join(["AI-generated image that sounds", *told])}


NODES = [PlayheadVideo]
