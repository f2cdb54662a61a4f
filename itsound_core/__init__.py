"""Images that sound: the method in plain torch (Chen, Geng, Owens, arXiv 2405.12221). Knows nothing of ComfyUI.

Anything that predicts noise can be an expert, and anything that makes a picture of latents can stand for the VAE:

>>> from functools import partial
>>> import torch
>>> from itsound_core.composition import Expert, compose
>>> from itsound_core.griffin_lim import griffin_lim
>>> from itsound_core.sampling import ddim
>>> from itsound_core.spectrogram import picture_to_mel, waveform_to_picture
>>> image = Expert(lambda latents, timestep: 0.1 * latents, start=900)  # t_image 0.9: the first tenth is audio alone
>>> audio = Expert(lambda latents, timestep: 0.2 * latents)
>>> noise = torch.randn(1, 4, 32, 16, generator=torch.Generator().manual_seed(0))
>>> latents = ddim(partial(compose, [image, audio]), noise, steps=10)
>>> picture = latents.mean(1).sigmoid().repeat_interleave(8, 1).repeat_interleave(8, 2)  # or a VAE's, the mean of its channels
>>> waveform = griffin_lim(picture_to_mel(picture), iterations=4)  # or vocoder.load_vocoder(folder)(picture_to_log_mel(picture))
>>> picture.shape, waveform.shape, waveform_to_picture(waveform).shape
(torch.Size([1, 256, 128]), torch.Size([1, 20480]), torch.Size([1, 256, 128]))
"""
