"""What electron tomography does to a density: noise and a missing wedge.

Both keep the scale of the values, so they come before or after the transform that maps values to
0 to 255. The result is float32, unless the volume is uint8.
"""

from typing import Any

import numpy as np

from imgcls.data.transforms import spec
from imgcls.data.transforms.resampling import by_channel, cast
from imgcls.data.transforms.transform import Transform, register_volume_transform


@register_volume_transform("snr_noise3d")
def snr_noise3d(snr: float | tuple[float, float] = 0.1) -> Transform:
    """Adds Gaussian noise by its ratio of signal to noise, as it is stated in cryo-EM.

    Args:
      snr: variance of the volume by variance of the noise, or a range in whose logarithm it is
        drawn uniformly; 0.1 hides a molecule from the eye.
    """
    low, high = (snr, snr) if isinstance(snr, int | float) else snr
    spec.check_range("snr", (low, high), 1e-6, 1e6)

    def transform(volume, rng):
        ratio = np.exp(rng.uniform(np.log(low), np.log(high)))
        deviation = volume.std(dtype=np.float64) / np.sqrt(ratio)
        noise = rng.standard_normal(volume.shape, np.float32) * np.float32(deviation)
        return cast(volume + noise, volume.dtype)

    return transform


@register_volume_transform("missing_wedge")
def missing_wedge(tilt: float = 60.0) -> Transform:
    """Removes the frequencies that a tilt series does not record.

    The beam is along axis 0 and the specimen is tilted about axis 1, as in tomograms with the axes
    z, y, x. Frequencies within 90 - tilt degrees of the plane of beam and tilt axis are missing;
    the mean is kept. Voxels are cubes.

    Args:
      tilt: largest angle of the series to both sides, in degrees; at 90 nothing is missing.
    """
    spec.check_number("tilt", tilt, 1, 90)

    def transform(volume, rng):
        from scipy import fft

        depth, _, width = volume.shape[:3]
        along = np.abs(np.fft.fftfreq(depth))[:, None, None]
        across = np.abs(np.fft.rfftfreq(width))
        recorded = np.rad2deg(np.arctan2(along, across)) <= tilt + 1e-6

        def remove(channel):
            # The stubs of scipy have other types.
            spectrum: Any = fft.rfftn(channel)
            kept: Any = fft.irfftn(spectrum * recorded.astype(np.float32), channel.shape)
            return kept

        return by_channel(volume, remove)

    return transform
