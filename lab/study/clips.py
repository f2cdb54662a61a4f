"""What a participant sees and hears of one sample: an MP4 with the playhead, and nothing in it that says where it is from."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import soundfile
import torch
from PIL import Image
from torch import Tensor

from itsound_core.framing import Framed, with_captions
from itsound_core.media import encode_mp4
from itsound_core.playhead import LINE_COLOUR, playhead_frames
from itsound_core.presets import PromptPair
from itsound_core.resampling import resample

FPS = 25
AAC_RATE = 48000
CODECS = {"video": {"h264"}, "audio": {"aac", "flac", "mp3"}}
"""What every current browser plays in an MP4."""

UNREADABLE = (OSError, ValueError, SyntaxError, av.FFmpegError, soundfile.SoundFileError, Image.DecompressionBombError)
"""SyntaxError is Pillow's, of a broken PNG; its last is for a picture that would fill the memory."""
LONGEST = 3600
"""Seconds of a clip."""


class StudyError(Exception):
    """Something that the one who runs the study can mend: its text says what and how."""


@contextmanager
def readable(path: Path) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        raise StudyError(f"{path} cannot be read: {error}") from None


class Video(NamedTuple):
    """A video that is there already."""

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def check(self) -> None:
        """Raises StudyError if it has no picture or no sound, or browsers cannot play it."""
        with readable(self.path), av.open(self.path) as video:
            streams = {stream.type: stream for stream in video.streams}
            for kind, known in CODECS.items():
                if kind not in streams:
                    raise StudyError(f"{self.path} has no {kind} stream: a study needs picture and sound.")
                codec = streams[kind].codec_context.name
                if codec not in known:
                    raise StudyError(f"{self.path} has {codec} {kind}, which not every browser plays: save it as MP4 with H.264 and AAC.")
            for kind in CODECS:
                video.seek(0)
                if next(video.decode(**{kind: 0}), None) is None:
                    raise ValueError(f"its {kind} is empty")

    def mp4(self) -> bytes:
        """The same streams, without the prompts, workflow and titles that were saved with them."""
        buffer = io.BytesIO()
        with av.open(self.path) as source, av.open(buffer, "w", "mp4") as clip:
            streams = {stream.index: clip.add_stream_from_template(stream) for stream in (source.streams.video[0], source.streams.audio[0])}
            for packet in source.demux(list(map(source.streams.__getitem__, streams))):
                if packet.dts is not None:
                    packet.stream = streams[packet.stream.index]
                    clip.mux(packet)
        return buffer.getvalue()


class Still(NamedTuple):
    """A picture and its sound, of which a video is yet to be made."""

    picture: Path
    sound: Path
    prompts: PromptPair

    @property
    def files(self) -> tuple[Path, ...]:
        return self.picture, self.sound

    def check(self) -> None:
        """Raises StudyError if either cannot be decoded."""
        with readable(self.picture), Image.open(self.picture) as picture:
            picture.load()
        with readable(self.sound):
            if not len(self.samples()[0]):
                raise ValueError("it is empty")

    def samples(self) -> tuple[np.ndarray, int]:
        """(T, channels) and their rate. Raises ValueError where the header tells of more than a clip can be: soundfile would make room."""
        with soundfile.SoundFile(self.sound) as file:
            if file.frames > LONGEST * file.samplerate:
                raise ValueError(f"it says that it lasts {file.frames / file.samplerate:.0f} s, and a clip lasts {LONGEST} s at most")
            return file.read(dtype="float32", always_2d=True), file.samplerate

    def mp4(self) -> bytes:
        """The line crosses the picture once in the sound; both prompts stand below, as in the paper's videos."""
        sound, rate = self.samples()
        with Image.open(self.picture) as picture:
            pixels = torch.from_numpy(np.array(picture.convert("RGB"))) / 255

        def captioned(picture: Tensor) -> Framed:
            return with_captions(picture, self.prompts, None, LINE_COLOUR)

        frames = playhead_frames(pixels[None], len(sound) / rate, FPS, frame=captioned)
        samples = resample(torch.from_numpy(sound.mean(axis=1)[None]), rate, AAC_RATE)
        return encode_mp4(frames, Fraction(FPS), samples, AAC_RATE, {}).getvalue()


Clip = Video | Still
