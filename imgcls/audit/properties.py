"""Simple properties of images: numbers that do not depend on what an image shows."""

import cv2
import numpy as np

# Luminance table of ITU-T T.81, annex K.1, which encoders scale by their quality (1 to 100).
_STANDARD = np.array(
    [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55]
    + [14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62]
    + [18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92]
    + [49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99]
)
_QUALITIES = np.arange(1, 101)
_SCALES = np.where(_QUALITIES < 50, 5000 // _QUALITIES, 200 - 2 * _QUALITIES)
# Sum of the table at each quality: strictly decreasing, and independent of the entries' order.
_SUMS = np.clip((_STANDARD * _SCALES[:, None] + 50) // 100, 1, 255).sum(1)

# Mean color vectors shorter than this, on a scale of 255, have no hue.
_GRAY = 1.0


def jpeg_quality(table: list[int]) -> float:
    """Returns the quality (1 to 100) whose standard luminance table is nearest to `table`."""
    return float(_QUALITIES[np.abs(_SUMS - sum(table)).argmin()])


def sharpness(gray: np.ndarray) -> float:
    """Returns log(1 + variance of the Laplacian) of uint8 `[H, W]` (Pech-Pacheco et al. 2000)."""
    return float(np.log1p(cv2.Laplacian(gray, cv2.CV_32F).var()))


def colors(thumbs: np.ndarray) -> dict[str, np.ndarray]:
    """Measures brightness and color of thumbnails, uint8 `[N, H, W, 3]`.

    Returns:
      brightness, contrast: mean and standard deviation of luma, 0 to 255, `[N]`.
      saturation: mean saturation (HSV), 0 to 1, `[N]`.
      hue: direction of the mean color vector in degrees, `[N]`. Gray pixels hardly count, and reds
        on both sides of 0 degrees average to red. NaN for gray images.
      border: mean color of the outermost pixels, 0 to 255, `[N, 3]`.
    """
    count = len(thumbs)
    luma = _luma(thumbs)
    x = thumbs.reshape(count, -1, 3)
    high, low = x.max(-1).astype(np.float32), x.min(-1).astype(np.float32)
    mean = x.mean(1, dtype=np.float64)
    rim = np.ones(thumbs.shape[1:3], bool)
    rim[1:-1, 1:-1] = False
    # Coordinates in the chroma plane, in which hue is the angle.
    alpha = mean[:, 0] - (mean[:, 1] + mean[:, 2]) / 2
    beta = np.sqrt(3) / 2 * (mean[:, 1] - mean[:, 2])
    angle = np.degrees(np.arctan2(beta, alpha)) % 360
    return {
        "brightness": luma.mean((1, 2)),
        "contrast": luma.std((1, 2)),
        "saturation": ((high - low) / np.maximum(high, 1)).mean(1),
        "hue": np.where(np.hypot(alpha, beta) < _GRAY, np.nan, angle),
        "border": thumbs[:, rim].mean(1, dtype=np.float64),
    }


def _luma(pixels: np.ndarray) -> np.ndarray:
    """Converts uint8 `[..., 3]` to luma, float32 `[...]` (ITU-R BT.601)."""
    return pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
