"""Downloads from a server that breaks off, and from none."""
import hashlib
import http.server
import ssl
import threading
import urllib.error

import pandas as pd
import pytest

from src.common.errors import InputError
from src.movielens import prepare
from src.sources.download import MD5, download
from tests.sources.samples import ROWS, comma, zip_of


def test_a_certificate_that_cannot_be_verified_is_named(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise urllib.error.URLError(ssl.SSLCertVerificationError(1, "certificate verify failed: certificate has expired"))
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(InputError, match="certificate has expired.*its certificate or this machine's clock") as error:
        download("https://x.org/x.zip", tmp_path / "x.zip")
    assert "resumes" not in str(error.value)


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `content` under any path; breaks the first `breaks` transfers in the middle; knows ranges if `ranges`."""
    content, sum_file, breaks, ranges, requests = b"", None, 0, True, []

    def do_GET(self):
        cls = type(self)
        cls.requests.append((self.path, self.headers.get("Range")))
        if self.path.endswith("missing.zip") or self.path.endswith(".md5") and cls.sum_file is None:
            return self.send_error(404)
        body, start = cls.sum_file if self.path.endswith(".md5") else cls.content, 0
        if self.headers.get("Range") and cls.ranges:
            start = int(self.headers["Range"][len("bytes="):-1])
            if start >= len(body):
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        part = body[start:]
        if cls.breaks:
            cls.breaks -= 1
            part = part[:len(part) // 2]
        self.wfile.write(part)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """A fresh Server class that is being served on the loopback address, as (class, address)."""
    handler = type("OneServer", (Server,), {"requests": [], "content": zip_of(tmp_path / "s.zip", comma()).read_bytes()})
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield handler, f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def md5(content):
    return hashlib.md5(content).hexdigest()


@pytest.mark.parametrize("ranges", [True, False])
def test_download_resumes_after_a_broken_transfer(server, tmp_path, ranges):
    handler, address = server
    handler.breaks, handler.ranges = 1, ranges
    path = download(f"{address}/x.zip", tmp_path / "x.zip", md5(handler.content))
    assert path.read_bytes() == handler.content
    assert handler.requests == [("/x.zip", None), ("/x.zip", f"bytes={len(handler.content) // 2}-")]
    assert not (tmp_path / "x.zip.part").exists()


def test_download_keeps_what_came_and_a_later_run_goes_on(server, tmp_path):
    handler, address = server
    handler.breaks = 99
    with pytest.raises(InputError, match="x.zip: the download failed.*bytes are kept.*--archive.*--mirror"):
        download(f"{address}/x.zip", tmp_path / "x.zip")
    kept = (tmp_path / "x.zip.part").stat().st_size
    assert 0 < kept < len(handler.content) and not (tmp_path / "x.zip").exists()
    handler.breaks = 0
    assert download(f"{address}/x.zip", tmp_path / "x.zip").read_bytes() == handler.content
    assert handler.requests[-1][1] == f"bytes={kept}-"


def test_download_with_a_wrong_sum_is_not_used(server, tmp_path):
    handler, address = server
    with pytest.raises(InputError, match="another MD5 sum"):
        download(f"{address}/x.zip", tmp_path / "x.zip", "0" * 32)
    assert not list(tmp_path.glob("x.zip*"))


def test_download_from_no_address(tmp_path):
    with pytest.raises(InputError, match="nonsense/x.zip: the download failed"):
        download("nonsense/x.zip", tmp_path / "x.zip")


def test_download_that_is_hopeless_is_tried_once(server, tmp_path):
    handler, address = server
    with pytest.raises(InputError, match="missing.zip: the download failed"):
        download(f"{address}/missing.zip", tmp_path / "missing.zip")
    assert len(handler.requests) == 1


def test_known_dataset_is_downloaded_from_the_mirror(server, tmp_path, settings, monkeypatch):
    handler, address = server
    monkeypatch.setitem(MD5, "ml-100k", md5(handler.content))
    prepare(settings("--dataset", "ml-100k", "--mirror", address + "/"))
    assert len(pd.read_csv(tmp_path / "data" / "ml-100k" / "ratings.csv")) == len(ROWS)
    assert handler.requests == [("/ml-100k.zip", None)]


@pytest.mark.parametrize("published", [True, False])
def test_sum_of_the_changing_release_is_fetched(server, settings, published):
    handler, address = server
    if published:
        handler.sum_file = b"0" * 32 + b"  ml-latest-small.zip\n"
        with pytest.raises(InputError, match="another MD5 sum"):
            prepare(settings("--dataset", "ml-latest-small", "--mirror", address))
    else:
        prepare(settings("--dataset", "ml-latest-small", "--mirror", address))
