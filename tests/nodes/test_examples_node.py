"""Examples in ComfyUI: what their model samples, alone and beside another, what an example becomes, what is refused, and the sound."""

from __future__ import annotations

import importlib
import logging
import math

import pytest
import torch

pytest.importorskip("comfy.samplers", reason="COMFYUI_PATH does not name a ComfyUI folder")

import comfy.latent_formats  # noqa: E402
import comfy.model_management  # noqa: E402
import comfy.model_sampling  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy_extras.nodes_context_windows as context_windows  # noqa: E402
from tiny_models import conditioning, diffusers_unet, native_model  # noqa: E402

from itsound_core.examples import ExampleDenoiser  # noqa: E402

SCALE = 0.18215
CHANNELS = torch.tensor([1.0, -0.5, 0.25, 2.0])


class PoolingVAE:
    """Stands for a VAE whose latents are as large as one's and can be told beforehand: means of 8 x 8 pixels, in four channels."""

    def __init__(self, channels: int = 4, value: float = 1.0) -> None:
        self.channels, self.value, self.seen = channels, value, []

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        self.seen.append(tuple(pixels.shape))
        pooled = torch.nn.functional.avg_pool2d(2 * pixels.mean(-1)[:, None] - 1, 8)
        weights = CHANNELS.repeat(math.ceil(self.channels / 4))[: self.channels]
        return self.value * pooled * weights[:, None, None]

    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        raise AssertionError("Examples as Model decodes nothing.")


def latents_of(picture: torch.Tensor) -> torch.Tensor:
    """Of a picture (256, w), in the models' scale."""
    return SCALE * PoolingVAE().encode(picture[None, ..., None].expand(-1, -1, -1, 3))


def picture(width: int = 64, seed: int = 0, rows: int = 256) -> torch.Tensor:
    """An IMAGE of blocks of 8 x 8 pixels."""
    blocks = torch.rand(rows // 8, width // 8, generator=torch.Generator().manual_seed(seed))
    return blocks.repeat_interleave(8, 0).repeat_interleave(8, 1)[None, ..., None].expand(-1, -1, -1, 3)


@pytest.fixture(scope="module")
def node(pack):
    return importlib.import_module(pack.__name__ + ".nodes.examples").ExamplesAsModel


@pytest.fixture(scope="module")
def sampling(pack):
    return importlib.import_module(pack.__name__ + ".nodes.sampling")


@pytest.fixture
def model_of(node):
    """The node's MODEL and CONDITIONING, of its defaults but for one size."""

    def execute(examples=None, vae=None, **values):
        defaults = dict(coherence=3.3, sizes="1", mirror=False)
        examples = picture() if examples is None else examples
        with torch.inference_mode():
            return node.PREPARE_CLASS_CLONE(None).execute(examples=examples, vae=vae or PoolingVAE(), **defaults | values).args

    return execute


def parameters_of(model) -> list[torch.Tensor]:
    return [parameter for _, parameter in model.model.diffusion_model.named_parameters()]


def estimate(model, latents: torch.Tensor, sigma: float) -> torch.Tensor:
    with torch.inference_mode():
        return model.model.apply_model(latents, torch.full((len(latents),), sigma))


SAMPLING = dict(seed=3, steps=6, sampler_name="ddim", scheduler="ddim_uniform", denoise=1.0)


def sides(image, image_text, audio, audio_text) -> dict:
    """MultimodalGuider's inputs without guidance and warm start."""
    models = dict(image_model=image, image_positive=image_text, image_negative=image_text)
    models |= dict(audio_model=audio, audio_positive=audio_text, audio_negative=audio_text)
    return models | dict(image_cfg=1.0, audio_cfg=1.0, t_image=1.0, t_audio=1.0, audio_weight=0.5)


@torch.inference_mode()
def ksample(model, prompt, latents=None, cfg=1.0, steps=6, **entries):
    """The latents of core's own KSampler."""
    canvas = {"samples": torch.zeros(1, 4, 32, 24) if latents is None else latents, **entries}
    return (
        importlib.import_module("nodes")
        .KSampler()
        .sample(model, 3, steps, cfg, "ddim", "ddim_uniform", prompt, prompt, canvas)[0]["samples"]
    )


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


# Sampling ----------------------------------------------------------------------------------------------------------------------------


def test_cores_ksampler_ends_at_the_example_repeated_with_its_gap_somewhere_along_the_canvas(model_of):
    model, prompt = model_of(coherence=0.0, gap=0.32)
    result = SCALE * ksample(model, prompt)
    turn = torch.nn.functional.pad(picture()[0, ..., 0], (0, 32))  # 96 pixels, 12 latents
    canvases = [latents_of(turn).repeat(1, 1, 1, 2).roll(shift, -1) for shift in range(12)]
    assert min(float((result - canvas).abs().max()) for canvas in canvases) < 1e-3


def test_the_samplers_own_sigma_counts_and_not_the_nearest_timesteps(model_of):
    model, _ = model_of(gap=0.0)
    latents, sigma = noise(2, 4, 32, 24), 0.12345
    expected = ExampleDenoiser([latents_of(picture()[0, ..., 0])], window=41)(latents, torch.tensor(sigma))
    assert torch.allclose(estimate(model, latents, sigma), expected, atol=1e-5)


@pytest.mark.parametrize("side", ["image", "audio", "both"])
def test_it_is_either_side_of_the_joint_sampler_and_added_to_it(model_of, sampling, side):
    (model, prompt), other, text = model_of(), native_model(diffusers_unet(1)), conditioning(1)
    image, image_text = (other, text) if side == "audio" else (model, prompt)
    audio, audio_text = (other, text) if side == "image" else (model, prompt)
    with torch.inference_mode():
        (latent,) = sampling.MultimodalKSampler.execute(
            **sides(image, image_text, audio, audio_text), latent_image={"samples": torch.zeros(2, 4, 32, 24)}, **SAMPLING
        ).args
        assert latent["samples"].shape == (2, 4, 32, 24) and latent["samples"].isfinite().all()
        if side == "both":  # nothing but the examples
            assert torch.allclose(latent["samples"][:1], ksample(model, prompt), atol=1e-3)
        (guider,) = sampling.MultimodalGuider.execute(**sides(other, text, other, text) | dict(t_image=0.0, audio_weight=0.0)).args
        (guider,) = sampling.AddExpert.execute(guider, model, prompt, prompt, 1.0, 1.0, 1.0).args  # the only one that votes
        result = guider.sample(
            noise(1, 4, 32, 24), torch.zeros(1, 4, 32, 24), comfy.samplers.sampler_object("ddim"), torch.tensor([1.0, 0.3, 0.0]), seed=1
        )
    assert torch.allclose(SCALE * result, estimate(model, SCALE * result, 0.01), atol=1e-2)


def test_a_prompt_of_any_width_passes(model_of, sampling):
    model, _ = model_of()
    sampling.MultimodalGuider.execute(**sides(model, conditioning(1), model, conditioning(2)))
    assert torch.equal(ksample(model, conditioning(1)), ksample(model, model_of()[1]))


def test_a_masked_part_keeps_the_latents_that_came_in(model_of):
    model, prompt = model_of()
    latents, mask = noise(1, 4, 32, 24), torch.zeros(1, 32, 24)
    mask[..., 12:] = 1.0
    result = ksample(model, prompt, latents, noise_mask=mask)
    assert torch.allclose(result[..., :12], latents[..., :12], atol=1e-3)
    assert (result[..., 12:] - latents[..., 12:]).abs().mean() > 0.1


def test_the_conditioning_may_be_masked(model_of):
    model, prompt = model_of()
    left = torch.zeros(1, 256, 192)
    left[..., :96] = 1.0
    masked = [[prompt[0][0], {"mask": left, "mask_strength": 1.0, "set_area_to_bounds": False}]]
    assert torch.allclose(ksample(model, masked + prompt), ksample(model, prompt), atol=1e-4)


def test_a_long_canvas_is_sampled_in_context_windows(model_of):
    model, prompt = model_of()
    options = dict(context_length=16, context_overlap=8, context_schedule="standard_static", context_stride=1, closed_loop=False)
    (windowed,) = context_windows.ContextWindowsManualNode.execute(model, **options, fuse_method="pyramid", dim=3, freenoise=False).args
    assert ksample(windowed, prompt, torch.zeros(1, 4, 32, 48)).isfinite().all()


def test_on_a_square_canvas_the_examples_are_as_high_as_it_is(model_of, sampling):
    (model, prompt), sound, square = model_of(picture(rows=512), view="two-row square"), model_of(), {"samples": torch.zeros(1, 4, 64, 24)}
    with torch.inference_mode():
        (latent,) = sampling.MultimodalKSampler.execute(
            **sides(model, prompt, *sound), latent_image=square, **SAMPLING, view="two-row square"
        ).args
    assert latent["samples"].shape == (1, 4, 64, 24)
    with pytest.raises(ValueError, match="ExamplesAsModel: it is given 256 rows of pixels, and its examples have 512. Start from Empty"):
        ksample(model, prompt)


def test_a_canvas_may_be_shorter_than_its_example_and_than_the_coherence(model_of):
    for repeat in (True, False):
        for coherence in (0.0, 100.0):
            model, prompt = model_of(picture(400), repeat=repeat, coherence=coherence)
            assert ksample(model, prompt, torch.zeros(1, 4, 32, 10)).isfinite().all()


def test_the_user_can_cancel_within_a_step(model_of):
    model, _ = model_of()
    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        estimate(model, noise(1, 4, 32, 24), 1.0)
    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        model_of()


def test_the_memory_manager_counts_the_examples(model_of):
    few, many = (model_of(picture().expand(count, -1, -1, -1), gap=0.0)[0] for count in (1, 20))
    assert many.model_size() - few.model_size() == 19 * 4 * 32 * 8 * 4
    assert many.model_dtype() == torch.float32
    assert isinstance(many.get_model_object("latent_format"), comfy.latent_formats.SD15)


def test_that_guidance_changes_nothing_is_said_once(model_of, caplog):
    model, prompt = model_of()
    caplog.set_level(logging.INFO)
    assert torch.allclose(ksample(model, prompt, cfg=7.0), ksample(model, prompt), atol=1e-3)
    ksample(model, prompt, cfg=7.0)
    assert caplog.text.count("a cfg other than 1 changes nothing") == 1


def test_like_gives_latent_space_and_schedule(model_of):
    flow = native_model(diffusers_unet(1))

    class Flow(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
        pass

    flow.add_object_patch("model_sampling", Flow(flow.model.model_config))
    (model, prompt), (plain, _) = model_of(like=flow), model_of()
    assert prompt[0][0].shape == (1, 1, 32) and model_of()[1][0][0].shape == (1, 1, 768)
    latents, sigma = noise(1, 4, 32, 24), 0.4  # (1 - sigma) x0 + sigma n
    assert torch.allclose(estimate(model, latents, sigma), estimate(plain, latents / 0.6, 0.4 / 0.6), atol=1e-5)
    assert ksample(model, prompt).isfinite().all()


# What an example becomes -------------------------------------------------------------------------------------------------------------


def test_sizes_widen_an_example_and_mirror_adds_its_mirror_image(model_of):
    model, _ = model_of(picture(64), sizes="1, 1.5, 1.5, 2", mirror=True, gap=0.0)
    groups = parameters_of(model)
    assert [tuple(group.shape) for group in groups] == [(2, 4, 32, 8), (2, 4, 32, 12), (2, 4, 32, 16)]
    assert torch.allclose(groups[0][1], groups[0][0].flip(-1), atol=1e-6)


def test_a_higher_picture_is_scaled_and_that_is_said(model_of, caplog):
    caplog.set_level(logging.INFO)
    model, _ = model_of(picture(128, rows=512), gap=0.0)
    assert model.model.diffusion_model.examples_0.shape == (1, 4, 32, 8)
    assert "examples of 128 x 512 pixels are scaled to 256 rows" in caplog.text


@pytest.mark.parametrize("repeat", [True, False])
@pytest.mark.parametrize("negative_space", ["black", "edge", "open"])
def test_shifts_encode_an_example_at_each_offset_within_a_latent(model_of, negative_space, repeat):
    options = dict(negative_space=negative_space, repeat=repeat, gap=0.0 if negative_space == "open" else 0.16)
    groups = {
        shifts: torch.cat([group.flatten(0, 1).movedim(-1, 0) for group in parameters_of(model_of(shifts=shifts, **options)[0])], 1)
        if repeat and negative_space != "open"
        else parameters_of(model_of(shifts=shifts, **options)[0])
        for shifts in ("8 px", "2 px")
    }
    if not repeat or negative_space == "open":  # in a latent more
        assert [tuple(group.shape) for group in groups["2 px"]] == [(1, 4, 32, 8), (3, 4, 32, 9)]
        assert torch.allclose(groups["2 px"][0], groups["8 px"][0])
    else:
        assert groups["2 px"].shape[1] == 4 * groups["8 px"].shape[1]
    moved = torch.nn.functional.pad(picture()[0, ..., 0], (2, 14))
    if negative_space == "black":
        model, _ = model_of(shifts="2 px", coherence=0.0, **options)
        assert torch.allclose(estimate(model, latents_of(moved), 0.01), latents_of(moved), atol=1e-4)
        assert not torch.allclose(estimate(model_of(coherence=0.0, **options)[0], latents_of(moved), 0.01), latents_of(moved), atol=1e-2)


@pytest.mark.parametrize("negative_space", ["black", "edge", "open"])
def test_beside_an_example_lies_what_negative_space_says(model_of, negative_space):
    model, _ = model_of(repeat=False, coherence=0.0, negative_space=negative_space)
    example = latents_of(picture()[0, ..., 0])
    black = latents_of(torch.zeros(256, 64))
    canvas = torch.cat([black, example, black], -1)
    result = estimate(model, canvas, 0.05)
    if negative_space == "black":
        assert torch.allclose(result, canvas, atol=1e-4)
    else:
        assert torch.allclose(result[..., 8:16], example, atol=1e-4)
    if negative_space == "edge":
        assert torch.allclose(result[..., :8], example[..., :1].expand(-1, -1, -1, 8), atol=1e-4)
    if negative_space == "open":  # what was there may stay
        assert torch.allclose(result[..., :8], canvas[..., :8], atol=1e-2)


def test_transparent_parts_are_black_and_gray_pictures_are_taken(model_of):
    clear = torch.cat([picture(), torch.zeros(1, 256, 64, 1)], -1)
    parts = [model_of(image, gap=0.0)[0].model.diffusion_model.examples_0 for image in (clear, torch.zeros(1, 256, 64, 1))]
    assert torch.allclose(*parts)


def test_one_pixel_a_constant_and_hundreds_of_examples_are_examples_too(model_of):
    for examples in (torch.rand(1, 1, 1, 3), torch.full((1, 256, 64, 3), 0.5), picture(8).expand(500, -1, -1, -1)):
        model, _ = model_of(examples)
        assert estimate(model, noise(1, 4, 32, 24), 1.0).isfinite().all()


# What it refuses ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(examples=picture()[:0]), "examples has the shape .*0, 256, 64, 3"),
        (dict(examples=picture() * math.nan), "examples holds .* NaN"),
        (dict(sizes=""), 'sizes is ""; it is one or more numbers above 0'),
        (dict(sizes="1, wide"), "sizes is .*wide"),
        (dict(sizes="0, 1"), "sizes is .*0, 1"),
        (dict(sizes="nan"), "sizes is .*nan"),
        (dict(examples=torch.rand(1, 1, 1000, 3)), "examples of 1000 x 1 pixels would be 256000 columns wide at 256 rows; .*Crop them"),
        (dict(coherence=math.nan), "coherence is nan; it is a number from 0"),
        (dict(temperature=0.0), "temperature is 0.0; it is a number from 0.01"),
        (dict(gap=-1.0), "gap is -1.0"),
    ],
)
def test_inputs_that_cannot_be_used_are_refused_before_anything_is_encoded(model_of, values, message):
    vae = PoolingVAE()
    with pytest.raises(ValueError, match=f"^ExamplesAsModel: {message}"):
        model_of(vae=vae, **values)
    assert not vae.seen


def test_the_memory_of_hundreds_of_examples_is_said_before_they_are_encoded_and_refused_where_it_is_not_free(model_of, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    vae, many = PoolingVAE(value=math.nan), picture(64).expand(500, -1, -1, -1)
    with pytest.raises(ValueError, match="NaN"):
        model_of(many, vae, sizes="1, 2", gap=0.0)
    assert "1000 examples (of 500 pictures in 2 sizes), 5.9 MiB" in caplog.text  # 500 x (8 + 16) columns of 512 bytes
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device=None: 2**23)
    vae = PoolingVAE()
    with pytest.raises(ValueError, match="^ExamplesAsModel: 1000 examples .* would take 0.0 GiB, and 0.0 GiB are free. Take fewer"):
        model_of(many, vae, sizes="1, 2", gap=0.0)
    assert not vae.seen


def test_a_vae_that_says_its_channels_is_refused_before_anything_is_encoded(model_of):
    vae = PoolingVAE(16)
    vae.latent_channels = 16
    with pytest.raises(ValueError, match="^ExamplesAsModel: vae makes latents of 16 channels, and the model's have 4. Connect the VAE of"):
        model_of(vae=vae)
    assert not vae.seen


def test_a_vae_of_another_family_and_one_that_overflows_are_refused(model_of):
    with pytest.raises(ValueError, match="ExamplesAsModel: vae makes latents of 1x16x32x.*Connect the VAE of Stable Diffusion 1.x or"):
        model_of(vae=PoolingVAE(16))
    with pytest.raises(ValueError, match="ExamplesAsModel: vae makes latents that are NaN or infinite.*--fp32-vae"):
        model_of(vae=PoolingVAE(value=math.nan))


# The sound in a recording's own phase -------------------------------------------------------------------------------------------------


RATE = 44100


def recording(channels: int = 2, seconds: float = 1.0, seed: int = 0) -> torch.Tensor:
    """Waveform (1, channels, T) of noise that swells."""
    swell = torch.linspace(0, 3 * math.pi, round(seconds * RATE)).sin()
    return 0.1 * swell * torch.randn(1, channels, round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def play(pack):
    """The waveform and sample rate of ExamplesToAudio."""
    to_audio = importlib.import_module(pack.__name__ + ".nodes.examples").ExamplesToAudio

    def execute(spectrogram, waveform, rate=RATE, **values):
        audio = {"waveform": waveform, "sample_rate": rate}
        with torch.inference_mode():
            (sound,) = to_audio.PREPARE_CLASS_CLONE(None).execute(spectrogram, audio, **dict(coherence=0.3) | values).args
        return sound["waveform"], sound["sample_rate"]

    return execute


@pytest.fixture
def spectrogram_of(pack):
    """The IMAGE of AudioToSpectrogram."""
    to_spectrogram = importlib.import_module(pack.__name__ + ".nodes.audio").AudioToSpectrogram
    return lambda waveform: to_spectrogram.execute({"waveform": waveform, "sample_rate": RATE}, 0.0).args[0]


def test_a_recordings_own_spectrogram_plays_as_the_recording_in_stereo_at_its_own_rate(play, spectrogram_of):
    stereo = recording()
    waveform, rate = play(spectrogram_of(stereo), stereo)
    assert rate == RATE and waveform.shape == stereo.shape
    for before, after in zip(stereo[0], waveform[0], strict=True):
        assert torch.cosine_similarity(before, after, dim=0) > 0.95


def test_a_batch_of_pictures_is_played_by_one_recording_and_a_picture_by_several(play):
    pictures = torch.rand(2, 256, 40, 3, generator=torch.Generator().manual_seed(1))
    batch = torch.cat([recording(1), recording(1, seed=1)])
    assert play(pictures, batch[:1])[0].shape == play(pictures[:1], batch)[0].shape == (2, 1, round(0.4 * RATE))
    assert torch.equal(play(pictures, batch[:1])[0][1:], play(pictures[1:], batch[:1])[0])


def test_the_end_of_a_loop_goes_on_into_its_beginning(play, spectrogram_of):
    t = torch.arange(RATE) / RATE
    loop = 0.3 * (2 * math.pi * torch.tensor([[[220.0], [330.0]]]) * t).sin()  # whole waves in a second
    shown = spectrogram_of(loop).roll(37, 2)
    turn, _ = play(shown, loop, loop=True)
    assert turn.shape == loop.shape
    joined = turn.roll(RATE // 2, -1)
    assert (
        joined[..., RATE // 2 - 100 : RATE // 2 + 100].diff().abs().max() < 1.2 * joined.diff().abs().median(-1).values.max() * math.pi / 2
    )
    without = play(shown, loop)[0].roll(RATE // 2, -1)
    assert not torch.equal(joined, without)


def test_playing_can_be_cancelled(play):
    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        play(torch.rand(1, 256, 40, 3), recording())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(spectrogram=torch.rand(1, 128, 40, 3)), "spectrogram is 40 x 128 pixels"),
        (dict(spectrogram=torch.full((1, 256, 40, 3), math.nan)), "spectrogram holds .* NaN"),
        (dict(spectrogram=torch.rand(2, 256, 40, 3), waveform=recording().expand(3, -1, -1)), "spectrogram is a batch of 2 and recording"),
        (dict(waveform=recording() * 0), "recording is silent, so that nothing can be played by it. Use another"),
        (dict(waveform=recording() * math.nan), "recording holds .* NaN"),
        (dict(waveform=recording()[..., :0]), "recording has zero length"),
        (dict(waveform=recording()[..., :1000]), "recording is 0.023 s long; it must hold 0.1 s or more. Use a longer"),
        (dict(coherence=math.nan), "coherence is nan; it is a number from 0"),
        (dict(coherence=-1.0), "coherence is -1.0; it is a number from 0"),
        (dict(likeness=1.5), "likeness is 1.5; it is a number from 0"),
    ],
)
def test_what_cannot_be_played_is_refused_with_its_input_and_remedy(play, values, message):
    with pytest.raises(ValueError, match=f"^ExamplesToAudio: {message}"):
        play(**dict(spectrogram=torch.rand(1, 256, 40, 3), waveform=recording()) | values)
