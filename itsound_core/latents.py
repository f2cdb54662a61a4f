"""The latent space that the models of a pair share: Stable Diffusion 1.x's."""

LATENT_CHANNELS = 4
PIXELS_PER_LATENT = 8
"""Rows and columns of a picture to one of its latents."""
LATENT_SCALE = 0.18215
"""What a diffusion model sees is the VAE's own latents times this: about unit variance."""
