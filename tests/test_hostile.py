"""Files that are made to do harm: to read other files, to call home, to take all memory or to fill the disk.

Each one that could work is tried on a plain ffmpeg first: a trap that doesn't bite there would prove nothing here.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import struct
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import simplejpeg
from video_cases import PeakMemory, counting, make_video, run_ffmpeg_tool, sound_video

from pipeline.dataset import Dataset
from pipeline.encode import EncodeSettings
from pipeline.ffmpeg import find_ffmpeg
from pipeline.prepare import Summary
from pipeline.probe import Probe
from pipeline.worker import WORKER_DATA_BYTES, VideoTask, probe_task, transcode_tasks

PrepareFolder = Callable[..., Summary]

# What the hostile files are after: a hidden file beside them, of one colour that nothing else has.
SECRET = ".secret"
SECRET_SUFFIXES = (".mp4", ".ts", ".mkv", ".mov", ".png")
_IN_OPEN = 0x20


class Openings:
    """The names of the files of one folder that any process opens, told by the kernel."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._handle = libc.inotify_init1(os.O_NONBLOCK)
        if self._handle < 0 or libc.inotify_add_watch(self._handle, os.fsencode(folder), _IN_OPEN) < 0:
            pytest.skip(f"no inotify here: {os.strerror(ctypes.get_errno())}")

    def seen(self) -> set[str]:
        """Names opened since the last call."""
        names = set()
        while True:
            try:
                events = os.read(self._handle, 1 << 20)
            except BlockingIOError:
                return names
            while events:
                length = struct.unpack_from("=iIII", events)[3]
                names.add(os.fsdecode(events[16 : 16 + length].rstrip(b"\0")))
                events = events[16 + length :]

    def secrets(self) -> set[str]:
        """Secrets opened since the last call."""
        return {name for name in self.seen() if name.startswith(SECRET)}

    def close(self) -> None:
        os.close(self._handle)


class Listener:
    """A TCP port of this machine that notes whether anyone calls, and hangs up."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.calls = 0
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def _answer(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.calls += 1
            connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@dataclass(frozen=True)
class Trap:
    """A file that refers to a secret or to a port.

    Attributes:
        name: its file name, with the suffix that it passes itself off with.
        content: its bytes, given the folder and the port.
        springs: options with which a plain ffmpeg falls for it; None where ffmpeg has no reader for it.
        is_video: it is a sound video as well, and may be stored.
    """

    name: str
    content: Callable[[Path, int], bytes]
    springs: tuple[str, ...] | None = None
    is_video: bool = False


def _playlist(*lines: str) -> Callable[[Path, int], bytes]:
    head = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:10", "#EXT-X-MEDIA-SEQUENCE:0"]
    return _text(*head, *lines, "#EXT-X-ENDLIST")


def _text(*lines: str) -> Callable[[Path, int], bytes]:
    text = "".join(f"{line}\n" for line in lines)
    return lambda folder, port: text.replace("FOLDER", str(folder)).replace("PORT", str(port)).encode()


def _boxes(data: bytes, *names: bytes) -> list[int]:
    """Offsets of nested boxes of an mp4, outermost first, found by name."""
    offsets = []
    start = 0
    for name in names:
        start = data.index(name, start) - 4
        offsets.append(start)
        start += 8
    return offsets


def _movie_with_alias(_folder: Path, _port: int) -> bytes:
    """A QuickTime movie whose frames lie in another file, which it names by an alias record."""
    data = bytearray(sound_video(".mov"))
    parents = _boxes(data, b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref")
    entry = parents[-1] + 16
    old_size = struct.unpack_from(">I", data, entry)[0]
    name = f"{SECRET}.mov".encode()
    path = name + b"\0" * (len(name) % 2)
    record = b"\0" * 10 + bytes([0]) + b"\0" * 27 + b"\0" * 12 + bytes([len(name)]) + name.ljust(63, b"\0")
    record += b"\0" * 16 + struct.pack(">HH", 1, 1) + b"\0" * 16 + struct.pack(">HH", 2, len(path)) + path
    record += struct.pack(">HH", 0xFFFF, 0)
    new = struct.pack(">I4sI", 12 + len(record), b"alis", 0) + record
    data[entry : entry + old_size] = new
    for parent in parents:
        size = struct.unpack_from(">I", data, parent)[0]
        struct.pack_into(">I", data, parent, size + len(new) - old_size)
    start = data.index(b"mdat") + 4
    end = start - 8 + struct.unpack_from(">I", data, start - 8)[0]
    data[start:end] = bytes(end - start)
    return bytes(data)


def _matroska_with_next_file(_folder: Path, _port: int) -> bytes:
    """A Matroska file that names the file to be shown after it, in place of the name of its muxer."""
    data = sound_video(".mkv")
    start = data.index(b"\x4d\x80")
    size = data[start + 2] & 0x7F
    name = f"{SECRET}.mkv".encode().ljust(size - 1, b"\0")
    assert len(name) == size - 1
    return data[:start] + b"\x3e\x83\xbb" + bytes([0x80 | len(name)]) + name + data[start + 3 + size :]


def _subtitled(_folder: Path, _port: int) -> bytes:
    """Subtitles that name a picture, and an attached file, in a sound video."""
    return b""  # made by ffmpeg, see `_make_subtitled`


_PERMISSIVE = ("-protocol_whitelist", "file,http,tcp,crypto,data,concat,subfile")
_HLS = ("-allowed_extensions", "ALL", "-extension_picky", "0", *_PERMISSIVE, "-f", "hls")
_CONCAT = ("-safe", "0", *_PERMISSIVE, "-f", "concat")
_HTTP = "http://127.0.0.1:PORT/x.ts"
_SDP = ("v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=x", "c=IN IP4 127.0.0.1", "t=0 0", "m=video PORT RTP/AVP 33")
_MPD = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S">',
    '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1" width="64" height="48">',
    "<BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>",
)


def _mpd(url: str) -> Callable[[Path, int], bytes]:
    return _text(*_MPD[:2], _MPD[2].format(url))


TRAPS = [
    *(
        Trap(f"playlist_{number}{suffix}", _playlist("#EXTINF:10,", url), _HLS)
        for number, url in enumerate((f"{SECRET}.ts", f"file:FOLDER/{SECRET}.ts", _HTTP))
        for suffix in ((".mp4", ".avi", ".mkv", ".m3u8") if number == 0 else (".ts",))
    ),
    Trap("playlist_of_socket.ts", _playlist("#EXTINF:10,", "tcp://127.0.0.1:PORT")),
    Trap("playlist_of_subfile.ts", _playlist("#EXTINF:10,", f"subfile,,start,0,end,0,,:FOLDER/{SECRET}.ts")),
    Trap(
        "playlist_key.mp4", _playlist('#EXT-X-KEY:METHOD=AES-128,URI="http://127.0.0.1:PORT/k"', "#EXTINF:1,", "a.ts")
    ),
    *(
        Trap(f"script{suffix}", _text("ffconcat version 1.0", f"file {SECRET}.mp4"), _CONCAT)
        for suffix in (".mp4", ".avi", ".mkv", ".ffconcat")
    ),
    Trap("script_to_network.mp4", _text("ffconcat version 1.0", "file http://127.0.0.1:PORT/x.mp4"), _CONCAT),
    Trap("manifest.mp4", _mpd(f"{SECRET}.mp4"), (*_PERMISSIVE, "-f", "dash")),
    Trap("manifest_to_network.mkv", _mpd("http://127.0.0.1:PORT/x.mp4"), (*_PERMISSIVE, "-f", "dash")),
    Trap("session.mp4", _text(*_SDP)),
    Trap("links.mp4", _text("[InternetShortcut]", "URL=http://127.0.0.1:PORT/x.mp4")),
    Trap("redirect.wmv", _text('<ASX version="3.0"><Entry><Ref href="http://127.0.0.1:PORT/x"/></Entry></ASX>')),
    Trap("subtitles.mp4", _text("[Script Info]", "[Events]", f"Dialogue: 0,0:00:00.00,0:00:09.00,,,,,,,{SECRET}.png")),
    Trap("index.mp4", _text("# VobSub index file, v7", "id: en, index: 0", "timestamp: 00:00:01:000, filepos: 0")),
    Trap("still%d.png", lambda folder, port: (folder / f"{SECRET}.png").read_bytes()),
    Trap(f"{SECRET[1:]}%d.mp4", _text("no video")),
    Trap("aliased.mov", _movie_with_alias, ("-enable_drefs", "1")),
    Trap("aliased.mp4", _movie_with_alias, ("-enable_drefs", "1")),
    Trap("linked.mkv", _matroska_with_next_file, is_video=True),
]


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    server = Listener()
    yield server
    server.close()


@pytest.fixture(scope="module")
def trapped(tmp_path_factory: pytest.TempPathFactory, listener: Listener) -> Path:
    """A folder with all traps, and the secrets that they are after."""
    folder = tmp_path_factory.mktemp("hostile")
    for suffix in SECRET_SUFFIXES:
        one = ("-frames:v", "1", "-update", "1") if suffix == ".png" else ("-frames:v", "12", "-pix_fmt", "yuv420p")
        source = ["-f", "lavfi", "-i", "color=magenta:size=64x48:rate=25", *one]
        run_ffmpeg_tool([*source, folder / f"{SECRET}{suffix}"])
    shutil.copy(folder / f"{SECRET}.png", folder / f"{SECRET}1.png")
    for trap in TRAPS:
        (folder / trap.name).write_bytes(trap.content(folder, listener.port))
    _make_subtitled(folder / "subtitled.mkv")
    return folder


def _make_subtitled(path: Path) -> None:
    """A sound video with subtitles that name a font and a picture, and with a file attached."""
    text = path.with_name(".text.ass")
    head = "[Script Info]\nScriptType: v4.00+\n\n[Events]\nFormat: Start, End, Style, Text\n"
    text.write_text(f"{head}Dialogue: 0:00:00.00,0:00:01.00,Default,{{\\fn../{SECRET}.png}}x\n")
    attached = ["-attach", text, "-metadata:s:t", "mimetype=application/x-truetype-font"]
    run_ffmpeg_tool(["-f", "lavfi", "-t", "0.48", "-i", counting(), "-i", text, *attached, "-pix_fmt", "yuv420p", path])


@pytest.mark.parametrize("trap", [trap for trap in TRAPS if trap.springs is not None], ids=lambda trap: trap.name)
def test_the_traps_bite_a_plain_ffmpeg(trap: Trap, trapped: Path, listener: Listener) -> None:
    assert trap.springs is not None
    openings = Openings(trapped)
    calls = listener.calls
    command = [find_ffmpeg().path, "-v", "quiet", "-nostdin", *trap.springs, "-i", trap.name, "-f", "null", "-"]
    subprocess.run(command, cwd=trapped, timeout=20, check=False)
    sprung = openings.secrets() or listener.calls > calls
    openings.close()
    assert sprung, f"{trap.name} harms nobody: it proves nothing about vclimb"


@pytest.mark.parametrize("codec", ["jpeg", "h264"])
def test_nothing_else_is_opened(
    codec: str, trapped: Path, listener: Listener, tmp_path: Path, prepare_folder: PrepareFolder
) -> None:
    openings = Openings(trapped)
    calls = listener.calls
    prepare_folder(trapped, tmp_path / "out", codec=codec, timeout_seconds=20)
    seen = openings.seen()
    openings.close()
    assert {trap.name for trap in TRAPS} <= seen, "the watch saw nothing: it proves nothing"
    assert not {name for name in seen if name.startswith(SECRET)}
    assert listener.calls == calls
    dataset = Dataset.open(tmp_path / "out")
    expected = {trap.name for trap in TRAPS if trap.is_video} | {"subtitled.mkv"}
    assert {video.source for video in dataset.videos} == expected
    for video in dataset.videos:
        for number in range(video.n_frames):
            red, green, blue = dataset.decode_frame(video, number).mean(axis=(0, 1))
            assert not (red > 200 and green < 50 and blue > 200), f"{video.source} shows the secret"


# Files that claim to be large


def _png(width: int, height: int, rows: bytes, colour_profile: bytes = b"") -> bytes:
    """A PNG with 8-bit RGB pixels, whose compressed rows may be those of another size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    profile = chunk(b"iCCP", b"x\0\0" + colour_profile) if colour_profile else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + profile + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _zeros(n_rows: int, row_bytes: int) -> bytes:
    """Compressed zeros, a thousandth of their size."""
    compressor = zlib.compressobj(1)
    row = bytes(row_bytes)
    return b"".join(compressor.compress(row) for _ in range(n_rows)) + compressor.flush()


def mux(path: Path, codec: str, packets: list[tuple[int, bytes]]) -> None:
    """Put packets of (milliseconds, bytes) into a container that says that they are 64x48."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "rgb24" if codec == "png" else "yuvj420p"
        stream.time_base = Fraction(1, 1000)
        for milliseconds, data in packets:
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = milliseconds
            packet.is_keyframe = True
            container.mux(packet)


def _exp_golomb(*values: int) -> str:
    return "".join(f"{value + 1:b}".zfill(2 * (value + 1).bit_length() - 1) for value in values)


def _h264_of_size(macroblocks: int) -> bytes:
    """A raw H.264 stream whose frames are small, and whose parameters say that they are macroblocks * 16 square."""
    small = sound_video(".h264", 2, "-profile:v", "baseline", "-bf", "0", "-f", "h264")
    units = small.split(b"\0\0\0\1")
    # Profile 66, level 6.2, id 0; frame numbers and picture order of 4 bits; 1 reference; no cropping, no VUI.
    bits = f"{66:08b}{0:08b}{62:08b}" + _exp_golomb(0, 0, 2, 1) + "0" + _exp_golomb(*[macroblocks - 1] * 2) + "11001"
    bits = bits.ljust(-(-len(bits) // 8) * 8, "0")
    parameters = b"\x67" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    return b"\0\0\0\1".join(parameters if unit[:1] == b"\x67" else unit for unit in units)


def _giant_files(folder: Path) -> None:
    """Small files whose headers claim frames beyond the limit, by a little or by far."""
    rows = _zeros(48, 1 + 64 * 3)
    for side in (60_000, 16_000):
        mux(folder / f"png_{side}.mov", "png", [(0, _png(side, side, rows)), (40, _png(side, side, rows))])
        jpeg = bytearray(simplejpeg.encode_jpeg(np.zeros((48, 64, 3), np.uint8)))
        struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, side, side)
        mux(folder / f"jpeg_{side}.mkv", "mjpeg", [(0, bytes(jpeg)), (40, bytes(jpeg))])
        mux(folder / f"header_{side}.avi", "mjpeg", [(0, bytes(jpeg)), (40, bytes(jpeg))])
        said = (folder / f"header_{side}.avi").read_bytes()
        lie = said.replace(struct.pack("<II", 64, 48), struct.pack("<II", side, side))
        (folder / f"header_{side}.avi").write_bytes(lie)
    gif = bytearray(sound_video(".gif"))
    struct.pack_into("<HH", gif, 6, 65535, 65535)
    (folder / "gif_65535.gif").write_bytes(gif)
    (folder / "h264_16000.mp4").write_bytes(_h264_of_size(1000))


def test_a_frame_over_the_limit_takes_no_memory(tmp_path: Path, prepare_folder: PrepareFolder) -> None:
    (tmp_path / "in").mkdir()
    _giant_files(tmp_path / "in")
    giants = {path.name for path in (tmp_path / "in").iterdir()}
    (tmp_path / "in" / "sound.mp4").write_bytes(sound_video())
    with PeakMemory() as peak:
        summary = prepare_folder(tmp_path / "in", tmp_path / "out")
    assert [video.source for video in Dataset.open(tmp_path / "out").videos] == ["sound.mp4"]
    assert {row["path"] for row in summary.failed_now} == giants
    assert all("over" in row["reason"] and "67 megapixels" in row["reason"] for row in summary.failed_now)
    assert 20 * 10**6 < peak.bytes < 400 * 10**6


def test_a_small_file_of_much_content_stays_within_the_memory(tmp_path: Path, prepare_folder: PrepareFolder) -> None:
    """64 megapixels are allowed, and half a gigabyte of colour profile may fail, but neither takes the machine."""
    (tmp_path / "in").mkdir()
    pixels = _png(8000, 8000, _zeros(8000, 1 + 8000 * 3))
    profile = _png(64, 48, _zeros(48, 1 + 64 * 3), _zeros(2**14, 2**15))
    assert max(len(pixels), len(profile)) < 3 * 10**6
    mux(tmp_path / "in" / "pixels.mov", "png", [(0, pixels)])
    mux(tmp_path / "in" / "profile.mov", "png", [(0, profile)])
    with PeakMemory() as peak:
        prepare_folder(tmp_path / "in", tmp_path / "out")
    assert "pixels.mov" in {video.source for video in Dataset.open(tmp_path / "out").videos}
    assert 200 * 10**6 < peak.bytes < WORKER_DATA_BYTES


# Files that claim to be long


@pytest.fixture(scope="module")
def jpeg_frame() -> bytes:
    return simplejpeg.encode_jpeg(np.full((48, 64, 3), 128, np.uint8))


@pytest.mark.parametrize(
    ("gap_seconds", "fps", "outcome"),
    [
        (100_000, None, "its 4 frames span 100,000 s: its timestamps are damaged"),
        (100_000, 30, "its 4 frames span 100,000 s: its timestamps are damaged"),
        (900, 30, "its 4 frame(s) span 900 s; at 30 frames a second each would be stored 6,751 times; allowed: 1000"),
        (900, None, 4),
        (20, 30, 604),
    ],
)
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_gap_in_time_cannot_fill_the_disk(
    gap_seconds: int, fps: int | None, outcome: str | int, suffix: str, jpeg_frame: bytes, tmp_path: Path
) -> None:
    times = [0, 40, 80, 80 + 1000 * gap_seconds]
    mux(tmp_path / f"gap{suffix}", "mjpeg", [(milliseconds, jpeg_frame) for milliseconds in times])
    row = _transcode(tmp_path / f"gap{suffix}", EncodeSettings(fps=None if fps is None else Fraction(fps)))
    if isinstance(outcome, int):
        assert row["stored"]["n_frames"] == outcome
    else:
        assert row["error"]["reason"].startswith(outcome)


def test_a_video_that_gives_more_frames_than_it_has_is_stopped(tmp_path: Path) -> None:
    make_video(tmp_path / "long.mp4", frames=400)
    row = _transcode(tmp_path / "long.mp4", EncodeSettings(), n_packets=1, duration_seconds=0.04)
    assert row["error"]["reason"].startswith("gave over 102 frames where 1 were expected of its 1 packets")


def _transcode(source: Path, settings: EncodeSettings, **lies: Any) -> dict[str, Any]:
    """What the worker makes of one file, whose probe may be made to say something else."""
    found = probe_task(source)
    if "error" in found:
        return found
    part = source.parent / "work" / "000000" / "000000"
    part.parent.mkdir(parents=True)
    probe = replace(Probe.from_json(found["probe"]), **lies)
    transcode_tasks([VideoTask(source, probe, settings, part, source.parent, find_ffmpeg().path, 20.0)])
    row: dict[str, Any] = json.loads(part.with_suffix(".json").read_text())
    return row


# Names that a shell would run


def test_a_name_is_never_run(tmp_path: Path, prepare_folder: PrepareFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [
        "$(touch pwned).mp4",
        "`touch pwned`.mp4",
        "; touch pwned ;.mp4",
        "| touch pwned.mp4",
        "&& touch pwned.avi",
    ]
    (tmp_path / "in").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in names:
        (tmp_path / "in" / name).write_bytes(sound_video())
    assert prepare_folder(tmp_path / "in", tmp_path / "out").prepared == len(names)
    assert not list(tmp_path.rglob("pwned*"))
