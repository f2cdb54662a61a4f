"""The fixed linear code that both UNets diffuse in: 8 x 8 gray patches -> 4 latent channels.

The embedded VAE is trained to agree with it, so VAE and UNets can be trained at the same time. Its channels are the patch mean and the
three leading principal components of what the mean leaves, measured on pictures and spectrograms together.

    python -m lab.train.latent_code --data data     # reads data/pictures and data/sounds, writes data/latent_code.npz
    python -m lab.train.latent_code --data data --vae models/embedded-image/vae     # the code of a trained VAE, out of its weights

What is trained further beside a VAE that exists needs the second: a code fitted anew is another one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

PATCH = 8
CHANNELS = 4

# ComfyUI previews an SD 1.x latent by these factors (comfy/latent_formats.py, class SD15); rows are latent channels, columns are R, G, B.
SD15_LATENT_TO_RGB = np.array([[0.3512, 0.2297, 0.3227], [0.3250, 0.4974, 0.2350], [-0.2829, 0.1762, 0.2721], [-0.2120, -0.2616, -0.7177]])


def preview_rotation() -> np.ndarray:
    """Orthogonal (4, 4): column 0 previews as gray in ComfyUI, column 1 does not show in the preview at all."""
    gray = np.linalg.pinv(SD15_LATENT_TO_RGB.T) @ np.ones(3)
    invisible = np.linalg.svd(SD15_LATENT_TO_RGB.T)[2][-1]
    basis, triangle = np.linalg.qr(np.column_stack([gray, invisible, np.eye(CHANNELS)[:, :2]]))
    return basis * np.sign(np.diag(triangle))


class LatentCode:
    """Linear map between pictures and scaled latents (the ones the UNets see: VAE latent x 0.18215).

    Args:
        analysis: (4, 64), rows applied to a centred patch.
        synthesis: (64, 4), `analysis @ synthesis` is the identity.
        center: brightness in 0..1 that becomes the zero latent.
    """

    def __init__(self, analysis: np.ndarray, synthesis: np.ndarray, center: float):
        self.center = float(center)
        self.analysis = torch.tensor(np.asarray(analysis), dtype=torch.float32).reshape(CHANNELS, 1, PATCH, PATCH)
        self.synthesis = torch.tensor(np.asarray(synthesis).T.copy(), dtype=torch.float32).reshape(CHANNELS, 1, PATCH, PATCH)

    @classmethod
    def load(cls, path: str | Path) -> LatentCode:
        with np.load(path) as file:
            return cls(file["analysis"], file["synthesis"], file["center"])

    @classmethod
    def of_vae(cls, folder: str | Path) -> LatentCode:
        """The code that `train_vae.write_code` wrote into the encoder of the VAE in a diffusers folder.

        The third strided convolution holds half of it, the pixels of a patch numbered as two nested 2 x 2 blocks.
        """
        weights = load_file(Path(folder) / "diffusion_pytorch_model.safetensors")
        third, bias = (weights[f"encoder.down_blocks.2.downsamplers.0.conv.{name}"].double() for name in ("weight", "bias"))
        # From (inner y, inner x, outer y, outer x, y, x), inner counting pixels and outer pairs, to rows and columns.
        nested = third[:CHANNELS, :16, :2, :2].reshape(CHANNELS, 2, 2, 2, 2, 2, 2).permute(0, 5, 3, 1, 6, 4, 2)
        analysis = 2 * nested.reshape(CHANNELS, PATCH * PATCH)
        center = 0.5 - (bias[:CHANNELS] / analysis.sum(dim=1)).mean()
        return cls(analysis.numpy(), torch.linalg.pinv(analysis).numpy(), float(center))

    def save(self, path: str | Path) -> None:
        np.savez(
            path,
            analysis=self.analysis.reshape(CHANNELS, -1).numpy(),
            synthesis=self.synthesis.reshape(CHANNELS, -1).numpy().T,
            center=self.center,
        )

    def encode(self, picture: np.ndarray | Tensor) -> Tensor:
        """Picture (B, H, W), uint8 or float 0..1 -> scaled latents (B, 4, H/8, W/8)."""
        values = torch.as_tensor(picture)
        pixels = values.float() / 255.0 if values.dtype == torch.uint8 else values.float()
        return F.conv2d(pixels.unsqueeze(1) - self.center, self.analysis, stride=PATCH)

    def decode(self, latent: Tensor) -> Tensor:
        """Scaled latents (B, 4, h, w) -> picture (B, 8h, 8w), float, clamped to 0..1."""
        pixels = F.conv_transpose2d(latent.float(), self.synthesis, stride=PATCH) + self.center
        return pixels.squeeze(1).clamp(0.0, 1.0)


def patches(pictures: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` random pictures of (N, H, W) uint8, cut into (n, 64) patches in 0..1."""
    chosen = pictures[np.sort(rng.choice(len(pictures), min(count, len(pictures)), replace=False))]
    height, width = chosen.shape[1:]
    grid = chosen.reshape(-1, height // PATCH, PATCH, width // PATCH, PATCH)
    return grid.transpose(0, 1, 3, 2, 4).reshape(-1, PATCH * PATCH).astype(np.float32) / 255.0


def fit(samples: np.ndarray) -> tuple[LatentCode, np.ndarray]:
    """Code of (n, 64) patches in 0..1, and the share of the variance each of its four components holds."""
    center = samples.mean()
    centred = samples - center
    mean_axis = np.full(PATCH * PATCH, 1.0 / PATCH)
    detail = centred - np.outer(centred @ mean_axis, mean_axis)
    _, axes = np.linalg.eigh(detail.T @ detail / len(detail))
    axes = np.vstack([mean_axis, axes[:, ::-1].T[: CHANNELS - 1]])
    deviation = (centred @ axes.T).std(axis=0)
    # Unit deviation for brightness; the finer components are half-way (in the logarithm) between their own share and white, so that
    # detail is neither lost in the noise nor the main part of the loss.
    gain = 1.0 / np.sqrt(deviation * deviation[0])
    rotation = preview_rotation()
    code = LatentCode(rotation @ (gain[:, None] * axes), (axes.T / gain) @ rotation.T, center)
    return code, deviation**2 / (centred**2).sum(axis=1).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--count", type=int, default=400, help="pictures and spectrograms used, of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vae", type=Path, help="take the code of the VAE in this folder instead of fitting one")
    args = parser.parse_args()

    if args.vae:
        code = LatentCode.of_vae(args.vae)
        code.save(args.data / "latent_code.npz")
        print(f"center {code.center:.4f}, out of {args.vae}")
        return
    rng = np.random.default_rng(args.seed)
    sets = {name: np.load(args.data / name / "train.npy", mmap_mode="r") for name in ("pictures", "sounds")}
    code, share = fit(np.concatenate([patches(pictures, args.count, rng) for pictures in sets.values()]))
    code.save(args.data / "latent_code.npz")
    print(f"center {code.center:.3f}, share of variance {np.round(share, 4)}, sum {share.sum():.4f}")
    for name, pictures in sets.items():
        latent = code.encode(np.asarray(pictures[: args.count]))
        error = (code.decode(latent) - torch.as_tensor(np.asarray(pictures[: args.count])) / 255.0).abs().mean() * 255.0
        mean, deviation = latent.mean(dim=(0, 2, 3)), latent.std(dim=(0, 2, 3))
        print(f"{name}: latent mean {mean.numpy().round(2)}, deviation {deviation.numpy().round(2)}, error {error:.2f} levels")


if __name__ == "__main__":
    main()
