"""The core runs wherever its tensors lie: every public function on a graphics card, on tensors that only say they lie there.

Nothing mixes devices, needs float64 or, but for what is said here, waits for the card.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from elsewhere import Card, OnCard, card, laid, same_on_the_card
from torch import Tensor, nn

import itsound_core
from itsound_core import (
    colorize,
    colormap,
    cycle,
    deepfloyd,
    framing,
    imprint,
    looping,
    playhead,
    ranking,
    sampling,
    scatter,
    scoring,
    sds,
    spectrogram,
    views,
    vocoder,
)
from itsound_core.canvas import FourierCanvas, LatentParameters
from itsound_core.composition import Expert, compose
from itsound_core.examples import ExampleDenoiser, Gaussian
from itsound_core.griffin_lim import griffin_lim
from itsound_core.mel_inversion import mel_to_magnitude
from itsound_core.spectrogram import AUFFUSION, RIFFUSION


def random(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# The stand-in itself


def test_the_stand_in_sees_mixed_devices_float64_and_reads():
    with card() as watched:
        here, there = torch.ones(2), torch.ones(2).to("cuda")
        with pytest.raises(AssertionError, match="mixes tensors"):
            torch.add(here, there)
        with pytest.raises(AssertionError, match="float64"):
            there.double()
        assert watched.reads == []
        assert float(there.sum()) == 2.0 and bool(there.any()) and there.cpu().tolist() == [1.0, 1.0]
    assert len(watched.reads) == 3


# Every function of the core

PICTURE, SOUND = random(2, 256, 32), random(2, 32 * 160, seed=1) - 0.5
SPECTRUM = torch.polar(random(1, 1025, 32), 6 * random(1, 1025, 32, seed=1))
GRAY, COLOR = random(1, 1, 256, 32), random(1, 3, 256, 32, seed=1)
PHOTO = random(1, 3, 40, 50)
LATENTS = random(2, 4, 8, 8)
SCORES = random(6), random(6, seed=1)
EXPERTS = [Expert(lambda x, t: 0.5 * x), Expert(lambda x, t: 0.9 * x, view=views.HALVES_END_TO_END)]
LEVELS = torch.linspace(0.99, 0.01, 1000, dtype=torch.float64)
PRIOR = sds.DiffusionPrior(lambda noisy, timestep: 0.5 * noisy, LEVELS, sds.full_canvas)
FORMATS = AUFFUSION, RIFFUSION
PLACED = imprint.Area(0.05, 0.1, 500.0, 4000.0)


def seeded():
    return torch.Generator().manual_seed(1)


def deepfloyd_stage(number):
    def unet(pixels, timestep, text, class_labels):
        return SimpleNamespace(sample=torch.cat([0.5 * pixels[:, :3] + text.mean(), -pixels[:, :3]], dim=1))

    unet.dtype = torch.float32

    def scheduler():
        from diffusers import DDPMScheduler

        return DDPMScheduler(variance_type="learned_range", thresholding=True)

    def run(gray, picture, text):
        guidance = deepfloyd.Guidance(text, 0.5 * text, 3.0)
        if number == 0:
            return deepfloyd.predict_noise(unet, picture, 500, guidance)
        if number == 1:
            return deepfloyd.stage_1(unet, scheduler(), gray, guidance, 3, 1, seeded())
        return deepfloyd.stage_2(unet, scheduler(), scheduler(), picture, gray, guidance, 3, seeded())

    return run, random(1, 1, 32, 32), random(1, 3, 8, 8), random(1, 77, 16)


ON_THE_CARD = {
    "colorize.color_spectrogram": (colorize.color_spectrogram, GRAY, COLOR),
    "colorize.enlarge_color": (colorize.enlarge_color, random(1, 3, 64, 8), random(1, 1, 64, 8), GRAY),
    "colorize.fit_color": (colorize.fit_color, COLOR - 0.5, GRAY, 1 - GRAY),
    "colorize.nearest_zero_sum": (colorize.nearest_zero_sum, 9 * colorize.split_gray(COLOR)[1]),
    "colorize.split_gray": (colorize.split_gray, COLOR),
    "colorize.with_gray": (colorize.with_gray, COLOR, GRAY),
    "colorize.within_gamut": (colorize.within_gamut, GRAY, COLOR - 0.5),
    "colormap.apply_colormap": (lambda picture: [colormap.apply_colormap(picture, name) for name in colormap.COLORMAPS], PICTURE),
    "colormap.as_gray": (colormap.as_gray, PICTURE),
    "colormap.renormalize": (colormap.renormalize, PICTURE),
    "composition.compose": (partial(compose, EXPERTS), LATENTS, torch.full((2,), 0.5)),
    "cycle.change_level": (cycle.change_level, SOUND, torch.tensor([3.0, -3.0])),
    "cycle.cycle_consistency": (cycle.cycle_consistency, PICTURE, SOUND),
    "cycle.level_db": (cycle.level_db, PICTURE, SOUND),
    "deepfloyd.predict_noise": deepfloyd_stage(0),
    "deepfloyd.stage_1": deepfloyd_stage(1),
    "deepfloyd.stage_2": deepfloyd_stage(2),
    "framing.stack": (framing.stack, random(1, 16, 32, 3), random(1, 8, 64, 3)),
    "griffin_lim.griffin_lim": (partial(griffin_lim, iterations=4), random(1, 256, 32)),
    "imprint.at_frequencies": (lambda mask: imprint.at_frequencies(mask, PLACED, spectrogram.band_frequencies()), random(1, 90, 8)),
    "imprint.darkness": (lambda image: [imprint.darkness(image, invert) for invert in (False, True)], random(1, 4, 8, 8)),
    "imprint.fit_to": (lambda mask: [imprint.fit_to(mask, 20, 30, fit) for fit in imprint.FITS], random(1, 16, 16)),
    "imprint.imprint": (
        lambda image, picture: [imprint.imprint(image, picture, area=area) for area in (imprint.WHOLE, PLACED)],
        PHOTO,
        PICTURE,
    ),
    "imprint.imprint_recording": (
        lambda image, sound: [imprint.imprint_recording(image, sound, 22050, area=area) for area in (imprint.WHOLE, PLACED)],
        *(PHOTO[0], SOUND),
    ),
    "looping.close_loop": (partial(looping.close_loop, lead=320), SOUND),
    "looping.crossfade": (looping.crossfade, SOUND, SOUND.flip(0)),
    "looping.wrap": (partial(looping.wrap, columns=4), PICTURE),
    "mel_inversion.mel_to_magnitude": (mel_to_magnitude, PICTURE),
    "sampling.ddim": (partial(sampling.ddim, partial(compose, EXPERTS), steps=3), LATENTS),
    "sampling.ddim_step": (
        lambda latents, noise: sampling.ddim_step(latents, noise, 0.4, 0.6, eta=1.0, generator=seeded()),
        *(LATENTS, random(2, 4, 8, 8, seed=1)),
    ),
    "sampling.denoised": (partial(sampling.denoised, alpha=0.4), LATENTS, LATENTS),
    "sampling.dpm_solver_2m": (partial(sampling.dpm_solver_2m, partial(compose, EXPERTS), steps=3), LATENTS),
    "sampling.guided": (
        lambda latents, prompt, null: sampling.guided(lambda x, t, text: x * t + text.mean(), prompt, null, 5.0)(latents, torch.tensor(3)),
        *(LATENTS, random(1, 77, 16), random(1, 77, 16, seed=1)),
    ),
    "scoring.fixed_windows": (partial(scoring.fixed_windows, length=2000), SOUND[0]),
    "scoring.square_crops": (scoring.square_crops, random(16, 40)),
    "sds.full_canvas": (partial(sds.full_canvas, generator=seeded()), LATENTS),
    "sds.surrogate": (lambda latents: sds.surrogate(PRIOR, latents, seeded()), LATENTS),
    "spectrogram.hz_to_mel": (spectrogram.hz_to_mel, 8000 * random(9)),
    "spectrogram.istft": (spectrogram.istft, SPECTRUM),
    "spectrogram.limit_peak": (spectrogram.limit_peak, 3 * SOUND),
    "spectrogram.log_mel_to_picture": (spectrogram.log_mel_to_picture, -5 * PICTURE),
    "spectrogram.magnitude": (spectrogram.magnitude, SPECTRUM),
    "spectrogram.mel_to_log_mel": (spectrogram.mel_to_log_mel, PICTURE),
    "spectrogram.mel_to_picture": (lambda mel: [spectrogram.mel_to_picture(mel, fmt) for fmt in FORMATS], PICTURE),
    "spectrogram.normalize_peak": (spectrogram.normalize_peak, SOUND),
    "spectrogram.picture_to_log_mel": (lambda picture: [spectrogram.picture_to_log_mel(picture, fmt) for fmt in FORMATS], PICTURE),
    "spectrogram.picture_to_mel": (lambda picture: [spectrogram.picture_to_mel(picture, fmt) for fmt in FORMATS], PICTURE),
    "spectrogram.stft": (spectrogram.stft, SOUND),
    "spectrogram.waveform_to_mel": (spectrogram.waveform_to_mel, SOUND),
    "spectrogram.waveform_to_picture": (
        lambda sound: [spectrogram.waveform_to_picture(sound, AUFFUSION), spectrogram.waveform_to_picture(sound.repeat(1, 2), RIFFUSION)],
        SOUND,
    ),
    "vocoder.replace_magnitude": (vocoder.replace_magnitude, SOUND, PICTURE),
}
"""Functions by their names, and what they are called with; what comes out lies on the card."""

TO_THE_HOST = {
    "framing.bare": (framing.bare, (255 * random(9, 9, 3)).to(torch.uint8)),
    "playhead.playhead_frames": (partial(playhead.playhead_frames, seconds=1.0, fps=3.0), random(1, 16, 32, 3)),
    "ranking.on_front": (ranking.on_front, *SCORES),
    "ranking.pareto": (ranking.pareto, *SCORES),
    "ranking.rank_product": (ranking.rank_product, *SCORES),
    "ranking.ranks": (ranking.ranks, SCORES[0]),
    "ranking.top_shares": (ranking.top_shares, *SCORES),
    "ranking.weighted": (ranking.weighted, *SCORES),
    "scatter.scatter_plot": (scatter.scatter_plot, *SCORES),
}
"""The same of functions whose results are on the host wherever their inputs lie."""

HOST_ONLY = {
    "contact_sheet.contact_sheet": "drawn by Pillow",
    "framing.with_captions": "drawn by Pillow",
    "mosaicing.mosaic": "a path is found a column at a time",
    "mosaicing.path": "a column at a time",
    "mosaicing.rearrange": "a piece at a time",
    "mosaicing.shape": "after `rearrange`",
    "media.encode_flac": "written by PyAV",
    "media.encode_mp4": "written by PyAV",
    "media.encode_png": "written by Pillow",
    "resampling.resample": "scipy's",
    "vocoder.fold_weight_norm": "on loading",
    "weights.shapes_of": "shapes only",
    "weights.require_held": "sizes only",
}

WAITS = {
    "colorize.color_spectrogram": {"_to_copy"},  # once a picture, for the double precision that Apple's cards lack
    "composition.compose": {"_local_scalar_dense"},  # once a step: who votes
    "deepfloyd.stage_1": {"_local_scalar_dense", "nonzero"},  # diffusers' scheduler looks for its timesteps
    "deepfloyd.stage_2": {"_local_scalar_dense", "nonzero"},
}


def test_every_function_of_the_core_that_takes_tensors_is_known_to_run_on_a_card_or_said_to_be_the_hosts():
    modules = [importlib.import_module(f"itsound_core.{module.name}") for module in pkgutil.iter_modules(itsound_core.__path__)]
    found = {
        f"{module.__name__.partition('.')[2]}.{name}"
        for module in modules
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
        if any(
            "Tensor" in str(parameter.annotation).partition("Callable")[0] for parameter in inspect.signature(function).parameters.values()
        )
    }
    known = {*ON_THE_CARD, *TO_THE_HOST, *HOST_ONLY}
    assert found == known, f"put these into one of the three tables, or take them out: {sorted(found ^ known)}"


@pytest.mark.parametrize("name", ON_THE_CARD)
def test_a_function_gives_the_same_on_the_card_and_never_waits_for_it(name):
    assert set(same_on_the_card(*ON_THE_CARD[name])) <= WAITS.get(name, set())


@pytest.mark.parametrize("name", TO_THE_HOST)
def test_a_function_gives_the_same_for_what_lies_on_the_card(name):
    same_on_the_card(*TO_THE_HOST[name], anywhere=True)


@pytest.mark.parametrize("count", [2, 3])
def test_the_composition_reads_one_number_a_step(count):
    experts = [Expert(lambda x, t: 0.5 * x, start=float(i)) for i in range(1, count)]
    experts.append(Expert(lambda x, t: 0.9 * x, view=views.HALVES_END_TO_END))
    assert len(same_on_the_card(partial(compose, experts), random(2, 4, 8, 8), torch.full((2,), 0.5))) == 1


def test_colour_is_projected_with_one_wait_a_picture():
    projected = same_on_the_card(lambda gray, color: colorize.color_spectrogram(gray, color).pixels, GRAY, COLOR)
    assert set(projected) == {"_to_copy"}


# What holds tensors


def to_the_card(module: nn.Module) -> None:
    for part in module.modules():
        for held in (part._parameters, part._buffers):
            held.update({name: laid(values.detach()) for name, values in held.items() if values is not None})


def same_module_on_the_card(module: nn.Module, *inputs: Tensor) -> Card:
    with torch.no_grad():
        expected = module(*inputs)
        with card() as watched:
            to_the_card(module)
            result = module(*map(laid, inputs))
    assert isinstance(result, OnCard) and torch.equal(result.values, expected)
    return watched


def test_a_vocoder_on_the_card_never_waits_for_it():
    config = dict(resblock="1", upsample_rates=[10, 4, 4], upsample_kernel_sizes=[20, 8, 8], upsample_initial_channel=32, num_mels=256)
    config |= dict(resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3, 5]])
    assert same_module_on_the_card(vocoder.HiFiGAN(vocoder.HiFiGANConfig.from_dict(config)), random(1, 256, 16)).reads == []


@pytest.mark.parametrize("canvas", [FourierCanvas(16, 32, 8, hidden=8), LatentParameters(4, 8)], ids=["network", "latents"])
def test_a_canvas_on_the_card_never_waits_for_it(canvas):
    assert same_module_on_the_card(canvas).reads == []


@pytest.mark.parametrize("space", ["edge", random(4, 8), Gaussian(random(4, 8), 2.0)], ids=["edge", "column", "open"])
@pytest.mark.parametrize("repeat", [True, False])
def test_examples_are_woven_on_the_card_without_waiting_for_it(space, repeat):
    denoise = ExampleDenoiser([random(2, 4, 8, 5)], window=3, repeat=repeat, gap=2, space=space)
    assert same_on_the_card(denoise, random(2, 4, 8, 12), torch.tensor([0.5, 0.5]), doubles=True) == []


# Score distillation


def test_crops_of_the_canvas_on_the_card_never_wait_for_it():
    render = sds.random_crops(3, 16)
    assert same_on_the_card(lambda picture: render(picture, seeded()), random(1, 1, 32, 64)) == []


def test_latents_of_the_canvas_on_the_card_never_wait_for_it():
    render = sds.latents_by(lambda pixels: torch.cat([pixels, pixels], dim=1), 0.2)
    assert same_on_the_card(lambda picture: render(picture, seeded()), random(1, 1, 32, 64)) == []
