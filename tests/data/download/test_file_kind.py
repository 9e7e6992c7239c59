import io

import nibabel
import numpy as np
import pytest

from sparkneuro.data.download.file_kind import START_SIZE, promised_size, refuse_wrong_kind
from sparkneuro.errors import FormatError


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("dtype", "shape"), [("i2", (5, 6, 4, 7)), ("f4", (3, 2, 9)), ("c8", (2, 3, 4))])
def test_the_size_that_a_header_promises_is_that_of_the_file(kind, order, dtype, shape):
    image = kind(np.ones(shape, order + dtype), np.eye(4), header=kind.header_class(endianness=order), dtype=order + dtype)
    stream = io.BytesIO()
    image.to_stream(stream)
    content = stream.getvalue()
    refuse_wrong_kind("a.nii", content[:START_SIZE])
    assert promised_size("a.nii", content[:START_SIZE]) == len(content)
    assert promised_size("a.nii.gz", content) == promised_size("a.nii", content[:100]) == 0


@pytest.mark.parametrize(
    ("path", "start"),
    [
        ("report.html", b"<!DOCTYPE html>"), ("a.surf.gii", b"<?xml version='1.0'?><GIFTI>"), ("code/run.py", b'PAGE = "<html>"'),
        ("a.tsv", b""), ("a.tsv", "\ufeffage\t1".encode("utf-16")), ("README", b"See .. and /annex"),
        ("eeg.set", b"MATLAB 5.0\0"),
        ("a.h5", bytes(512) + b"\x89HDF\r\n\x1a\n"), ("a.tsv.gz", b"\x1f\x8b\x08"), ("sub/.bidsignore", b"*.txt"),
    ],
)
def test_files_that_are_what_their_names_say_pass(path, start):
    refuse_wrong_kind(path, start)


@pytest.mark.parametrize(
    ("path", "start", "message"),
    [
        ("a.nii", bytes(400), "this is not a NIfTI file"), ("a.nii", b"", "the file is empty"),
        ("a.nii.gz", b"{}", "this is not a NIfTI file"), ("a.tsv.gz", b"age\n", "this is not a gzipped file"),
        ("a.h5", b"HDF", "this is not an HDF5 file"), ("a.tsv", b"age\0\0", "this is not a text file"),
        ("a.mat", b"  <HTML>", "this is a web page, not what its name says"),
        ("README", b"<!DOCTYPE html>", "this is a web page"),
        ("a.mat", b"../../.git/annex/objects/x", "this is a pointer to the file"),
    ],
)
def test_what_came_in_the_place_of_a_file_is_named(path, start, message):
    with pytest.raises(FormatError, match=f"{path}: {message}"):
        refuse_wrong_kind(path, start)
