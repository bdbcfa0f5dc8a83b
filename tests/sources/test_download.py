"""Downloads from a server that breaks off, and from none."""
import hashlib
import http.server
import ssl
import threading
import urllib.error

import pandas as pd
import pytest

from src.movielens import prepare
from src.sources.download import MD5, download
from tests.small import refused
from tests.sources.samples import ROWS, comma, zip_of


def test_a_certificate_that_cannot_be_verified_is_named(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise urllib.error.URLError(ssl.SSLCertVerificationError(1, "certificate verify failed: certificate has expired"))
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with refused("https://x.org/x.zip", "certificate has expired", "clock"):
        download("https://x.org/x.zip", tmp_path / "x.zip")


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `content` under any path, half of it if it `breaks`."""
    content, breaks = b"", False

    def do_GET(self):
        if self.path.endswith("missing.zip"):
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content[:len(self.content) // 2] if self.breaks else self.content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """A fresh Server class that is being served on the loopback address, as (class, address)."""
    handler = type("OneServer", (Server,), {"content": zip_of(tmp_path / "s.zip", comma()).read_bytes()})
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield handler, f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def test_what_did_not_come_whole_is_not_used(server, tmp_path):
    handler, address = server
    (tmp_path / "x.zip").write_text("of before")
    for breaks, url, known, named in ((True, f"{address}/x.zip", None, "connection ended"),
                                      (False, f"{address}/x.zip", "0" * 32, "another MD5 sum"),
                                      (False, f"{address}/missing.zip", None, "Not Found"),
                                      (False, "nonsense/x.zip", None, "")):
        handler.breaks = breaks
        with refused(url, named, "--archive", "--mirror"):
            download(url, tmp_path / "x.zip", known)
        assert [path.read_text() for path in tmp_path.glob("*x.zip*")] == ["of before"]
    handler.breaks = False
    right = hashlib.md5(handler.content).hexdigest()
    assert download(f"{address}/x.zip", tmp_path / "x.zip", right).read_bytes() == handler.content


def test_known_dataset_is_downloaded_from_the_mirror(server, tmp_path, settings, monkeypatch, caplog):
    handler, address = server
    monkeypatch.setitem(MD5, "ml-100k", hashlib.md5(handler.content).hexdigest())
    prepare(settings("--dataset", "ml-100k", "--mirror", address + "/"))
    assert len(pd.read_csv(tmp_path / "data" / "ml-100k" / "ratings.csv")) == len(ROWS)
    prepare(settings("--dataset", "ml-latest-small", "--mirror", address))  # without a sum
    (tmp_path / "data" / "ml-100k.zip").rename(tmp_path / "data" / "ml-1m.zip")  # one that is there is read
    prepare(settings("--dataset", "ml-1m", "--mirror", "http://127.0.0.1:9"))
    assert "its MD5 sum is not the published" in caplog.text
