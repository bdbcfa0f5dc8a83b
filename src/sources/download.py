"""The zips of GroupLens, fetched with their MD5 sums."""
import http.client
import ssl
import urllib.request
from pathlib import Path

from ..common.errors import InputError
from ..common.files import atomic_write, digest
from ..common.terminal import logger, progress
from ..constants import DATASET_FILE

# MD5 sums that GroupLens publishes beside the files; ml-latest-small changes, so the checksums in the zip must do.
MD5 = {
    "ml-100k": "0e33842e24a9c977be4e0107933c0723",
    "ml-latest-small": None,
    "ml-1m": "c4d9eecfca2ab87c1945afe126590906",
    "ml-10m": "ce571fd55effeba0271552578f2648bd",
    "ml-20m": "cd245b17a1ae2cc31bb14903e1204af3",
    "ml-25m": "6b51fb2759a8657d3bfcbfc42b592ada",
    "ml-32m": "d472be332d4daa821edc399621853b57",
}
TIMEOUT = 30  # seconds without a byte


def fetch(config, folder):
    """Path of the GroupLens zip of a known dataset under data_path, downloaded if need be."""
    name, md5 = config.dataset, MD5.get(config.dataset)
    path = Path(config.data_path) / f"{name}.zip"
    if path.is_file():
        logger.info("%s: reading %s, which is there already", name, path)
        if md5 and digest(path, "md5") != md5:
            logger.warning("%s: its MD5 sum is not the published %s; delete it to download it anew", path, md5)
        return path
    if name in MD5:
        return download(f"{config.mirror.rstrip('/')}/{path.name}", path, md5)
    lacks = "was made with other filters or --items" if (folder / DATASET_FILE).exists() else "is not there"
    raise InputError(f"--dataset {name}: {folder} {lacks}, and it is none that can be downloaded ({', '.join(MD5)}); give "
                     "its file with --archive")


def download(url, path, md5=None):
    """Downloads `url` to `path`, and checks its MD5 sum; TLS certificates are always verified. Returns `path`.

    Raises InputError: the download failed, or the sum is wrong; nothing is left of it then.
    """
    by_hand = "try again, or fetch the file by other means and give its path with --archive, or name another --mirror"
    try:
        with atomic_write(path) as temporary, urllib.request.urlopen(url, timeout=TIMEOUT) as answer, \
                open(temporary, "wb") as file:
            total = int(answer.headers.get("Content-Length") or 0)
            with progress(total or None, url.rsplit("/", 1)[-1], "B") as bar:
                while block := answer.read(1 << 16):
                    file.write(block)
                    bar.update(len(block))
            file.flush()
            if file.tell() < total:
                raise ConnectionError(f"the connection ended after {file.tell():,} of {total:,} bytes")
            if md5 and digest(temporary, "md5") != md5:
                raise ValueError(f"what came has another MD5 sum than the published {md5}")
    except (OSError, http.client.HTTPException, ValueError) as e:  # ValueError: the address is none
        reason = getattr(e, "reason", None) or e
        clock = "its certificate or this machine's clock or certificates must be mended; " * isinstance(reason, ssl.SSLError)
        raise InputError(f"{url}: the download failed ({reason}); {clock}{by_hand}") from e
    return path
