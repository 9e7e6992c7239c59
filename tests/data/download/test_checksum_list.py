import hashlib

import pytest

from sparkneuro.data.download.checksum_list import parse_list, read_key
from sparkneuro.errors import FormatError


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
def test_the_length_of_a_checksum_tells_its_kind(algorithm):
    digest = hashlib.new(algorithm, b"x").hexdigest()
    for line in (f"{digest}  a b.tsv", f"{digest} *a b.tsv", f"{digest.upper()}\ta b.tsv", f"{digest}  ./a b.tsv"):
        assert parse_list(f"# made by hand\n\n{line}\n", "list") == [
            {"path": "a b.tsv", "checksum": f"{algorithm}:{digest}", "size": None}
        ]


def test_a_number_behind_the_path_is_a_size_only_where_it_can_be_one():
    digest = "0" * 64
    assert parse_list(f"{digest}  run 2", "list")[0]["path"] == "run 2"
    sized = parse_list(f"{digest}  run 2 77", "list", with_sizes=True)
    assert sized == [{"path": "run 2", "checksum": f"sha256:{digest}", "size": 77}]


def test_the_lines_of_bsd_are_read():
    assert parse_list(f"SHA256 (a (1).txt) = {'AB' * 32}", "list")[0] == {
        "path": "a (1).txt", "checksum": f"sha256:{'ab' * 32}", "size": None
    }


@pytest.mark.parametrize("line", ["<html>", "0123  a.txt", "0" * 33 + "  a.txt", "a.txt"])
def test_another_line_is_an_error_that_shows_it(line):
    with pytest.raises(FormatError, match="list: lines like 'sha256  path .size.' are expected; line 2 is"):
        parse_list(f"# list\n{line}", "list")


@pytest.mark.parametrize("name", ["a.nii.gz", "MD5E-s12--0123.nii.gz", "URL--http&c%%x", "SHA256E-s1--" + "0" * 32])
def test_other_names_are_no_keys(name):
    assert read_key(name) == {}
