import json

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the keras extra")

from sparkneuro.errors import FormatError, SettingsError  # noqa: E402
from sparkneuro.train.model_folder import (  # noqa: E402
    pack_model,
    read_model_bytes,
    read_record,
    unpack_model,
    write_model,
)


def test_a_model_and_its_record_come_back(make_model, series, tmp_path):
    model, path = make_model(batch_normalization=True), str(tmp_path / "a.model")
    write_model(path, model, {"history": [{"epoch": 1}]})
    assert read_record(path)["history"] == [{"epoch": 1}]
    again = unpack_model(read_model_bytes(path))
    np.testing.assert_allclose(again.predict_on_batch(series), model.predict_on_batch(series), rtol=1e-6)


def test_a_model_is_not_overwritten_unless_allowed(make_model, tmp_path):
    path = str(tmp_path / "a.model")
    write_model(path, make_model(), {"number": 1})
    with pytest.raises(SettingsError, match="a.model exists already"):
        write_model(path, make_model(), {"number": 2})
    assert read_record(path)["number"] == 1
    write_model(path, make_model(), {"number": 3}, overwrite=True)
    assert read_record(path)["number"] == 3


def test_a_folder_without_a_record_is_no_model(make_model, tmp_path):
    path = str(tmp_path / "a.model")
    write_model(path, make_model(), {})
    (tmp_path / "a.model" / "training.json").unlink()
    with pytest.raises(FormatError, match="must be the folder of a trained model; it holds no training.json"):
        read_model_bytes(path)


@pytest.mark.parametrize(
    "content, match", [("no json", "must be JSON"), ("[]", "format 1; got None"), ('{"format": 9}', "format 1; got 9")]
)
def test_a_record_that_is_none_is_refused(tmp_path, content, match):
    (tmp_path / "training.json").write_text(content)
    with pytest.raises(FormatError, match=match):
        read_record(str(tmp_path))


def test_bytes_that_are_no_model_are_refused():
    with pytest.raises(FormatError, match="model.keras is damaged .* train the model again"):
        unpack_model(b"<html>not found</html>")


def test_a_class_that_cannot_be_imported_is_named(make_model):
    import io
    import zipfile

    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(pack_model(make_model()))) as archive, zipfile.ZipFile(packed, "w") as changed:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "config.json":
                config = {**json.loads(content), "registered_name": "lab>Net", "module": "a_module_of_nobody"}
                content = json.dumps(config).encode()
            changed.writestr(name, content)
    with pytest.raises(SettingsError, match="a_module_of_nobody is not"):
        unpack_model(packed.getvalue())
