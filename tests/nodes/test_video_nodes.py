"""The playhead video: what is in the file that Save Video writes."""

import importlib
import math

import av
import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def nodes(pack):
    return importlib.import_module(pack.__name__ + ".nodes.video")


@pytest.fixture(scope="module")
def save(pack, tmp_path_factory):
    """Save a VIDEO as the core's SaveVideo does."""

    def save_to(video) -> str:
        path = str(tmp_path_factory.mktemp("video") / "video.mp4")
        video.save_to(path, format="auto", codec="auto", metadata={"prompt": {"1": "graph"}})
        return path

    return save_to


def tone(seconds: float, rate: int = 16000, channels: int = 1, batch: int = 1, hertz: float = 440.0) -> dict:
    time = torch.arange(round(seconds * rate)) / rate
    return {"waveform": (0.5 * torch.sin(2 * math.pi * hertz * time)).expand(batch, channels, -1), "sample_rate": rate}


def decode_frames(path: str) -> np.ndarray:
    with av.open(path) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def decode_sound(path: str) -> tuple[np.ndarray, int]:
    with av.open(path) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
        return np.concatenate(frames, axis=1), container.streams.audio[0].rate


def line_column(frame: np.ndarray) -> int:
    return int((frame[..., 0].astype(int) - frame[..., 2]).sum(0).argmax())


def test_the_line_is_where_the_sound_is_and_the_sound_is_whole(nodes, save):
    image = torch.rand(1, 256, 496, 1, generator=torch.Generator().manual_seed(0)).expand(-1, -1, -1, 3)
    path = save(nodes.PlayheadVideo.execute(image, tone(4.96), 10.0, "", "").args[0])
    frames = decode_frames(path)
    assert frames.shape == (50, 256, 496, 3)
    for index in (0, 12, 25, 48):
        assert abs(line_column(frames[index]) - (index + 0.5) / 49.6 * 496) < 4
    sound, rate = decode_sound(path)
    assert rate == 48000 and abs(sound.shape[1] / rate - 4.96) < 0.1
    assert np.sqrt((sound**2).mean()) == pytest.approx(0.5 / math.sqrt(2), rel=0.05)


def test_the_picture_itself_is_kept(nodes, save):
    image = torch.linspace(0, 1, 128).expand(1, 64, 128)[..., None].expand(-1, -1, -1, 3)
    frames = decode_frames(save(nodes.PlayheadVideo.execute(image, tone(1.0), 5.0, "", "").args[0]))
    assert np.abs(frames[0, :, 40:].astype(int) - (image[0, :, 40:] * 255).numpy()).mean() < 3


def test_stereo_stays_stereo_and_more_channels_are_mixed(nodes, save):
    stereo = tone(1.0, rate=44100, channels=2)
    stereo["waveform"] = stereo["waveform"] * torch.tensor([1.0, 0.0])[:, None]
    sound, rate = decode_sound(save(nodes.PlayheadVideo.execute(torch.zeros(1, 64, 64, 3), stereo, 5.0, "", "").args[0]))
    assert rate == 44100 and len(sound) == 2
    assert np.abs(sound[0]).max() > 0.4 and np.abs(sound[1]).max() < 0.05
    sound, _ = decode_sound(save(nodes.PlayheadVideo.execute(torch.zeros(1, 64, 64, 3), tone(1.0, channels=6), 5.0, "", "").args[0]))
    assert len(sound) == 1


@pytest.mark.parametrize("rate", [8000, 44100, 192000])
@pytest.mark.parametrize("codec", ["aac", "flac"])
def test_every_sample_rate_makes_a_video(nodes, save, rate, codec):
    video = nodes.PlayheadVideo.execute(torch.zeros(1, 64, 64, 3), tone(1.0, rate), 5.0, "", "", audio_codec=codec).args[0]
    sound, decoded = decode_sound(save(video))
    assert decoded == (rate if codec == "flac" or rate == 44100 else 48000)
    assert sound.shape[1] / decoded == pytest.approx(1.0, abs=0.05 if codec == "aac" else 0)


def test_the_sound_of_flac_survives_save_video_sample_by_sample(nodes, save):
    audio = tone(1.0)
    path = save(nodes.PlayheadVideo.execute(torch.zeros(1, 64, 64, 3), audio, 5.0, "", "", audio_codec="flac").args[0])
    sound, _ = decode_sound(path)
    assert np.abs(sound / 2.0**31 - audio["waveform"][0].numpy()).max() <= 2.0**-23


@pytest.mark.parametrize("seconds", [0.5, 0.53])
def test_the_saved_video_is_as_long_as_its_sound(nodes, save, seconds):
    video = nodes.PlayheadVideo.execute(torch.zeros(1, 64, 64, 3), tone(seconds), 10.0, "", "").args[0]
    assert video.get_duration() == pytest.approx(seconds, abs=1e-3)
    assert type(video)(save(video)).get_duration() == pytest.approx(seconds, abs=1e-3)


@pytest.mark.parametrize(("seconds", "columns", "places"), [(2.0, 100, (25, 75, 100)), (0.5, 100, (25, 45)), (1.0, 100, (25, 75))])
def test_the_line_keeps_to_a_spectrograms_own_time(nodes, save, caplog, seconds, columns, places):
    """100 columns are a second, whether the sound is longer than the picture, shorter, or as long; a difference is told."""
    image = torch.zeros(1, 256, columns, 3)
    frames = decode_frames(save(nodes.PlayheadVideo.execute(image, tone(seconds), 10.0, "", "").args[0]))
    assert len(frames) == 10 * seconds
    for place in places:
        index = min(place * 10 // columns, len(frames) - 1)
        assert line_column(frames[index]) == pytest.approx(min((index + 0.5) * 10, columns), abs=4)
    assert ("image is 1.00 s wide" in caplog.text) == (seconds != 1.0)


def test_the_prompts_are_captions_below_the_picture_and_layout_picture_leaves_them_out(nodes):
    image = torch.rand(1, 256, 992, 3)
    captions = nodes.PlayheadVideo.execute(image, tone(0.2), 10.0, "a castle", "bell ringing").args[0]
    assert captions.get_dimensions()[0] == 992 and captions.get_dimensions()[1] > 300
    plain = nodes.PlayheadVideo.execute(image, tone(0.2), 10.0, "a castle", "bell ringing", layout="picture").args[0]
    assert plain.get_dimensions() == (992, 256)


def test_a_screen_shows_line_and_captions_in_the_chosen_colour(nodes, save):
    image = torch.zeros(1, 64, 250, 3)
    prompts = ("城堡 \u202eevil\x00 🏰", "שלום " * 200)
    video = nodes.PlayheadVideo.execute(image, tone(0.3), 10.0, *prompts, layout="square 1080 x 1080", line_color="#0000ff").args[0]
    frames = decode_frames(save(video)).astype(int)
    assert frames.shape == (3, 1080, 1080, 3)
    blue = frames[1, ..., 2] - frames[1, ..., 0] > 100
    rows = np.flatnonzero(blue[:, 530:550].any(1))
    assert 530 < blue[rows[len(rows) // 2]].nonzero()[0].mean() < 550
    assert blue[rows.max() + 5 :].any(), "headings in the same colour"


def test_the_line_crosses_the_gray_and_the_coloured_picture(nodes, save):
    gray, colour = torch.full((1, 64, 128, 3), 0.3), torch.zeros(1, 32, 64, 3)
    colour[..., 1] = 0.9
    frames = decode_frames(save(nodes.PlayheadVideo.execute(gray, tone(0.5), 10.0, "", "", colour, "picture").args[0]))
    assert frames.shape[1:] == (132, 128, 3)
    assert abs(line_column(frames[2][:64]) - 64) < 3 and abs(line_column(frames[2][68:]) - 64) < 3
    assert np.abs(frames[2][80:120, :40] - np.array([0, 230, 0])).max() < 12


def test_a_batch_plays_one_item_after_the_other(nodes, save):
    images = torch.stack([torch.zeros(64, 64, 3), torch.full((64, 64, 3), 0.5)])
    sounds = tone(0.5)
    sounds["waveform"] = torch.cat([sounds["waveform"], torch.zeros_like(sounds["waveform"])])
    path = save(nodes.PlayheadVideo.execute(images, sounds, 10.0, "", "").args[0])
    brightness = np.median(decode_frames(path)[..., 1], axis=(1, 2))
    assert len(brightness) == 10 and brightness[:5].max() < 10 and brightness[5:].min() > 110
    sound, rate = decode_sound(path)
    assert np.abs(sound[:, : int(0.4 * rate)]).max() > 0.4 > 0.05 > np.abs(sound[:, int(0.6 * rate) : rate]).max()


def test_one_sound_plays_with_every_picture(nodes):
    assert nodes.PlayheadVideo.execute(torch.zeros(3, 64, 64, 3), tone(0.5), 10.0, "", "").args[0].get_frame_count() == 15


@pytest.mark.parametrize("layout", ["picture", "captions", "landscape 1920 x 1080"])
def test_a_picture_of_one_pixel_makes_a_video(nodes, layout):
    video = nodes.PlayheadVideo.execute(torch.zeros(1, 1, 1, 3), tone(0.1), 10.0, "a dot", "", layout=layout).args[0]
    assert video.get_frame_count() == 1


def test_odd_sizes_gain_a_row_and_a_column(nodes):
    assert nodes.PlayheadVideo.execute(torch.zeros(1, 63, 65, 3), tone(0.5), 5.0, "", "").args[0].get_dimensions() == (66, 64)


def test_the_file_says_that_it_is_ai_generated_and_from_what(nodes, save):
    path = save(nodes.PlayheadVideo.execute(torch.zeros(1, 64, 64, 3), tone(0.5), 5.0, "a castle", "bell ringing ").args[0])
    with av.open(path) as container:
        assert container.metadata["title"] == "a castle / bell ringing"
        assert container.metadata["comment"] == "AI-generated image that sounds. Image prompt: a castle. Audio prompt: bell ringing"
        assert container.metadata["digital_source_type"].endswith("/trainedAlgorithmicMedia")
        assert container.metadata["prompt"] == '{"1": "graph"}', "Save Video's own metadata must survive"


def test_without_prompts_the_file_does_not_claim_to_be_ai_generated(nodes, save):
    path = save(nodes.PlayheadVideo.execute(torch.zeros(1, 64, 64, 3), tone(0.5), 5.0, "", "").args[0])
    with av.open(path) as container:
        assert "AI" not in container.metadata["comment"]


def test_a_picture_of_any_length_is_shown_in_pages_that_turn_with_the_sound(nodes, save):
    """Case 10: a song's spectrogram was a frame of its own width, refused beyond 163.84 s."""
    seconds, columns = 180.0, 18000
    image = torch.linspace(0.1, 0.9, columns).expand(1, 256, columns)[..., None].expand(-1, -1, -1, 3)
    path = save(nodes.PlayheadVideo.execute(image, tone(seconds, 8000), 1.0, "", "", layout="picture").args[0])
    frames = decode_frames(path)
    assert len(frames) == 180 and frames.shape[2] <= 1024
    for index in (0, 9, 10, 90, 179):
        line = line_column(frames[index])
        beside = frames[index][:, min(line + 12, frames.shape[2] - 1)]
        assert beside.mean() == pytest.approx(255 * (0.1 + 0.8 * (index + 0.5) / seconds), abs=6), "the page shows what is heard"


def test_the_line_runs_over_both_rows_of_a_square_picture(nodes, save):
    square = torch.zeros(1, 512, 128, 3)
    frames = decode_frames(save(nodes.PlayheadVideo.execute(square, tone(2.56), 12.5, "", "", view="two-row square").args[0]))
    for index in (3, 12, 20, 28):
        row, column = divmod((index + 0.5) / 12.5 * 100, 128)
        upper, lower = frames[index][:256], frames[index][256:]
        crossed, other = (upper, lower) if row == 0 else (lower, upper)
        assert abs(line_column(crossed) - column) < 4 and other.max() < 20


def test_a_view_of_another_height_is_refused_by_name(nodes):
    with pytest.raises(ValueError, match="PlayheadVideo: image is 256 pixels high, but view two-row square has 512"):
        nodes.PlayheadVideo.execute(torch.zeros(1, 256, 128, 3), tone(0.5), 5.0, "", "", view="two-row square")


def test_half_an_emoji_in_a_prompt_is_left_out(nodes, save):
    path = save(nodes.PlayheadVideo.execute(torch.zeros(1, 64, 64, 3), tone(0.5), 5.0, "castle \ud83d", "a bell").args[0])
    with av.open(path) as container:
        assert container.metadata["title"] == "castle  / a bell"


def test_cancelling_stops_the_video(nodes):
    import comfy.model_management as management

    management.interrupt_current_processing()
    with pytest.raises(management.InterruptProcessingException):
        nodes.PlayheadVideo.execute(torch.zeros(1, 64, 64, 3), tone(0.5), 5.0, "", "")


@pytest.mark.parametrize(
    ("image", "audio", "message"),
    [
        (torch.zeros(1, 64, 64, 3), None, "audio is None.*Use another file"),
        (torch.zeros(1, 64, 64, 3), {"waveform": torch.zeros(1, 1, 0), "sample_rate": 16000}, "audio has zero length.*duration"),
        (torch.full((1, 64, 64, 3), float("nan")), tone(0.5), "image holds 12288 values that are NaN.*--fp32-vae"),
        (torch.zeros(2, 64, 64, 3), tone(0.5, batch=3), "image is a batch of 2 and audio a batch of 3"),
        (torch.zeros(1, 16386, 2, 3), tone(0.5), "image makes a video of 2 x 16386 pixels; H.264 holds 16384 a side.*ImageScale"),
    ],
)
def test_bad_input_is_refused_with_node_culprit_and_remedy(nodes, image, audio, message):
    with pytest.raises(ValueError, match="PlayheadVideo: " + message):
        nodes.PlayheadVideo.PREPARE_CLASS_CLONE(None).execute(image, audio, 5.0, "", "")  # the clone that ComfyUI executes


@pytest.mark.parametrize(
    ("fps", "wishes", "message"),
    [
        (0.0, {}, "fps is 0.0; it is a number from 1.0 to 60.0"),
        (float("nan"), {}, "fps is nan"),
        (25.0, {"line_color": "blurple"}, "line_color is 'blurple'; it must be a colour"),
        *(
            (25.0, {"line_color": beyond}, "line_color is '.*'; it must be a colour")
            for beyond in ("rgb(300,0,0)", "rgb(0, 0, 256)", "rgb(200%,0%,0%)", "hsl(0,200%,50%)", "hsv(0,300%,300%)")
        ),
        (25.0, {"image_below": torch.zeros(3, 64, 64, 3)}, "image is a batch of 2 and image_below a batch of 3"),
        (25.0, {"image_below": torch.zeros(0, 64, 64, 3)}, "image_below has the shape"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(nodes, fps, wishes, message):
    with pytest.raises(ValueError, match="PlayheadVideo: " + message):
        nodes.PlayheadVideo.execute(torch.zeros(2, 64, 64, 3), tone(0.5), fps, "", "", **wishes)
