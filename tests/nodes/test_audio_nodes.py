"""Between picture and sound: what the audio nodes accept, make and refuse."""

import importlib
import math

import numpy as np
import pytest
import torch

from itsound_core.spectrogram import picture_to_log_mel


@pytest.fixture(scope="module")
def nodes(pack):
    return importlib.import_module(pack.__name__ + ".nodes.audio")


@pytest.fixture(scope="module")
def vocoder(pack):
    """A small HiFi-GAN with random weights, as LoadVocoder gives it."""
    import comfy.model_patcher

    loaders = importlib.import_module(pack.__name__ + ".nodes.loaders")
    core = importlib.import_module(pack.__name__ + ".itsound_core.vocoder")
    config = core.HiFiGANConfig("2", (10, 4, 4), (20, 8, 8), 32, (3,), ((1, 3),), 256)
    torch.manual_seed(0)
    generator = core.HiFiGAN(config).eval().requires_grad_(False)
    cpu = torch.device("cpu")
    return loaders.LoadedVocoder(comfy.model_patcher.ModelPatcher(generator, load_device=cpu, offload_device=cpu), "random")


def tone(seconds: float, rate: int = 16000, hertz: float = 1000.0, level: float = 0.5) -> torch.Tensor:
    """A sine (1, 1, T)."""
    return level * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate), dtype=torch.float64) / rate).float()[None, None]


def as_comfyui_runs_it(node):
    """ComfyUI executes a clone of the class, under another name."""
    return node.PREPARE_CLASS_CLONE(None)


def audio(waveform: torch.Tensor, rate: int = 16000) -> dict:
    return {"waveform": waveform, "sample_rate": rate}


def encode(nodes, sound, seconds=0.0, **options) -> torch.Tensor:
    return nodes.AudioToSpectrogram.execute(sound, seconds, **options).args[0]


def loudest_row(image: torch.Tensor) -> int:
    return int(image[..., 0].mean(2).argmax(1)[0])


def cancel_after_the_first_step(monkeypatch) -> list[tuple[int, int]]:
    """Cancels at the first progress shown; the list of (value, total) that are shown."""
    import comfy.model_management
    import comfy.utils

    shown = []

    def hook(value, total, *_, **__):
        shown.append((value, total))
        comfy.model_management.interrupt_current_processing()

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    return shown


class TestAudioToSpectrogram:
    def test_cancelling_stops_it_in_the_middle_of_a_long_recording(self, nodes, monkeypatch):
        import comfy.model_management as management

        shown = cancel_after_the_first_step(monkeypatch)
        with pytest.raises(management.InterruptProcessingException):
            encode(nodes, audio(tone(120.0)))
        assert shown == [(1, 3)]

    def test_cancelling_stops_the_resampling_of_a_long_recording(self, nodes, monkeypatch):
        import comfy.model_management as management

        monkeypatch.setattr(nodes, "spectrogram_of", None)
        management.interrupt_current_processing()
        with pytest.raises(management.InterruptProcessingException):
            encode(nodes, audio(tone(1.0, 44100), 44100))

    def test_a_recording_becomes_a_gray_picture_of_100_columns_a_second(self, nodes):
        image = encode(nodes, audio(tone(1.28)))
        assert image.shape == (1, 256, 128, 3)
        assert torch.equal(image[..., 0], image[..., 1]) and torch.equal(image[..., 0], image[..., 2])
        assert image.min() >= 0 and image.max() <= 1

    def test_high_tones_are_above_low_ones(self, nodes):
        rows = [loudest_row(encode(nodes, audio(tone(0.5, hertz=hertz)))) for hertz in (200, 1000, 4000)]
        assert rows[0] > rows[1] > rows[2]

    @pytest.mark.parametrize("rate", [8000, 22050, 44100, 96000, 16000.0])
    def test_any_sample_rate_gives_the_same_picture(self, nodes, rate):
        image, expected = encode(nodes, audio(tone(1.0, int(rate)), rate)), encode(nodes, audio(tone(1.0)))
        assert image.shape == expected.shape
        row = loudest_row(expected)
        assert loudest_row(image) == row
        assert torch.allclose(image[:, row, 10:90], expected[:, row, 10:90], atol=0.01)

    @pytest.mark.parametrize("rate", [44100, 48000, 96000])
    def test_treble_survives_resampling(self, nodes, rate):
        image, expected = (encode(nodes, audio(tone(0.5, rate, 7200.0), rate), normalize=False) for rate in (rate, 16000))
        row = loudest_row(expected)
        assert torch.allclose(image[:, row, 10:40], expected[:, row, 10:40], atol=0.002)  # 0.3 dB

    def test_frequencies_above_8_khz_are_not_folded_back(self, nodes):
        image = encode(nodes, audio(tone(0.5, 48000, hertz=9000.0), 48000), normalize=False)
        heard = encode(nodes, audio(tone(0.5, hertz=7000.0)), normalize=False)
        assert image[:, :, 10:40].max() < heard[:, :, 10:40].max() - 0.45  # 66 dB

    @pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.uint8, torch.float64, torch.float16])
    def test_every_sample_type_gives_the_same_picture(self, nodes, dtype):
        samples = tone(0.5)
        if dtype == torch.uint8:
            typed = (samples * 128 + 128).to(dtype)
        elif dtype.is_floating_point:
            typed = samples.to(dtype)
        else:
            typed = (samples.double() * (torch.iinfo(dtype).max + 1)).to(dtype)
        image, expected = encode(nodes, audio(typed), normalize=False), encode(nodes, audio(samples), normalize=False)
        row = loudest_row(expected)
        assert torch.allclose(image[:, row], expected[:, row], atol=0.002)

    def test_out_of_phase_stereo_shows_its_sound_and_not_rounding(self, nodes, caplog):
        """Case 07: the mean of the channels is next to nothing, which used to be lifted to a picture of noise."""
        left = tone(0.64)
        image = encode(nodes, audio(torch.cat([left, -left * 0.9999], dim=1)))
        torch.testing.assert_close(image, encode(nodes, audio(left)), atol=2e-2, rtol=0)
        assert "cancel when mixed" in caplog.text

    def test_sound_that_goes_out_of_phase_half_way_is_shown_to_its_end(self, nodes):
        left = tone(4.0)
        right = torch.cat([left[..., :32000], -left[..., 32000:]], dim=-1)
        image = encode(nodes, audio(torch.cat([left, right], dim=1)))
        torch.testing.assert_close(image, encode(nodes, audio(left)), atol=1e-3, rtol=0)

    def test_a_constant_offset_hides_no_cancellation(self, nodes):
        left = tone(0.64)
        image = encode(nodes, audio(torch.cat([left, -left], dim=1) + 0.1), normalize=False)
        assert loudest_row(image[:, :128]) == loudest_row(encode(nodes, audio(left), normalize=False)[:, :128])

    def test_stereo_that_only_differs_in_its_ambience_is_still_the_mean(self, nodes):
        middle, side = tone(0.64), 0.5 * tone(0.64, hertz=2000)
        image = encode(nodes, audio(torch.cat([middle + side, middle - side], dim=1)))
        torch.testing.assert_close(image, encode(nodes, audio(middle)), atol=1e-3, rtol=0)

    @pytest.mark.parametrize(("channels", "hertz"), [("left", 440), ("right", 2000), ("difference", 1000)])
    def test_the_mix_can_be_chosen(self, nodes, channels, hertz):
        common, own = tone(0.64, hertz=1000), {"left": tone(0.64, hertz=440), "right": tone(0.64, hertz=2000)}
        stereo = torch.cat([common, -common] if channels == "difference" else [own["left"], own["right"]], dim=1)
        assert loudest_row(encode(nodes, audio(stereo), channels=channels)) == loudest_row(encode(nodes, audio(tone(0.64, hertz=hertz))))

    def test_what_no_16_bit_file_could_hold_stays_black(self, nodes):
        noise = 1e-6 * torch.randn(1, 1, 10240, generator=torch.Generator().manual_seed(0))
        assert encode(nodes, audio(noise)).max() == 0

    def test_stereo_is_mixed_down(self, nodes):
        left_only = torch.cat([tone(0.5), torch.zeros_like(tone(0.5))], dim=1)
        assert torch.allclose(
            encode(nodes, audio(left_only), normalize=False), encode(nodes, audio(tone(0.5, level=0.25)), normalize=False), atol=1e-5
        )

    def test_each_clip_of_a_batch_is_a_picture_of_its_own(self, nodes):
        both = torch.cat([tone(0.5, hertz=300.0), tone(0.5, hertz=3000.0)])
        images = encode(nodes, audio(both))
        assert images.shape == (2, 256, 50, 3)
        assert torch.allclose(images[1:], encode(nodes, audio(both[1:])), atol=1e-6)

    @pytest.mark.parametrize("normalize", [True, False])
    def test_silence_is_black(self, nodes, normalize):
        assert encode(nodes, audio(torch.zeros(1, 2, 16000)), normalize=normalize).eq(0).all()

    def test_normalizing_makes_the_level_of_the_recording_irrelevant(self, nodes):
        loud, quiet = audio(tone(0.5, level=0.9)), audio(tone(0.5, level=0.01))
        assert (encode(nodes, loud) - encode(nodes, quiet)).abs().mean() < 1e-3
        assert encode(nodes, quiet, normalize=False).max() < encode(nodes, quiet).max() - 0.2

    def test_seconds_cut_a_long_recording_and_pad_a_short_one_with_silence(self, nodes):
        long = torch.cat([tone(0.5), tone(0.5, hertz=3000.0)], dim=2)
        cut = encode(nodes, audio(long), 0.4)
        assert cut.shape[2] == 40 and loudest_row(cut) == loudest_row(encode(nodes, audio(tone(0.4))))
        padded = encode(nodes, audio(tone(0.5)), 10.24)
        assert padded.shape[2] == 1024 and padded[:, :, 60:].eq(0).all()

    def test_the_level_of_a_cut_is_that_of_what_is_left(self, nodes):
        quiet_then_loud = torch.cat([tone(0.5, level=0.01), tone(0.5, level=0.9)], dim=2)
        assert (encode(nodes, audio(quiet_then_loud), 0.3) - encode(nodes, audio(tone(0.3)))).abs().mean() < 1e-3

    def test_a_click_of_one_sample_is_padded_to_the_shortest_picture(self, nodes):
        assert encode(nodes, audio(torch.ones(1, 1, 1))).shape == (1, 256, 6, 3)


class TestSpectrogramToAudio:
    def test_griffin_lim_plays_what_was_seen(self, nodes):
        image = encode(nodes, audio(tone(1.0)), normalize=False)
        sound = nodes.SpectrogramToAudio.execute(image).args[0]
        assert sound["sample_rate"] == 16000
        waveform = sound["waveform"]
        assert waveform.shape == (1, 1, 16000) and waveform.dtype == torch.float32 and waveform.device.type == "cpu"
        spectrum = torch.fft.rfft(waveform[0, 0]).abs()
        assert abs(int(spectrum.argmax()) - 1000) < 20
        assert waveform.square().mean() == pytest.approx(float(tone(1.0).square().mean()), rel=0.3)

    def test_a_black_picture_is_silence(self, nodes):
        waveform = nodes.SpectrogramToAudio.execute(torch.zeros(1, 256, 64, 3)).args[0]["waveform"]
        assert waveform.isfinite().all() and waveform.abs().max() < 1e-3

    def test_a_batch_item_sounds_as_it_does_alone(self, nodes):
        images = torch.rand(2, 256, 32, 3, generator=torch.Generator().manual_seed(0)) * 0.5
        together = nodes.SpectrogramToAudio.execute(images, iterations=4).args[0]["waveform"]
        alone = nodes.SpectrogramToAudio.execute(images[1:], iterations=4).args[0]["waveform"]
        assert together.shape == (2, 1, 5120) and torch.equal(together[1:], alone)

    def test_colours_are_heard_as_their_channel_mean(self, nodes, pack):
        pictures = importlib.import_module(pack.__name__ + ".nodes.picture")
        gray = encode(nodes, audio(tone(0.5)))
        coloured = pictures.RenormalizeSpectrogram.execute(gray, "magma", stretch=False).args[0]
        (a,), (b,) = (nodes.SpectrogramToAudio.execute(image, iterations=8).args for image in (gray, coloured))
        assert torch.allclose(a["waveform"], b["waveform"], atol=1e-3)

    def test_a_vocoder_plays_the_picture_on_its_own_device(self, nodes, vocoder):
        image = encode(nodes, audio(tone(0.64)))
        sound = nodes.SpectrogramToAudio.execute(image, vocoder).args[0]
        assert sound["waveform"].shape == (1, 1, 10240) and sound["sample_rate"] == 16000
        log_mel = picture_to_log_mel(image[..., 0])
        assert torch.allclose(sound["waveform"][:, 0], vocoder.patcher.model(log_mel), atol=1e-5)

    def test_the_vocoders_phase_can_carry_the_pictures_magnitude(self, nodes, vocoder):
        """The random vocoder's own level is far off; with the picture's magnitude the sound is as loud as it was meant."""
        image = encode(nodes, audio(tone(0.64)), normalize=False)
        own, meant = (nodes.SpectrogramToAudio.execute(image, vocoder, magnitude=choice).args[0] for choice in ("vocoder", "picture"))
        reports = [nodes.CycleConsistency.execute(image, sound).args[1] for sound in (own, meant)]
        errors = [float(report.split("difference ")[1].split(" dB")[0]) for report in reports]
        assert meant["waveform"].shape == own["waveform"].shape
        assert errors[1] < errors[0]

    def test_a_picture_brighter_than_full_scale_is_turned_down_and_the_cycle_check_says_by_how_much(self, nodes):
        image = encode(nodes, audio(tone(0.64)), normalize=False)
        bright = torch.where(image > 0, image + 0.15, image).clamp(max=1.0)
        dim, loud = (nodes.SpectrogramToAudio.execute(picture).args[0] for picture in (image, bright))
        assert dim["waveform"].abs().max() < 0.9
        assert loud["waveform"].abs().max() == pytest.approx(0.95)
        _, report = nodes.CycleConsistency.execute(bright, loud).args
        assert "quieter than the picture, at its level" in report

    @pytest.mark.parametrize("frames", [8, 128])
    def test_a_loops_end_goes_on_into_its_beginning(self, nodes, vocoder, frames):
        """A vocoder that hears one turn after the other is the measure; shorter than what is faded, too."""
        image = torch.rand(1, 256, frames, 3, generator=torch.Generator().manual_seed(0))
        three_turns = nodes.SpectrogramToAudio.execute(image.repeat(1, 1, 3, 1), vocoder).args[0]["waveform"]
        loop = nodes.SpectrogramToAudio.execute(image, vocoder, loop=True).args[0]["waveform"]
        once = nodes.SpectrogramToAudio.execute(image, vocoder).args[0]["waveform"]
        middle = three_turns[..., frames * 160 : frames * 320]
        assert loop.shape == once.shape
        assert (loop - middle).abs().max() < 0.3 * (once - middle).abs().max()

    def test_cancelling_stops_griffin_lim_and_the_vocoder(self, nodes, vocoder):
        import comfy.model_management as management

        for options in ({}, {"vocoder": vocoder}):
            management.interrupt_current_processing()
            with pytest.raises(management.InterruptProcessingException):
                nodes.SpectrogramToAudio.execute(torch.zeros(2, 256, 32, 3), **options)

    def test_cancelling_stops_the_vocoder_in_the_middle_of_a_long_sound(self, nodes, vocoder, monkeypatch):
        import comfy.model_management as management

        shown = cancel_after_the_first_step(monkeypatch)
        with pytest.raises(management.InterruptProcessingException):
            nodes.SpectrogramToAudio.execute(torch.zeros(1, 256, 3000, 3), vocoder)
        assert shown == [(1, 3)]

    def test_progress_runs_to_the_end_over_all_items(self, nodes, monkeypatch):
        import comfy.utils

        seen = []
        monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, *_, **__: seen.append((value, total)))
        nodes.SpectrogramToAudio.execute(torch.zeros(2, 256, 8, 3), iterations=3)
        assert seen[-1] == (6, 6) and seen == sorted(seen) and len(seen) > 1


class TestTrimCanvas:
    @pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (44100, 2)])
    def test_32_columns_and_a_third_of_a_second_go(self, nodes, rate, channels):
        image = torch.rand(1, 256, 1024, 3, generator=torch.Generator().manual_seed(0))
        waveform = tone(10.24, rate).expand(-1, channels, -1)
        trimmed, sound = nodes.TrimCanvas.execute(image, audio(waveform, rate), 32).args
        assert torch.equal(trimmed, image[:, :, :992])
        assert sound["sample_rate"] == rate and sound["waveform"].shape == (1, channels, round(9.92 * rate))
        assert torch.equal(sound["waveform"], waveform[..., : round(9.92 * rate)])

    def test_nothing_goes_at_0_columns(self, nodes):
        trimmed, sound = nodes.TrimCanvas.execute(torch.zeros(1, 256, 64, 3), audio(tone(0.64)), 0).args
        assert trimmed.shape[2] == 64 and sound["waveform"].shape[2] == 10240

    def test_what_a_resize_overshot_does_not_come_out_again(self, nodes):
        image = torch.linspace(-0.1, 1.4, 64).expand(1, 256, -1)[..., None].expand(-1, -1, -1, 3)
        trimmed, _ = nodes.TrimCanvas.execute(image, audio(tone(0.64)), 8).args
        assert (trimmed.amin(), trimmed.amax()) == (0.0, 1.0)

    def test_a_cut_of_the_whole_picture_is_refused(self, nodes):
        with pytest.raises(ValueError, match="TrimCanvas: columns is 60, but the spectrogram is 64 .*Set columns to 58 or less"):
            nodes.TrimCanvas.execute(torch.zeros(1, 256, 64, 3), audio(tone(0.64)), 60)

    def test_batches_that_do_not_match_are_refused(self, nodes):
        with pytest.raises(ValueError, match="TrimCanvas: spectrogram is a batch of 2 and audio a batch of 3.*Give both"):
            nodes.TrimCanvas.execute(torch.zeros(2, 256, 64, 3), audio(torch.zeros(3, 1, 10240)), 32)

    def test_one_sound_of_several_pictures_stays_one(self, nodes):
        trimmed, sound = nodes.TrimCanvas.execute(torch.zeros(2, 256, 64, 3), audio(tone(0.64)), 32).args
        assert len(trimmed) == 2 and len(sound["waveform"]) == 1


class TestCycleConsistency:
    def test_a_sound_agrees_with_its_own_picture(self, nodes):
        sound = audio(tone(0.64))
        comparison, report = nodes.CycleConsistency.execute(encode(nodes, sound, normalize=False), sound).args
        assert comparison.shape == (1, 3 * (256 + 24), 64, 3)
        assert report == "0: mean difference 0.00 dB, correlation 1.000"
        meant, heard, difference = (comparison[:, row * 280 + 24 : (row + 1) * 280] for row in range(3))
        assert torch.equal(meant, heard) and difference.eq(0).all()
        assert comparison[:, :24].max() > 0.5, "the rows are labelled"

    def test_a_sound_half_as_loud_is_6_db_off_where_it_sounds(self, nodes):
        noise = torch.randn(1, 1, 10240, generator=torch.Generator().manual_seed(0)) * 0.2
        _, report = nodes.CycleConsistency.execute(encode(nodes, audio(noise), normalize=False), audio(noise / 2)).args
        assert report.startswith("0: mean difference 6.02 dB")

    def test_missing_sound_counts_as_silence(self, nodes):
        image = encode(nodes, audio(tone(1.28)), normalize=False)
        comparison, report = nodes.CycleConsistency.execute(image, audio(tone(0.64))).args
        assert comparison.shape[2] == 128
        assert comparison[:, 280 + 24 : 2 * 280, 70:].eq(0).all()

    def test_every_item_of_a_batch_has_a_line(self, nodes):
        sounds = audio(torch.cat([tone(0.64), tone(0.64, hertz=300.0)]))
        comparison, report = nodes.CycleConsistency.execute(encode(nodes, audio(tone(0.64)), normalize=False), sounds).args
        assert len(comparison) == 2 and [line[:2] for line in report.splitlines()] == ["0:", "1:"]

    def test_batches_that_do_not_match_are_refused(self, nodes):
        with pytest.raises(ValueError, match="CycleConsistency: spectrogram is a batch of 2 and audio a batch of 3.*Give both"):
            nodes.CycleConsistency.execute(torch.zeros(2, 256, 64, 3), audio(torch.zeros(3, 1, 10240)))


SILENCE = torch.zeros(1, 1, 16000)
BAD_SOUNDS = {
    "text": ("a bell.wav", "audio is no AUDIO: it has no waveform. Load the file with LoadAudio"),
    "an empty AUDIO": ({}, "audio is no AUDIO: it has no waveform"),
    "a list for samples": (audio([[[0.0]]]), "audio is no AUDIO"),
    "no sample rate": (
        {"waveform": SILENCE},
        "audio has the sample rate None; it must be a whole number from 1000 to 655350 Hz.*LoadAudio",
    ),
    "text for a rate": (audio(SILENCE, "16000"), "audio has the sample rate 16000; it must be a whole number"),
    "a rate that is NaN": (audio(SILENCE, math.nan), "audio has the sample rate nan"),
    "an infinite rate": (audio(SILENCE, math.inf), "audio has the sample rate inf"),
    "half a hertz": (audio(SILENCE, 44100.5), "audio has the sample rate 44100.5"),
    "two rates": (audio(SILENCE, torch.tensor([16000, 16000])), "audio has the sample rate tensor"),
    "7 Hz": (audio(SILENCE, 7), "audio has the sample rate 7; it must be a whole number from 1000"),
    "999 Hz": (audio(SILENCE, 999), "audio has the sample rate 999"),
    "1 GHz": (audio(SILENCE, 10**9), "audio has the sample rate 1000000000"),
    "bool samples": (audio(SILENCE > 1), "audio has torch.bool for samples; they are real numbers.*LoadAudio"),
    "complex samples": (audio(SILENCE.to(torch.complex64)), "audio has torch.complex64 for samples"),
    "a number": (audio(torch.tensor(0.5)), r"audio has the shape \(\); AUDIO is \(batch, channels, samples\)"),
    "beyond float32": (audio(SILENCE.double() + 1e300), r"audio holds samples of up to 1e\+300; AUDIO lies in -1\.\.1"),
    "beyond reason": (audio(SILENCE - 1e20), r"audio holds samples of up to 1e\+20"),
    "None": (None, "audio is None.*Use another file"),
    "zero length": (audio(torch.zeros(1, 1, 0)), r"audio has zero length \(\(1, 1, 0\)\).*Check the start and duration"),
    "no channels": (audio(torch.zeros(1, 0, 100)), r"audio has the shape \(1, 0, 100\).*LoadAudio"),
    "no batch": (audio(torch.zeros(1, 16000)), r"audio has the shape \(1, 16000\); AUDIO is \(batch, channels, samples\).*LoadAudio"),
    "NaN": (audio(torch.full((1, 1, 16000), float("nan"))), "audio holds 16000 samples that are NaN.*again"),
    "no rate": (
        audio(torch.zeros(1, 1, 16000), 0),
        "audio has the sample rate 0; it must be a whole number from 1000 to 655350 Hz.*LoadAudio",
    ),
}


@pytest.mark.parametrize("case", BAD_SOUNDS)
def test_audio_without_sound_is_refused_with_node_culprit_and_remedy(nodes, case):
    sound, message = BAD_SOUNDS[case]
    spectrogram = torch.zeros(1, 256, 64, 3)
    inputs_of = {"AudioToSpectrogram": (sound, 0.0), "TrimCanvas": (spectrogram, sound, 32), "CycleConsistency": (spectrogram, sound)}
    for node, inputs in inputs_of.items():
        with pytest.raises(ValueError, match=f"{node}: {message}"):
            as_comfyui_runs_it(getattr(nodes, node)).execute(*inputs)


BAD_PICTURES = {
    "text": ("a picture.png", "is no IMAGE. Connect the IMAGE output of a loader"),
    "complex": (torch.zeros(1, 256, 64, 3, dtype=torch.complex64), "is no IMAGE"),
    "height not 256": (torch.zeros(1, 512, 512, 3), "512 x 512 pixels; a spectrogram is 256 high.*AudioToSpectrogram"),
    "NaN": (torch.full((1, 256, 64, 3), float("nan")), "49152 values that are NaN.*--fp32-vae"),
    "out of range": (torch.full((1, 256, 64, 3), 2.0), r"values from 2 to 2; an IMAGE lies in 0\.\.1.*in the node before"),
}


@pytest.mark.parametrize("case", BAD_PICTURES)
def test_a_picture_that_is_no_spectrogram_is_refused_with_node_culprit_and_remedy(nodes, case):
    image, message = BAD_PICTURES[case]
    sound = audio(tone(0.64))
    for node, inputs in (("SpectrogramToAudio", (image,)), ("TrimCanvas", (image, sound, 32)), ("CycleConsistency", (image, sound))):
        with pytest.raises(ValueError, match=f"{node}: spectrogram .*{message}"):
            as_comfyui_runs_it(getattr(nodes, node)).execute(*inputs)


@pytest.mark.parametrize("value", [-1, float("nan"), 1e9])
def test_numbers_that_a_link_brings_beyond_their_widget_are_refused_by_name(nodes, value):
    silence, black = audio(torch.zeros(1, 1, 16000)), torch.zeros(1, 256, 64, 3)
    with pytest.raises(ValueError, match="AudioToSpectrogram: seconds is .*; it is a number from 0.0 to 3600.0"):
        nodes.AudioToSpectrogram.execute(silence, value)
    with pytest.raises(ValueError, match="TrimCanvas: columns is .*; it is a whole number from 0"):
        nodes.TrimCanvas.execute(black, silence, value)
    with pytest.raises(ValueError, match="SpectrogramToAudio: iterations is .*; it is a whole number from 1"):
        nodes.SpectrogramToAudio.execute(black, iterations=value)


def test_griffin_lim_asks_comfyui_for_its_memory(nodes, monkeypatch):
    import comfy.model_management

    asked = []
    monkeypatch.setattr(comfy.model_management, "free_memory", lambda size, device, *rest, **options: asked.append(size))
    nodes.SpectrogramToAudio.execute(torch.zeros(2, 256, 100, 3), iterations=1)
    assert len(asked) == 2 and min(asked) > 100 * 40_000


@pytest.mark.parametrize("rate", [16000.0, torch.tensor(16000), np.int64(16000), np.float32(16000)], ids=str)
def test_a_rate_may_be_any_kind_of_whole_number(nodes, rate):
    assert encode(nodes, audio(tone(0.64), rate)).shape[2] == 64


@pytest.mark.parametrize("scale", [1.0, 32768.0, 2.0**31])
def test_samples_that_were_never_brought_to_full_scale_are(nodes, scale):
    """Some node may have made floats of integers; a recording is brought to its peak all the same."""
    torch.testing.assert_close(encode(nodes, audio(scale * tone(0.64))), encode(nodes, audio(tone(0.64))), atol=1e-5, rtol=0)


@pytest.mark.parametrize("rate", [47999, 96001])
def test_a_rate_without_common_factors_with_16_khz_is_seen_as_any_other(nodes, rate):
    odd, even = (loudest_row(encode(nodes, audio(tone(0.64, of), of))) for of in (rate, 48000))
    assert odd == even
