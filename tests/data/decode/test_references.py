"""Pictures that no other one refers to, by the types that FFmpeg gives them after decoding."""

import io

import av
import pytest

from imgcls.data.decode.packets import read_packets
from imgcls.data.decode.references import is_unused
from tests.data.videos import numbered_video


@pytest.mark.parametrize("container", ["mp4", "avi", "matroska"])
@pytest.mark.parametrize("pyramid", ["none", "normal"])
def test_only_b_frames_of_h264_are_unused(container, pyramid):
    options = {"x264-params": f"scenecut=0:bframes=3:b-adapt=0:b-pyramid={pyramid}"}
    data = numbered_video(49, container, gop=50, options=options)
    with av.open(io.BytesIO(data)) as file:
        stream = file.streams.video[0]
        unused = []
        for packet in read_packets(stream, "clip"):
            unused.append(is_unused(packet, stream.codec_context))
    with av.open(io.BytesIO(data)) as file:
        kinds = [av.video.frame.PictureType(frame.pict_type).name for frame in file.decode(video=0)]
    # Of three B-frames in a row, the middle one of a pyramid is a reference.
    assert kinds.count("B") == 36
    assert sum(unused) == (36 if pyramid == "none" else 24)
    assert not unused[0]


def test_other_codecs_are_not_looked_into():
    for container, codec in (("mp4", "mpeg4"), ("webm", "libvpx-vp9")):
        data = numbered_video(12, container, codec, gop=12)
        with av.open(io.BytesIO(data)) as file:
            stream = file.streams.video[0]
            packets = read_packets(stream, "clip")
            assert not any(is_unused(packet, stream.codec_context) for packet in packets)
