"""The imprint nodes: a picture in a spectrogram, a picture in a recording that stays itself everywhere else, and what they refuse."""

import importlib
import math

import pytest
import torch

from itsound_core.imprint import Area, imprint_recording

RATE = 22050


@pytest.fixture(scope="module")
def nodes(pack):
    return importlib.import_module(pack.__name__ + ".nodes.imprint")


def gray(value: float, *shape: int) -> torch.Tensor:
    return torch.full((*shape, 3), value)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def recording(seconds: float = 1.0, batch: int = 1, channels: int = 2, rate: int = RATE) -> dict:
    waveform = 0.2 * torch.randn(batch, channels, round(seconds * rate), generator=torch.Generator().manual_seed(0))
    return {"waveform": waveform, "sample_rate": rate}


def imprint_on(nodes, image, audio, **values):
    """ImprintRecording's outputs, of its defaults but for `values`."""
    defaults = dict(rho=0.5, start=0.0, seconds=0.0, low_hz=0.0, high_hz=8000.0, fit="cover", invert=False)
    return nodes.ImprintRecording.PREPARE_CLASS_CLONE(None).execute(image=image, audio=audio, **defaults | values).args


# A spectrogram -----------------------------------------------------------------------------------------------------------------------


def test_imprint_darkens_the_spectrogram_where_the_picture_is_dark(nodes):
    """x_spec (1 - rho gray(1 - x_img)), paper A.1."""
    image = torch.cat([gray(0.0, 1, 64, 128), gray(1.0, 1, 64, 128)], dim=2)
    spectrogram = noise(1, 256, 1024, 3)
    (imprinted,) = nodes.ImprintBaseline.execute(image, spectrogram, 0.5).args
    assert imprinted.shape == (1, 256, 1024, 3)
    heard = spectrogram.mean(-1, keepdim=True)
    assert torch.allclose(imprinted[:, :, :500], 0.5 * heard[:, :, :500], atol=1e-6)
    assert torch.allclose(imprinted[:, :, 524:], heard[:, :, 524:], atol=1e-6)


def test_one_picture_is_imprinted_on_every_spectrogram_of_a_batch(nodes):
    (imprinted,) = nodes.ImprintBaseline.execute(gray(0.5, 1, 100, 100), gray(0.8, 3, 256, 64), 1.0).args
    assert imprinted.shape == (3, 256, 64, 3)
    assert torch.allclose(imprinted, torch.tensor(0.4), atol=1e-5)


def test_a_picture_contained_in_the_spectrogram_leaves_the_sides_alone(nodes):
    (imprinted,) = nodes.ImprintBaseline.execute(gray(0.0, 1, 256, 256), gray(1.0, 1, 256, 1024), 0.5, fit="contain").args
    assert imprinted[0, :, :380].eq(1).all() and imprinted[0, :, 644:].eq(1).all()
    assert torch.allclose(imprinted[0, :, 390:630], torch.tensor(0.5))


def test_a_picture_lies_where_start_seconds_and_frequencies_say_and_may_be_inverted(nodes):
    spectrogram = gray(1.0, 1, 256, 512)
    (imprinted,) = nodes.ImprintBaseline.execute(
        gray(1.0, 1, 8, 8), spectrogram, 1.0, "stretch", start=1.0, seconds=2.0, low_hz=1000.0, high_hz=8000.0, invert=True
    ).args
    rows, columns = imprinted[0, :, :, 0].eq(0).nonzero(as_tuple=True)
    assert (columns.min(), columns.max() + 1, rows.min()) == (100, 300, 0)
    assert rows.max() + 1 == pytest.approx(256 * (45.25 - 15) / 45.25, abs=1)  # 1 kHz is at 15 of Slaney's 45.25 mels below 8 kHz
    assert imprinted.eq(1).sum() + imprinted.eq(0).sum() == imprinted.numel()


def test_batches_of_different_sizes_are_refused(nodes):
    with pytest.raises(ValueError, match=r"ImprintBaseline: image is a batch of 2 and spectrogram a batch of 3\. Give"):
        nodes.ImprintBaseline.execute(gray(0.5, 2, 64, 64), gray(0.5, 3, 256, 64), 0.5)
    with pytest.raises(ValueError, match=r"ImprintRecording: image is a batch of 2 and audio a batch of 3\. Give"):
        imprint_on(nodes, gray(0.5, 2, 64, 64), recording(batch=3))


# A recording -------------------------------------------------------------------------------------------------------------------------


def test_a_recording_keeps_its_rate_channels_and_every_sample_outside_of_the_picture(nodes):
    audio = recording()
    result, spectrogram = imprint_on(nodes, gray(0.0, 1, 50, 70), audio, start=0.3, seconds=0.5, high_hz=11025.0)
    assert result["sample_rate"] == RATE and result["waveform"].shape == audio["waveform"].shape
    first, last = round(0.3 * RATE), round(0.8 * RATE)
    assert torch.equal(result["waveform"][..., :first], audio["waveform"][..., :first])
    assert torch.equal(result["waveform"][..., last:], audio["waveform"][..., last:])
    middle = slice(first + RATE // 10, last - RATE // 10)
    assert result["waveform"][..., middle].square().mean() < 0.01 * audio["waveform"][..., middle].square().mean()
    assert spectrogram.shape == (1, 256, 50, 3)
    assert spectrogram[:, :, 10:40].mean() < spectrogram[:, :, (0, 49)].mean()


def test_the_spectrogram_is_what_audio_to_spectrogram_shows_of_the_pictures_part(nodes, pack):
    result, spectrogram = imprint_on(nodes, noise(1, 40, 60, 3), recording(), start=0.3, seconds=0.5)
    part = {"waveform": result["waveform"][..., round(0.3 * RATE) : round(0.8 * RATE)], "sample_rate": RATE}
    (shown,) = importlib.import_module(pack.__name__ + ".nodes.audio").AudioToSpectrogram.execute(part, 0.0).args
    assert torch.equal(shown, spectrogram)


@pytest.mark.parametrize(("images", "recordings"), [(1, 1), (3, 1), (1, 3), (2, 2)])
def test_a_single_picture_or_recording_goes_with_every_one_of_the_other(nodes, images, recordings):
    image, audio = noise(images, 40, 60, 3), recording(0.4, recordings)
    result, spectrogram = imprint_on(nodes, image, audio)
    assert len(result["waveform"]) == len(spectrogram) == max(images, recordings)
    for item, waveform in enumerate(result["waveform"]):
        picture, sound = image[item % images].movedim(-1, 0), audio["waveform"][item % recordings]
        assert torch.equal(imprint_recording(picture, sound, RATE), waveform)


def test_a_transparent_part_of_a_picture_leaves_the_sound_alone(nodes):
    image = torch.zeros(1, 10, 20, 4)
    image[:, :, 10:, 3] = 1.0
    audio = recording(channels=1)
    (result, _) = imprint_on(nodes, image, audio, fit="stretch")
    left, right = ((result["waveform"] - audio["waveform"])[..., half].square().mean() for half in (slice(9000), slice(-9000, None)))
    assert left < 1e-4 * right


def test_whole_numbers_are_taken_as_their_share_of_full_scale(nodes):
    audio = recording()
    whole = {"waveform": (audio["waveform"] * 32768).clamp(-32768, 32767).to(torch.int16), "sample_rate": RATE}
    (result, _) = imprint_on(nodes, gray(0.5, 1, 8, 8), whole, seconds=0.5)
    assert torch.equal(result["waveform"][..., RATE // 2 + 1 :], whole["waveform"][..., RATE // 2 + 1 :] / 32768)


@pytest.mark.parametrize("rate", [8000, 11025])
def test_at_its_defaults_the_picture_reaches_to_the_highest_frequency_of_a_telephone_recording(nodes, rate):
    image, audio = noise(1, 40, 60, 3), recording(rate=rate)
    (result, spectrogram) = imprint_on(nodes, image, audio)
    expected = imprint_recording(image[0].movedim(-1, 0), audio["waveform"][0], rate, area=Area(high_hz=rate / 2))
    assert torch.equal(result["waveform"][0], expected)
    assert spectrogram.shape[1:3] == (256, 100)


def test_the_area_may_be_linear_in_hertz(nodes):
    image, audio = noise(1, 40, 60, 3), recording()
    (result, _) = imprint_on(nodes, image, audio, scale="linear")
    expected = imprint_recording(image[0].movedim(-1, 0), audio["waveform"][0], RATE, area=Area(scale="linear"))
    assert torch.equal(result["waveform"][0], expected)


def test_progress_is_shown_and_the_user_can_cancel(nodes, monkeypatch):
    import comfy.model_management
    import comfy.utils

    shown = []
    monkeypatch.setattr(
        comfy.utils.ProgressBar, "update_absolute", lambda self, value, total=None, preview=None: shown.append((value, total))
    )
    imprint_on(nodes, gray(0.5, 1, 8, 8), recording(batch=2, channels=1))
    assert shown[-1][0] == shown[-1][1] and len(shown) == shown[-1][1]

    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        imprint_on(nodes, gray(0.5, 1, 8, 8), recording())


# What is refused ---------------------------------------------------------------------------------------------------------------------

BAD_AREAS = {
    "rho beyond 1": (dict(rho=1.5), r"rho is 1\.5; it is a number from 0\.0 to 1\.0"),
    "rho NaN": (dict(rho=math.nan), "rho is nan"),
    "bands swapped": (dict(low_hz=4000.0, high_hz=300.0), r"low_hz is 4000 and high_hz 300.*Set high_hz to more than low_hz"),
    "no band": (dict(low_hz=500.0, high_hz=500.0), "low_hz is 500 and high_hz 500"),
    "narrow band": (dict(low_hz=4000.0, high_hz=4010.0), r"low_hz 4000 to high_hz 4010 is narrower than one row.*further apart"),
    "start at the end": (dict(start=1.0), r"start is 1 s, but (audio|spectrogram) is 1\.00 s long.*0 for the beginning"),
    "negative start": (dict(start=-0.5), r"start is -0\.5; it is a number from 0\.0"),
    "longer than the sound": (
        dict(start=0.5, seconds=3.0),
        r"seconds is 3 from start 0\.5.*only 1\.00 s long\. Set seconds to 0\.50 or less",
    ),
    "seconds NaN": (dict(seconds=math.nan), "seconds is nan"),
    "too short": (dict(start=0.3, seconds=0.01), r"would have 0\.010 s of (audio|spectrogram); it needs 0\.\d+ s or more.*Raise seconds"),
}


@pytest.mark.parametrize("case", BAD_AREAS)
def test_a_place_that_the_sound_does_not_have_is_refused_before_work(nodes, case, monkeypatch):
    values, message = BAD_AREAS[case]
    for work in ("imprint", "imprint_recording"):
        monkeypatch.setattr(nodes, work, None)
    with pytest.raises(ValueError, match="^ImprintRecording: .*" + message):
        imprint_on(nodes, gray(0.5, 1, 8, 8), recording(), **values)
    with pytest.raises(ValueError, match="^ImprintBaseline: .*" + message):
        nodes.ImprintBaseline.execute(gray(0.5, 1, 8, 8), gray(0.5, 1, 256, 100), **{"rho": 0.5} | values)


def test_frequencies_that_the_recording_cannot_hold_are_refused(nodes):
    with pytest.raises(
        ValueError, match=r"ImprintRecording: high_hz is 7000, but audio holds .* above 5512\.5 Hz .*Set high_hz to 5512\.5"
    ):
        imprint_on(nodes, gray(0.5, 1, 8, 8), recording(rate=11025), high_hz=7000.0)
    with pytest.raises(ValueError, match=r"ImprintRecording: low_hz is 6000, but audio holds .* above 5512\.5 Hz .*Set low_hz to less"):
        imprint_on(nodes, gray(0.5, 1, 8, 8), recording(rate=11025), low_hz=6000.0)
    with pytest.raises(ValueError, match=r"ImprintBaseline: high_hz is 9000\.0; it is a number from 0\.0 to 8000\.0"):
        nodes.ImprintBaseline.execute(gray(0.5, 1, 8, 8), gray(0.5, 1, 256, 64), 0.5, high_hz=9000.0)


def test_bad_pictures_and_recordings_are_refused_by_name(nodes):
    with pytest.raises(ValueError, match="ImprintRecording: image holds .* NaN"):
        imprint_on(nodes, gray(math.nan, 1, 8, 8), recording())
    with pytest.raises(ValueError, match="ImprintRecording: audio has zero length"):
        imprint_on(nodes, gray(0.5, 1, 8, 8), recording(0.0))
    with pytest.raises(ValueError, match="ImprintRecording: audio holds .* NaN"):
        imprint_on(nodes, gray(0.5, 1, 8, 8), {"waveform": torch.full((1, 1, RATE), math.nan), "sample_rate": RATE})
    with pytest.raises(ValueError, match="ImprintBaseline: spectrogram is 512 x 512 pixels"):
        nodes.ImprintBaseline.execute(gray(0.5, 1, 8, 8), gray(0.5, 1, 512, 512), 0.5)
