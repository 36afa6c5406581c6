"""TensorBoard event files.

The events and records are those of tensorboardX, but not its writer: the writer's thread ends when
the disk is full, and training would wait for it forever.
"""

import os
import socket
import struct
import time

import numpy as np
from etils import epath
from tensorboardX import summary

# The names of a generated protobuf module appear only at run time.
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.record_writer import masked_crc32c

from imgcls.core.storage import GrowingFile


class Events:
    """The events of a run after a step; earlier events of these steps are superseded.

    Args:
      folder: directory of the event file.
      first: step from which the run starts or continues.

    Attributes:
      file: event file; added events wait in it until it is flushed.
    """

    def __init__(self, folder: epath.Path, first: int):
        # TensorBoard reads event files in the order of their names.
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        self.file = GrowingFile(folder / name)
        self._add(file_version="brain.Event:2")
        self._add(step=first + 1, session_log=SessionLog(status=SessionLog.START))

    def scalar(self, step: int, key: str, value: float) -> None:
        """Adds a number."""
        self._add(step=step, summary=summary.scalar(key, value))

    def picture(self, step: int, key: str, picture: np.ndarray) -> None:
        """Adds an image, uint8 `[H, W, 3]`."""
        self._add(step=step, summary=summary.image(key, picture, dataformats="HWC"))

    def _add(self, **what) -> None:
        data = Event(wall_time=time.time(), **what).SerializeToString()
        length = struct.pack("<Q", len(data))
        sums = (struct.pack("<I", masked_crc32c(part)) for part in (length, data))
        self.file.waiting += length + next(sums) + data + next(sums)
