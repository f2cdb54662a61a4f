"""Shading that makes a flat glyph look round: a height that rises from its outline as a dome does, under one light."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

FLAT = 12  # standard deviation of the gray level within the ink, in levels of 255, below which a drawing is flat
RADIUS = 26  # pixels over which the surface rises, at 256 pixels a drawing
LIGHT = (-0.5, -0.65, 0.58)  # direction to the light: x to the right, y down, z to the viewer
AMBIENT, DIFFUSE, SPECULAR, SHININESS = 0.22, 0.75, 0.22, 24


def flat(drawing: np.ndarray) -> bool:
    """Whether a drawing, uint8 [2, h, w] gray level and alpha, is of one tone."""
    return bool(drawing[0][drawing[1] > 128].std() < FLAT)


def relief(drawing: np.ndarray, light: tuple[float, float, float] = LIGHT) -> np.ndarray:
    """The drawing, uint8 [2, h, w] gray level and alpha, shaded after Blinn and Phong as a raised surface; the alpha stays."""
    gray, alpha = drawing.astype(np.float32) / 255
    outside = np.pad(alpha <= 0.5, 1, constant_values=True)
    depth = np.asarray(distance_transform_edt(~outside))[1:-1, 1:-1]
    rise = np.minimum(depth / RADIUS, 1)
    height = gaussian_filter(RADIUS * np.sqrt(1 - (1 - rise) ** 2), 1.6)
    slope_y, slope_x = np.gradient(height)
    normal = np.stack([-slope_x, -slope_y, np.ones_like(height)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    towards_light = np.array(light) / np.linalg.norm(light)
    halfway = towards_light + (0, 0, 1)
    diffuse = np.clip(normal @ towards_light, 0, 1)
    specular = np.clip(normal @ (halfway / np.linalg.norm(halfway)), 0, 1) ** SHININESS
    shaded = np.clip(gray * (AMBIENT + DIFFUSE * diffuse) + SPECULAR * specular, 0, 1)
    return np.stack([np.round(shaded * 255).astype(np.uint8), drawing[1]])
