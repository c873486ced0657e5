"""The page in a real browser: it draws something, asks for nothing, and its script runs under its own policy."""

from __future__ import annotations

import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from extract import api

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}: apt-get install chromium")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip


def browse(page: Path, profile: Path, *options: str) -> str:
    command = [str(CHROMIUM), *QUIET, f"--user-data-dir={profile}", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.fixture(scope="module")
def page(full: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return api.report(full, tmp_path_factory.mktemp("page") / "report.html").path


def test_the_page_in_a_browser(page: Path, tmp_path: Path) -> None:
    """Sections are there, the script ran (it adds a cursor to every sheet), and a proxy that sees all requests saw none."""
    asked: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_CONNECT = do_POST = do_GET

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        proxy = f"--proxy-server=127.0.0.1:{server.server_port}"
        dom = browse(page, tmp_path / "profile", proxy, "--proxy-bypass-list=<-loopback>", "--dump-dom")
    finally:
        server.shutdown()
        server.server_close()
    for name in ("coverage", "failures", "labels", "maps", "similarity", "sheets", "time", "storage", "provenance"):
        assert f'<section id="{name}">' in dom
    assert dom.count('class="cursor"') == 4
    assert dom.count("<circle") > 100
    assert [url for url in asked if "google" not in url] == []  # the browser's own services are not the page's


@pytest.mark.parametrize(("width", "scheme"), [(1280, 1), (400, 0)])
def test_it_draws(page: Path, tmp_path: Path, width: int, scheme: int) -> None:
    """Light on a desk, dark on a phone: not blank, nothing wider than the screen."""
    shot = tmp_path / "shot.png"
    options = (f"--window-size={width},3000", f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={shot}")
    browse(page, tmp_path / "profile", *options)
    pixels = np.asarray(Image.open(shot).convert("L"), np.int64)
    assert pixels.shape[1] == width
    assert (np.median(pixels) > 200) == (scheme == 1)
    inked = np.abs(pixels - np.median(pixels)) > 40
    assert 0.01 < inked.mean() < 0.6
    assert all(band.any() for band in np.array_split(inked, 6))
    assert (
        inked[:, -4:].any(axis=1).mean() < 0.01
    )  # a margin remains on the right; only the list of sections reaches it
