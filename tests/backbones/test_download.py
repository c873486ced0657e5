"""Downloads from a server on this machine that cuts connections, lies and refuses."""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from backbones import download, transfer, weights
from backbones.sources import Source
from backbones.spec import Weights
from extract.errors import DigestMismatch, WeightsError, WeightsMissing

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[SimpleNamespace]:
    """Serves `content` at every path; `cuts` lists after how many bytes to hang up, one per request."""
    state = SimpleNamespace(content=CONTENT, cuts=[], ranges=True, missing=set(), requests=[], url="")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            state.requests.append((self.path, asked))
            if self.path in state.missing:
                self.send_error(404)
                return
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and state.ranges else 0
            if start and start >= len(state.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(state.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.cuts.pop(0)] if state.cuts else body)

        def log_message(self, *args):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{httpd.server_port}"
    yield state
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def file_at(server: SimpleNamespace, sha256: str | None = SHA256, mirrors: tuple[str, ...] = ()) -> Weights:
    return Weights(f"{server.url}/w.pth", sha256, "MIT", mirrors=mirrors)


def ranges(server: SimpleNamespace) -> list[str | None]:
    return [asked for _, asked in server.requests]


@pytest.mark.parametrize("sha256", [SHA256, SHA256[:8], None])
def test_download(server, cache, sha256):
    path = download.download(file_at(server, sha256))
    assert path == cache / "w.pth"
    assert path.read_bytes() == CONTENT
    assert not list(cache.glob("*.part"))


def test_a_cut_connection_is_resumed(server):
    server.cuts = [100_000, 50_000]
    assert download.download(file_at(server)).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=100000-", "bytes=150000-"]


def test_a_server_that_hangs_up_for_ever_leaves_what_came_for_the_next_time(server, cache):
    server.cuts = [1000] * transfer.ATTEMPTS
    with pytest.raises(WeightsMissing, match="cut off after 4000 of 512000 bytes"):
        download.download(file_at(server))
    assert (cache / "w.pth.part").stat().st_size == 4000
    assert download.download(file_at(server)).read_bytes() == CONTENT
    assert ranges(server)[-1] == "bytes=4000-"


def test_a_server_without_ranges_starts_over(server):
    server.cuts, server.ranges = [1000], False
    assert download.download(file_at(server)).read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize("stale", [b"something else", b"x" * 600_000])
def test_the_half_of_another_file_is_thrown_away(server, cache, stale):
    cache.mkdir()
    (cache / "w.pth.part").write_bytes(stale)
    assert download.download(file_at(server)).read_bytes() == CONTENT


def test_a_complete_part_only_needs_its_name(server, cache):
    cache.mkdir()
    (cache / "w.pth.part").write_bytes(CONTENT)
    assert download.download(file_at(server)).read_bytes() == CONTENT
    assert ranges(server) == ["bytes=512000-"]


def test_without_a_digest_halves_are_not_joined(server, cache):
    cache.mkdir()
    (cache / "w.pth.part").write_bytes(b"something else")
    assert download.download(file_at(server, None)).read_bytes() == CONTENT
    assert ranges(server) == [None]


def test_mirrors_in_order(server, tmp_path):
    (tmp_path / "local.pth").write_bytes(CONTENT)
    server.missing = {"/w.pth", "/mirror1"}
    mirrors = (f"{server.url}/mirror1", (tmp_path / "local.pth").as_uri(), f"{server.url}/mirror3")
    assert download.download(file_at(server, mirrors=mirrors)).read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ["/w.pth", "/mirror1"]


def test_wrong_content_is_refused_and_removed(server, cache):
    server.content = b"an error page"
    with pytest.raises(DigestMismatch, match=rf"w\.pth is published with sha256 {SHA256}, but .* served"):
        download.download(file_at(server))
    assert not (cache / "w.pth").exists()
    assert not (cache / "w.pth.part").exists()


def test_offline_names_file_address_digest_and_folder(cache):
    file = Weights("http://127.0.0.1:9/resnet-0123abcd.pth", "0123abcd", "MIT", mirrors=("http://127.0.0.1:9/b.pth",))
    with pytest.raises(WeightsMissing) as error:
        download.download(file)
    for said in (
        "resnet-0123abcd.pth",
        "http://127.0.0.1:9/b.pth",
        "sha256 0123abcd…",
        str(cache),
        "refused",
        "random:0",
    ):
        assert said in str(error.value)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/w.pth", "data:,x", "/etc/hostname"])
def test_other_schemes_are_not_opened(url):
    with pytest.raises(WeightsMissing, match="only https, http and file addresses are fetched"):
        download.download(Weights(url, None, "MIT", filename="w.pth"))


def test_a_folder_that_cannot_be_written(server, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EXTRACT_WEIGHTS", str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsError, match="set EXTRACT_WEIGHTS to a folder that can be written"):
        download.download(file_at(server))


def test_lanes_that_start_together_download_once(server):
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: download.download(file_at(server)), range(4)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert len(server.requests) == 1


def test_fetch_downloads_what_is_missing_then_nothing(server, published, cache):
    backbone, folder = published("a.pth", "b.pth")
    content = {f"/{name}": (folder / name).read_bytes() for name in ("a.pth", "b.pth")}
    object.__setattr__(backbone.weights[0][0], "uri", f"{server.url}/a.pth")
    object.__setattr__(backbone.weights[1][0], "uri", f"{server.url}/b.pth")
    cache.mkdir()
    (cache / "b.pth").write_bytes(content["/b.pth"])
    server.content = content["/a.pth"]
    module = weights.materialise(backbone, Source("official"))
    assert torch.equal(module.fc.bias, torch.load(folder / "b.pth", weights_only=True)["fc.bias"])
    assert [path for path, _ in server.requests] == ["/a.pth"]
    assert weights.fetch(backbone, Source("official")) == (cache / "a.pth", cache / "b.pth")
    assert len(server.requests) == 1


def test_a_file_without_a_digest_is_downloaded_only_if_allowed(server, published, cache):
    backbone, folder = published("a.pt", digest=0)
    object.__setattr__(backbone.weights[0][0], "uri", f"{server.url}/a.pt")
    server.content = (folder / "a.pt").read_bytes()
    with pytest.raises(WeightsMissing, match="--allow-unverified-weights"):
        weights.fetch(backbone, Source("official"))
    assert weights.fetch(backbone, Source("official"), allow_unverified=True) == (cache / "a.pt",)
    digest = hashlib.sha256(server.content).hexdigest()
    assert weights.weights_id(backbone, Source("official"), allow_unverified=True) == f"file:{digest}"


# ---- mirrors of the user's own, and proxies ------------------------------------------------------------------------------


def test_bases_are_asked_first_and_for_every_publication(server, tmp_path, cache):
    (tmp_path / "nfs").mkdir()
    (tmp_path / "nfs" / "old.pth").write_bytes(CONTENT)
    entry = (file_at(server), Weights(f"{server.url}/old.pth", SHA256, "MIT"))
    assert download.download(*entry, bases=[download.base_address(str(tmp_path / "nfs"))]) == cache / "old.pth"
    assert server.requests == []
    assert download.download(file_at(server), bases=[f"{server.url}/mirror/"]) == cache / "w.pth"
    assert server.requests == [("/mirror/w.pth", None)]


def test_a_base_that_serves_something_else_is_passed_over_and_said(server, tmp_path, caplog):
    (tmp_path / "w.pth").write_bytes(b"an older file")
    bases = [tmp_path.as_uri()]
    assert download.download(file_at(server), bases=bases).read_bytes() == CONTENT
    assert f"w.pth is published with sha256 {SHA256}, but {tmp_path.as_uri()}/w.pth served" in caplog.text
    server.missing.add("/v.pth")
    (tmp_path / "v.pth").write_bytes(b"an older file")
    with pytest.raises(DigestMismatch, match=r"v\.pth is published with .*HTTP 404"):
        download.download(Weights(f"{server.url}/v.pth", SHA256, "MIT"), bases=bases)


def test_a_base_that_breaks_off_is_gone_on_with(server):
    server.cuts = [100_000]
    assert download.download(file_at(server), bases=[f"{server.url}/m"]).read_bytes() == CONTENT
    assert server.requests == [("/m/w.pth", None), ("/m/w.pth", "bytes=100000-")]


@pytest.mark.parametrize("text", ["nowhere", "ftp://host/folder", "s3://bucket"])
def test_bases_that_are_none(text):
    with pytest.raises(WeightsMissing, match=f"--from {text}: give a folder that exists, or a web address"):
        download.base_address(text)


def test_names_with_spaces_and_escapes(server, tmp_path):
    (tmp_path / "a%3D b.pth").write_bytes(CONTENT)
    file = Weights(f"{server.url}/x", SHA256, "MIT", filename="a%3D b.pth")
    assert download.download(file, bases=[tmp_path.as_uri()]).name == "a%3D b.pth"
    assert server.requests == []


def test_an_address_of_something_that_must_be_unpacked_is_not_saved_as_the_file(server):
    file = Weights(f"{server.url}/w.zip", SHA256, "MIT", filename="w.pth", note="unzip it yourself")
    with pytest.raises(WeightsMissing, match=r"w\.zip: is not the file itself; unzip it yourself"):
        download.download(file)
    assert server.requests == []


def test_proxies_of_the_environment(server, monkeypatch):
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setattr("urllib.request._opener", None)  # it read the environment at the first download of this process
    file = Weights("http://weights.invalid/folder/w.pth", SHA256, "MIT")
    assert download.download(file).read_bytes() == CONTENT
    assert server.requests == [("http://weights.invalid/folder/w.pth", None)]


def test_mentions_a_path_the_user_can_act_on(cache: Path):
    assert str(cache) in download.missing(Weights("https://x/y.pth", None, "MIT"), [])
