"""Hostile files, made to read other files, to open connections, or to run a command.

Each trap that could work is tried on a plain ffmpeg first: a trap without effect there would prove nothing here.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from video_cases import counting, run_ffmpeg_tool, sound_video

from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.transcode.ffmpeg import find_ffmpeg
from vclimb.pipeline.transcode.prepare import PrepareSummary

PrepareFolder = Callable[..., PrepareSummary]

# The secret that hostile files try to read: a hidden file beside them, of a colour that no other file has.
SECRET = ".secret"
SECRET_SUFFIXES = (".mp4", ".ts", ".mkv", ".mov", ".png")
_IN_OPEN = 0x20


class Openings:
    """Names of the files of a folder that any process opens, as the kernel reports them."""

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
    """A TCP port of this machine that counts connections and closes them."""

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
    """A Matroska file that names the next file to show, in place of its muxer's name."""
    data = sound_video(".mkv")
    start = data.index(b"\x4d\x80")
    size = data[start + 2] & 0x7F
    name = f"{SECRET}.mkv".encode().ljust(size - 1, b"\0")
    assert len(name) == size - 1
    return data[:start] + b"\x3e\x83\xbb" + bytes([0x80 | len(name)]) + name + data[start + 3 + size :]


def _subtitled(_folder: Path, _port: int) -> bytes:
    """An intact video with an attached file and subtitles that name a picture."""
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
    """A folder with all traps, and the secrets that they try to read."""
    folder = tmp_path_factory.mktemp("hostile")
    for suffix in SECRET_SUFFIXES:
        length = ("-frames:v", "1", "-update", "1") if suffix == ".png" else ("-frames:v", "12", "-pix_fmt", "yuv420p")
        source = ["-f", "lavfi", "-i", "color=magenta:size=64x48:rate=25", *length]
        run_ffmpeg_tool([*source, folder / f"{SECRET}{suffix}"])
    shutil.copy(folder / f"{SECRET}.png", folder / f"{SECRET}1.png")
    for trap in TRAPS:
        (folder / trap.name).write_bytes(trap.content(folder, listener.port))
    _make_subtitled(folder / "subtitled.mkv")
    return folder


def _make_subtitled(path: Path) -> None:
    """An intact video with an attached file and subtitles that name a font and a picture."""
    text = path.with_name(".text.ass")
    head = "[Script Info]\nScriptType: v4.00+\n\n[Events]\nFormat: Start, End, Style, Text\n"
    text.write_text(f"{head}Dialogue: 0:00:00.00,0:00:01.00,Default,{{\\fn../{SECRET}.png}}x\n")
    attached = ["-attach", text, "-metadata:s:t", "mimetype=application/x-truetype-font"]
    run_ffmpeg_tool(["-f", "lavfi", "-t", "0.48", "-i", counting(), "-i", text, *attached, "-pix_fmt", "yuv420p", path])


@pytest.mark.parametrize("trap", [trap for trap in TRAPS if trap.springs is not None], ids=lambda trap: trap.name)
def test_the_traps_work_on_a_plain_ffmpeg(trap: Trap, trapped: Path, listener: Listener) -> None:
    assert trap.springs is not None
    openings = Openings(trapped)
    calls = listener.calls
    command = [find_ffmpeg().path, "-v", "quiet", "-nostdin", *trap.springs, "-i", trap.name, "-f", "null", "-"]
    subprocess.run(command, cwd=trapped, timeout=120, check=False)
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
    dataset = StoredDataset.open(tmp_path / "out")
    expected = {trap.name for trap in TRAPS if trap.is_video} | {"subtitled.mkv"}
    assert {video.source for video in dataset.videos} == expected
    for video in dataset.videos:
        for number in range(video.n_frames):
            red, green, blue = dataset.decode_frame(video, number).mean(axis=(0, 1))
            assert not (red > 200 and green < 50 and blue > 200), f"{video.source} shows the secret"


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
