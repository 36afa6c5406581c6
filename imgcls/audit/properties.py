"""Simple properties of pictures: numbers that say nothing about what a picture shows."""

import cv2
import numpy as np

# ITU-T T.81 annex K.1, the luminance table that encoders scale by their quality (1 to 100).
_STANDARD = np.array(
    [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55]
    + [14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62]
    + [18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92]
    + [49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99]
)
_QUALITIES = np.arange(1, 101)
_SCALES = np.where(_QUALITIES < 50, 5000 // _QUALITIES, 200 - 2 * _QUALITIES)
# The sum of the table at each quality: falls strictly, and needs no agreed order of its entries.
_SUMS = np.clip((_STANDARD * _SCALES[:, None] + 50) // 100, 1, 255).sum(1)

# Mean colour vectors shorter than this, of 255, have no direction.
_GREY = 1.0


def jpeg_quality(table: list[int]) -> float:
    """The quality (1 to 100) whose standard luminance table is nearest to this one, `[64]`."""
    return float(_QUALITIES[np.abs(_SUMS - sum(table)).argmin()])


def sharpness(grey: np.ndarray) -> float:
    """log(1 + variance of the Laplacian), of uint8 `[H, W]`; Pech-Pacheco et al. 2000."""
    return float(np.log1p(cv2.Laplacian(grey, cv2.CV_32F).var()))


def colours(thumbs: np.ndarray) -> dict[str, np.ndarray]:
    """Light and colour of small pictures, uint8 `[N, H, W, 3]`.

    Returns:
      brightness, contrast: mean and standard deviation of luma, 0 to 255, `[N]`.
      saturation: mean of HSV's, 0 to 1, `[N]`.
      hue: degrees `[N]`, the direction of the mean colour vector, so that grey pixels count little
        and red does not tear at 0; NaN where all is grey.
      border: mean colour of the rim, `[N, 3]`.
    """
    count = len(thumbs)
    luma = _luma(thumbs)
    x = thumbs.reshape(count, -1, 3)
    high, low = x.max(-1).astype(np.float32), x.min(-1).astype(np.float32)
    mean = x.mean(1, dtype=np.float64)
    rim = np.ones(thumbs.shape[1:3], bool)
    rim[1:-1, 1:-1] = False
    # The plane of chroma: hue is the angle in it (Preucil's hexagon without its corners).
    alpha = mean[:, 0] - (mean[:, 1] + mean[:, 2]) / 2
    beta = np.sqrt(3) / 2 * (mean[:, 1] - mean[:, 2])
    angle = np.degrees(np.arctan2(beta, alpha)) % 360
    return {
        "brightness": luma.mean((1, 2)),
        "contrast": luma.std((1, 2)),
        "saturation": ((high - low) / np.maximum(high, 1)).mean(1),
        "hue": np.where(np.hypot(alpha, beta) < _GREY, np.nan, angle),
        "border": thumbs[:, rim].mean(1, dtype=np.float64),
    }


def _luma(pixels: np.ndarray) -> np.ndarray:
    """uint8 `[..., 3]` -> float32 `[...]`, ITU-R BT.601."""
    return pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
