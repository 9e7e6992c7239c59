"""What the servers of these tests are made of: jars inside source distributions of the Python package index, cached.

HDFS (NameNode and DataNode) is among the jars of an old pyspark, S3A among those of an old sagemaker_pyspark. pip fetches neither
where it insists on building them first, so the index that pip is configured for is asked for the file, whose hash is checked.
``python tests/storage/downloads.py`` brings all into the cache; with ``--check`` its status tells whether all is there.
"""

import hashlib
import html.parser
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from sparkneuro.data.rest import cache_folder

SECONDS = 60


@dataclass(frozen=True)
class Jars:
    """Jars within a source distribution.

    Parameters
    ----------
    project, version : str
        As the index names them.
    sha256 : str
        Of the distribution.
    prefixes : tuple of str
        Beginnings of the names of the jars that are kept.
    """

    project: str
    version: str
    sha256: str
    prefixes: tuple

    @property
    def folder(self):
        """Where the jars are kept; there only when all of them are."""
        return cache_folder() / f"{self.project}-{self.version}-jars"


HADOOP = Jars(
    "pyspark", "2.4.8", "3a19b71b8dc8dd91ebc943604a05e1ab01bce052456d42937035632d852d78dc",
    ("hadoop-hdfs-", "hadoop-common-", "hadoop-auth-", "hadoop-annotations-", "commons-", "guava-", "log4j-", "slf4j-", "jetty-",
     "jersey-", "jsr305-", "protobuf-java-", "netty-", "htrace-", "jackson-core-asl", "jackson-mapper-asl", "javax.", "xmlenc-",
     "leveldbjni-", "xercesImpl", "asm-", "servlet-api"),
)  # fmt: skip
S3A = Jars(
    "sagemaker-pyspark", "1.4.5", "05ca2d5081d7138ce29a8fb0a9cba077f28c825288ed07aed46a82e63c0bf1fb",
    ("hadoop-aws-", "aws-java-sdk-bundle-"),
)  # fmt: skip


def fetch(jars):
    """Bring jars into the cache, unless they are there; returns their folder. OSError when that cannot be done."""
    if jars.folder.is_dir():
        return jars.folder
    jars.folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="unfinished-", dir=jars.folder.parent) as temporary:
        archive = Path(temporary, "archive.tar.gz")
        _download(_find_file(jars), archive, jars.sha256)
        chosen = Path(temporary, "jars")
        chosen.mkdir()
        with tarfile.open(archive) as content:
            for member in content:
                name = Path(member.name).name
                if member.isfile() and name.endswith(".jar") and name.startswith(jars.prefixes):
                    with content.extractfile(member) as source, open(chosen / name, "wb") as sink:
                        shutil.copyfileobj(source, sink)
        try:
            chosen.rename(jars.folder)
        except OSError:
            if not jars.folder.is_dir():  # else another process was faster
                raise
    return jars.folder


def find_index():
    """URL of the index that pip asks."""
    words = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    if "PIP_INDEX_URL" in os.environ:
        return os.environ["PIP_INDEX_URL"]
    answer = subprocess.run(words, capture_output=True, text=True)
    if answer.returncode == 0 and answer.stdout.strip():
        return answer.stdout.strip()
    from pip._internal.models.index import PyPI

    return PyPI.simple_url


class _Links(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.targets = []

    def handle_starttag(self, tag, attributes):
        if tag == "a":
            self.targets += [value for name, value in attributes if name == "href"]


def _find_file(jars):
    page = f"{find_index().rstrip('/')}/{jars.project}/"
    links = _Links()
    with urllib.request.urlopen(urllib.request.Request(page, headers={"Accept": "text/html"}), timeout=SECONDS) as answer:
        links.feed(answer.read().decode())
    wanted = f"{jars.project.replace('-', '_')}-{jars.version}.tar.gz"
    found = [link for link in links.targets if urllib.parse.urlparse(link).path.endswith(f"/{wanted}")]
    if not found:
        raise OSError(f"{page} lists no {wanted}")
    return urllib.parse.urljoin(page, found[0])


def _download(address, path, sha256):
    digest = hashlib.sha256()
    with urllib.request.urlopen(address, timeout=SECONDS) as source, open(path, "wb") as sink:
        while piece := source.read(1 << 20):
            digest.update(piece)
            sink.write(piece)
    if digest.hexdigest() != sha256:
        raise OSError(f"{address} is not what it was when these tests were written; its hash differs")


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(not all(jars.folder.is_dir() for jars in (HADOOP, S3A)))
    for jars in (HADOOP, S3A):
        print(f"{jars.project} {jars.version}: {fetch(jars)}")
