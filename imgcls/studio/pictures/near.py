"""Near duplicates: images whose perceptual hashes and small pictures are alike.

The criteria are those of the audit, see `imgcls.audit.duplicates`, which takes 100 MB to import.
"""

import cv2
import numpy as np
import sqlalchemy as sa
from PIL import Image
from sqlalchemy import Connection

from imgcls.audit.hashes import hamming, phash
from imgcls.studio.store.connect import among
from imgcls.studio.store.schema import image, signature

SIDE = 16
MAX_BITS = 8
MIN_CORRELATION = 0.95
# Pictures with less contrast all look alike, and are not compared.
_MIN_CONTRAST = 4.0
# Candidates whose small pictures are compared.
_MOST = 50


def fingerprint(pixels: np.ndarray) -> tuple[int | None, bytes]:
    """The perceptual hash and the small picture of an image.

    Args:
      pixels: uint8 `[H, W, 3]`.

    Returns:
      64 bits, or None for an image without contrast; uint8 `[16, 16, 3]` as bytes.
    """
    thumb = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    gray = Image.fromarray(pixels).convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    values = np.asarray(gray)
    bits = int(phash(values[None])[0]) if values.std() >= _MIN_CONTRAST else None
    return bits, thumb.tobytes()


def correlation(first: bytes, second: bytes) -> float:
    """Correlation of two small pictures."""
    a, b = (np.frombuffer(thumb, np.uint8).astype(np.float32) for thumb in (first, second))
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-6))


class NearIndex:
    """The perceptual hashes of a data set, in memory: 16 bytes for each image.

    A look-up compares with all of them, which takes 0.1 ms for 50,000.
    """

    def __init__(self, dataset_id: int):
        self._dataset_id = dataset_id
        self._hashes = np.empty(0, np.uint64)
        self._ids = np.empty(0, np.int64)
        self._last = 0

    def refresh(self, connection: Connection) -> None:
        """Adds the images that came since the last call."""
        query = (
            sa.select(image.c.id, image.c.hash)
            .where(image.c.dataset_id == self._dataset_id, image.c.id > self._last)
            .order_by(image.c.id)
        )
        rows = connection.execute(query).all()
        if rows:
            self._last = rows[-1][0]
        rows = [(i, int(h, 16)) for i, h in rows if h is not None]
        if rows:
            ids, hashes = zip(*rows, strict=True)
            self._ids = np.concatenate([self._ids, np.array(ids, np.int64)])
            self._hashes = np.concatenate([self._hashes, np.array(hashes, np.uint64)])

    def find(self, connection: Connection, bits: int, thumb: bytes) -> int | None:
        """The stored image that is most like another, if they are near duplicates."""
        distances = hamming(self._hashes, np.array(bits, np.uint64))
        rows = np.flatnonzero(distances <= MAX_BITS)
        if not rows.size:
            return None
        rows = rows[np.argsort(distances[rows], kind="stable")][:_MOST]
        ids = [int(i) for i in self._ids[rows]]
        query = sa.select(signature).where(among(signature.c.image_id, ids))
        found = [(correlation(t, thumb), -i) for i, t in connection.execute(query)]
        best, number = max(found, default=(0.0, 0))
        return -number if best >= MIN_CORRELATION else None

    def alike(self, first: tuple[int, bytes], second: tuple[int, bytes]) -> bool:
        """Whether two images, as (hash, small picture), are near duplicates."""
        if (first[0] ^ second[0]).bit_count() > MAX_BITS:
            return False
        return correlation(first[1], second[1]) >= MIN_CORRELATION
