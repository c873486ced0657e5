"""Opening: only local, self-contained files; nothing that a hostile file names is opened, and no name is taken for more."""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import struct
import sys
import threading
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.decode.media import open_media, to_ns
from extract.errors import ClipError, Forbidden, NotFound, NotMedia
from extract.grid import NS
from extract.testing import HOSTILE, NOT_MEDIA, hostile_playlist, make_video, not_media


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return make_video(tmp_path_factory.mktemp("media") / "clip.mp4", width=64, height=48, duration_s=1)


# ---- not there, not media --------------------------------------------------------------------------------------------


def test_not_found(tmp_path):
    with pytest.raises(NotFound, match=r"/nothing\.mp4: no such file"):
        open_media(str(tmp_path / "nothing.mp4"))


def test_a_folder(tmp_path):
    with pytest.raises(NotFound, match="is not a regular file"):
        open_media(str(tmp_path))


def test_a_fifo_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(NotFound, match="is not a regular file"):
        open_media(str(tmp_path / "pipe.mp4"))


def test_a_dangling_link(tmp_path):
    (tmp_path / "link.mp4").symlink_to(tmp_path / "gone.mp4")
    with pytest.raises(NotFound, match="no such file"):
        open_media(str(tmp_path / "link.mp4"))


def test_no_permission(clip, tmp_path, monkeypatch):
    path = tmp_path / "locked.mp4"
    path.write_bytes(clip.read_bytes())
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read everything
        monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(NotFound, match=r"locked\.mp4: no permission to read it"):
        open_media(str(path))
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)


@pytest.mark.parametrize("kind", NOT_MEDIA)
@pytest.mark.parametrize("suffix", ["mp4", "webm", "avi", "ts"])
def test_no_media_whatever_its_name(tmp_path, kind, suffix):
    path = not_media(tmp_path / f"clip.{suffix}", kind)
    with pytest.raises(NotMedia) as caught:
        open_media(str(path))
    assert str(path) in str(caught.value)
    assert ("0 bytes" in str(caught.value)) == (kind == "empty")


# ---- hostile ---------------------------------------------------------------------------------------------------------


@contextmanager
def watched_folder(folder: Path):
    """Names of the files in a folder that anything in this process opened, FFmpeg included, told by the kernel (inotify)."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(os.O_NONBLOCK)
    assert handle >= 0
    assert libc.inotify_add_watch(handle, os.fsencode(folder), 0x20) >= 0  # IN_OPEN
    seen: set[str] = set()
    try:
        yield seen
    finally:
        data = b""
        with suppress(BlockingIOError):
            data = os.read(handle, 1 << 16)
        while data:
            _, _, _, length = struct.unpack("iIII", data[:16])
            seen.add(os.fsdecode(data[16 : 16 + length].rstrip(b"\0")))
            data = data[16 + length :]
        os.close(handle)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify is Linux's")
@pytest.mark.parametrize("name", ["clip.mp4", "list.m3u8", "clip.mkv"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_no_list_of_other_files_is_followed(clip, tmp_path, kind, name):
    target = tmp_path / "secret.mp4"
    target.write_bytes(clip.read_bytes())
    path = hostile_playlist(tmp_path / name, target, kind)
    with watched_folder(tmp_path) as opened, pytest.raises(Forbidden) as caught:
        open_media(str(path))
    assert opened <= {path.name}, "nothing else was opened"
    assert str(path) in str(caught.value)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify is Linux's")
def test_the_watch_would_have_noticed(clip, tmp_path):
    """FFmpeg does follow such a list where it may: the proof above is worth something."""
    import av

    target = tmp_path / "secret.mp4"
    target.write_bytes(clip.read_bytes())
    path = hostile_playlist(tmp_path / "clip.mp4", target, "concat")
    with watched_folder(tmp_path) as opened, av.open(str(path)) as file:
        assert file.format.name == "concat"
    assert {"secret.mp4", "clip.mp4"} <= opened


@contextmanager
def server():
    """A port on this machine, and the requests that came."""
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.3)
        stop = threading.Event()

        def listen() -> None:
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    requests.append(connection.recv(1000))

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1], requests
        finally:
            stop.set()
            thread.join(timeout=5)


LISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:{}/a.ts\n#EXT-X-ENDLIST\n",
    "hls-key": '#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXT-X-KEY:METHOD=AES-128,URI="http://127.0.0.1:{}/k"\n'
    "#EXTINF:10,\na.ts\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile http://127.0.0.1:{}/a.mp4\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    "<Representation><BaseURL>http://127.0.0.1:{}/a.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "asx": '<asx version="3.0"><entry><ref href="http://127.0.0.1:{}/a"/></entry></asx>',
    "smil": '<smil><body><video src="http://127.0.0.1:{}/a.mp4"/></body></smil>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "a=control:rtsp://127.0.0.1:{}/\nm=video 5004 RTP/AVP 33\n",
    "rtsptext": "RTSPtextrtsp://127.0.0.1:{}/a\n",
}


@pytest.mark.parametrize("kind", sorted(LISTS))
def test_no_address_is_called(tmp_path, kind):
    with server() as (port, requests):
        for name in ("clip.mp4", f"list.{kind}", "list.m3u8", "clip"):
            path = tmp_path / name
            path.write_text(LISTS[kind].format(port))
            with pytest.raises(Forbidden):
                open_media(str(path))
    assert requests == []


@pytest.mark.parametrize("name", ["blank.png", "daisy.jpg", "smol.png"])
def test_images_are_refused(shared, name):
    path = shared / "clips/_audio" / name
    with pytest.raises(Forbidden, match="refused, because it is an image, a playlist or a list of other files"):
        open_media(str(path))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify is Linux's")
def test_a_mov_that_keeps_its_samples_elsewhere_is_not_followed(clip, tmp_path):
    """A data reference to another file (an alias in ``dref``): FFmpeg could follow it, and must not."""
    data = bytearray(make_video(tmp_path / "s.mov", width=64, height=48, duration_s=1, audio=None).read_bytes())
    (tmp_path / "other.mov").write_bytes(clip.read_bytes())
    at = data.find(b"url \x00\x00\x00\x01")
    assert at > 0
    data[at : at + 8] = b"url \x00\x00\x00\x00"  # no longer "in this file"
    path = tmp_path / "refers.mov"
    path.write_bytes(bytes(data))
    with watched_folder(tmp_path) as opened, open_media(str(path)) as file:
        list(file.demux())
    assert opened == {"refers.mov"}


# ---- names -----------------------------------------------------------------------------------------------------------

NAMES = [
    "-rf.mp4", "--help.mp4", "%d.mp4", "x%03d.png.mp4", "a:b.mp4", "http:example.mp4", "concat:a|b.mp4", "file:x.mp4",
    "pipe:0", "data:text", "line\nbreak.mp4", "tab\t.mp4", " leading.mp4", "?query=1.mp4", "#fragment.mp4", "ünïcödé🎬.mp4",
    "a'b\"c.mp4", "[glob]*.mp4", "no_suffix", ".hidden.mp4", "clip.m3u8", "clip.sdp", "clip.png",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_only_a_name(clip, tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes(clip.read_bytes())
    with open_media(str(tmp_path / name)) as file:
        assert file.format.name.startswith("mov")
    monkeypatch.chdir(tmp_path)
    with open_media(name) as file:
        assert file.format.name.startswith("mov"), "relative names too"


def test_a_name_that_is_not_utf8(clip, tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    Path(os.fsdecode(path)).write_bytes(clip.read_bytes())
    with open_media(os.fsdecode(path)) as file:
        assert file.format.name.startswith("mov")


@pytest.mark.parametrize(
    "name",
    ["http://127.0.0.1:1/a.mp4", "https://example.org/v.mp4", "concat:a.mp4|b.mp4", "rtsp://x/y", "pipe:0", "-", "",
     "data:video/mp4;base64,AAAA", "subfile,,start,0,end,9,,:a.mp4", "crypto:a.mp4", "tcp://127.0.0.1:1", "a\0b.mp4"],
)  # fmt: skip
def test_addresses_are_names_of_files_that_do_not_exist(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFound):
        open_media(name)


@given(st.text(min_size=1, max_size=40))
def test_any_text_is_a_path_or_a_clip_error(text):
    with pytest.raises(ClipError):
        open_media("/nonexistent-folder-for-tests/" + text)


# ---- clocks ----------------------------------------------------------------------------------------------------------


@given(st.integers(-(10**15), 10**15), st.integers(1, 10**6), st.integers(1, 10**9))
def test_to_ns_rounds_to_the_nearest(ticks, numerator, denominator):
    exact = Fraction(ticks * numerator * NS, denominator)
    assert abs(to_ns(ticks, Fraction(numerator, denominator)) - exact) <= Fraction(1, 2)
