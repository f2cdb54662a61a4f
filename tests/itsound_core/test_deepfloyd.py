"""DeepFloyd IF under a given gray: diffusers' own pipelines, with the gray part put back after each of their steps, give the same."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("diffusers")

import tiny_deepfloyd  # noqa: E402
from diffusers import IFPipeline, IFSuperResolutionPipeline  # noqa: E402

from itsound_core.deepfloyd import Guidance, stage_1, stage_2  # noqa: E402

SCALE = 5.0
TEXT, NULL = torch.randn(2, 1, tiny_deepfloyd.TOKENS, tiny_deepfloyd.WIDTH, generator=torch.Generator().manual_seed(7))


def spectrogram(batch=1):
    return torch.rand(batch, 1, 64, 32, generator=torch.Generator().manual_seed(5))


def seeded():
    return torch.Generator().manual_seed(3)


def put_back(scheduler, gray, timesteps, generator):
    """A pipeline's callback that replaces the gray part of what it hands on to the next step."""
    given = (2 * gray - 1).expand(-1, 3, -1, -1)

    def callback(step, timestep, pixels):
        gray = given
        if step + 1 < len(timesteps):
            noise = torch.randn(given.shape, generator=generator)
            gray = scheduler.add_noise(given, noise, timesteps[step + 1][None])
        pixels += (gray - pixels).mean(dim=1, keepdim=True)

    return callback


def run(pipeline, scheduler, gray, steps, start_step, generator, **inputs):
    pipeline.set_progress_bar_config(disable=True)
    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps[start_step:].clone()

    def start(batch_size, channels, height, width, *_):
        given = (2 * gray - 1).expand(-1, 3, -1, -1)
        noised = scheduler.add_noise(given, torch.randn(given.shape, generator=generator), timesteps[:1])
        pipeline.drawn_start = generator.get_state()
        return noised

    pipeline.prepare_intermediate_images = start
    return pipeline(
        prompt_embeds=TEXT.expand(len(gray), -1, -1),
        negative_prompt_embeds=NULL.expand(len(gray), -1, -1),
        guidance_scale=SCALE,
        timesteps=timesteps.tolist(),
        height=gray.shape[2],
        width=gray.shape[3],
        generator=generator,
        output_type="pt",
        callback=put_back(tiny_deepfloyd.scheduler(), gray, timesteps, generator),
        **inputs,
    ).images


def stages(pipeline_class, unet, scheduler, **components):
    names = ("tokenizer", "text_encoder", "safety_checker", "feature_extractor", "watermarker")
    return pipeline_class(unet=unet, scheduler=scheduler, **dict.fromkeys(names), **components, requires_safety_checker=False)


@pytest.mark.parametrize("steps, start_step", [(6, 0), (6, 2)])
def test_stage_1_is_diffusers_pipeline_with_the_gray_put_back(steps, start_step):
    unet, gray = tiny_deepfloyd.unet(), F.interpolate(spectrogram(), scale_factor=0.25, mode="bilinear")
    pipeline = stages(IFPipeline, unet, tiny_deepfloyd.scheduler())
    expected = run(pipeline, pipeline.scheduler, gray, steps, start_step, seeded())
    found = stage_1(unet, tiny_deepfloyd.scheduler(), spectrogram(), Guidance(TEXT, NULL, SCALE), steps, start_step, seeded())
    torch.testing.assert_close(found, expected, atol=5e-4, rtol=0)  # rounding, after steps that enlarge it: 7e-5 was seen
    torch.testing.assert_close(found.mean(dim=1, keepdim=True), 2 * gray - 1)


def test_stage_2_is_diffusers_pipeline_with_the_gray_put_back():
    unet, gray = tiny_deepfloyd.unet(1, **tiny_deepfloyd.STAGE_2), spectrogram()
    picture = torch.randn(1, 3, 16, 8, generator=torch.Generator().manual_seed(9)).clamp(-1, 1)
    pipeline = stages(
        IFSuperResolutionPipeline, unet, tiny_deepfloyd.scheduler(), image_noising_scheduler=tiny_deepfloyd.noising_scheduler()
    )
    generator, noising = seeded(), tiny_deepfloyd.noising_scheduler()
    noise = torch.randn(gray.shape[0], 3, *gray.shape[2:], generator=generator)

    def add_noise(image, drawn, timesteps):
        """The pipeline draws the condition's noise after the sample's: take back its drawing, and use the one from before."""
        generator.set_state(pipeline.drawn_start)
        return noising.add_noise(image, noise, timesteps)

    pipeline.image_noising_scheduler.add_noise = add_noise
    expected = run(pipeline, pipeline.scheduler, gray, 4, 0, generator, image=picture, noise_level=50)
    found = stage_2(
        unet, tiny_deepfloyd.scheduler(), tiny_deepfloyd.noising_scheduler(), picture, gray, Guidance(TEXT, NULL, SCALE), 4, seeded()
    )
    torch.testing.assert_close(found, expected, atol=5e-4, rtol=0)  # rounding, after steps that enlarge it: 7e-5 was seen
