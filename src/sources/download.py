"""The zips of GroupLens, fetched with their MD5 sums; a broken transfer goes on where it stopped."""
import http.client
import logging
import re
import ssl
import urllib.request
from pathlib import Path

from ..common.errors import InputError
from ..common.files import digest, read_json
from ..common.terminal import progress
from ..constants import DATASET_FILE
from ..options import options_of

logger = logging.getLogger("ifrqe")

# MD5 sums that GroupLens publishes beside the files; ml-latest-small changes, so its sum is fetched with it.
MD5 = {
    "ml-100k": "0e33842e24a9c977be4e0107933c0723",
    "ml-latest-small": None,
    "ml-1m": "c4d9eecfca2ab87c1945afe126590906",
    "ml-10m": "ce571fd55effeba0271552578f2648bd",
    "ml-20m": "cd245b17a1ae2cc31bb14903e1204af3",
    "ml-25m": "6b51fb2759a8657d3bfcbfc42b592ada",
    "ml-32m": "d472be332d4daa821edc399621853b57",
}
ATTEMPTS = 3
TIMEOUT = 30  # seconds without a byte


def fetch(config, folder):
    """Path of the GroupLens zip of a known dataset under data_path, downloaded if need be."""
    name = config.dataset
    path = Path(config.data_path) / f"{name}.zip"
    md5 = MD5.get(name)
    if path.is_file():
        logger.info("%s: reading %s, which is there already", name, path)
        if md5 and digest(path, "md5") != md5:
            logger.warning("%s: its MD5 sum is not the published %s; delete it to download it anew", path, md5)
        return path
    if name in MD5:
        url = f"{config.mirror.rstrip('/')}/{path.name}"
        return download(url, path, md5 or _published_md5(url))
    if not (folder / DATASET_FILE).exists():
        raise InputError(f"--dataset {name}: neither in {config.data_path} nor one that can be downloaded "
                         f"({', '.join(MD5)}); give its file with --archive")
    made = read_json(folder / DATASET_FILE, "give its file with --archive")
    filters = ", ".join(f"{key}={made.get(key)}" for key in options_of("filter"))
    raise InputError(f"--dataset {name}: {folder} was made with other filters ({filters}) or --items; give its file again "
                     "with --archive")


def _published_md5(url):
    """The MD5 sum that lies beside a GroupLens file as FILE.md5, or None where there is none to be had."""
    try:
        with urllib.request.urlopen(f"{url}.md5", timeout=TIMEOUT) as answer:
            match = re.search(r"\b[0-9a-f]{32}\b", answer.read(1000).decode("ascii", "replace").lower())
    except (OSError, http.client.HTTPException, ValueError):
        match = None
    if match is None:
        logger.info("%s.md5: not to be had; the checksums inside the zip are relied on", url)
    return match and match.group()


def download(url, path, md5=None):
    """Downloads `url` to `path`, going on where a broken transfer stopped, and checks its MD5 sum.

    The bytes go to PATH.part until they are all there and right. TLS certificates are always verified.

    Returns:
        `path`

    Raises:
        InputError: the download failed (PATH.part stays, the next run resumes), or the sum is wrong (it goes).
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    by_hand = "or fetch the file by other means and give its path with --archive, or name another --mirror"
    path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _transfer(url, part)
            break
        except (OSError, http.client.HTTPException, ValueError) as e:  # ValueError: the address is none
            reason = getattr(e, "reason", None) or e
            untrusted = isinstance(reason, ssl.SSLError)
            refused = isinstance(e, ValueError) or isinstance(e, urllib.error.HTTPError) and e.code < 500
            if attempt < ATTEMPTS and not untrusted and not refused:
                continue
            kept = part.stat().st_size if part.exists() else 0
            again = "its certificate or this machine's clock or certificates must be mended first" if untrusted \
                else f"{kept:,} bytes are kept and the same command resumes from them"
            raise InputError(f"{url}: the download failed ({reason}); {again}; {by_hand}") from e
    if md5 and digest(part, "md5") != md5:
        part.unlink()
        raise InputError(f"{url}: what came has another MD5 sum than the published {md5}; try again, {by_hand}")
    part.replace(path)
    return path


def _transfer(url, part):
    """One request for the bytes that `part` lacks."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as e:
        if e.code == 416 and have:  # nothing is missing, or the part is no part of this file: the MD5 sum will tell
            return
        raise
    if answer.status != 206:
        have = 0  # the server sends the whole file
    length = answer.headers.get("Content-Length")
    total = have + int(length) if length else None
    with answer, open(part, "ab" if have else "wb") as file, progress(total, url.rsplit("/", 1)[-1], "B", have) as bar:
        while block := answer.read(1 << 16):
            file.write(block)
            bar.update(len(block))
        if total is not None and file.tell() < total:
            raise ConnectionError(f"the connection ended after {file.tell():,} of {total:,} bytes")
