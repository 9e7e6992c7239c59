"""Event files: what TensorBoard will read is there, at once, and written without it."""

import os
import sys

import pytest

from sparkneuro.errors import StorageError

tf = pytest.importorskip("tensorflow", reason="needs the keras extra")

from sparkneuro.train.event_file import EventFile  # noqa: E402


@pytest.fixture(autouse=True)
def no_tensorboard(monkeypatch):
    """TensorBoard cannot be imported, whether it is installed or not."""
    monkeypatch.setitem(sys.modules, "tensorboard", None)


def read_events(path):
    """Events of a file, by TensorFlow's own reader, which checks every record's checksum."""
    return [tf.compat.v1.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(path)]


def scalars_of(path):
    return [(event.step, value.tag, value.simple_value) for event in read_events(path)[1:] for value in event.summary.value]


def test_the_scalars_come_back_with_their_steps_and_tags(tmp_path):
    with EventFile(tmp_path / "events") as file:
        file.add_scalars(1, {"loss": 0.5, "validation_loss": 0.75}, wall_time=1000.25)
        file.add_scalars(2, {"loss": 0.25}, wall_time=1001.5)
    assert scalars_of(file.path) == [(1, "loss", 0.5), (1, "validation_loss", 0.75), (2, "loss", 0.25)]
    assert [event.wall_time for event in read_events(file.path)[1:]] == [1000.25, 1001.5]


def test_the_first_record_is_the_version_that_tensorboard_asks_for(tmp_path):
    with EventFile(tmp_path) as file:
        pass
    (event,) = read_events(file.path)
    assert event.file_version == "brain.Event:2"


def test_a_value_that_is_none_is_left_out(tmp_path):
    with EventFile(tmp_path) as file:
        file.add_scalars(1, {"loss": 0.5, "validation_loss": None})
        file.add_scalars(2, {"loss": None})
    assert scalars_of(file.path) == [(1, "loss", 0.5)]


def test_scalars_can_be_read_before_the_file_is_closed(tmp_path):
    file = EventFile(tmp_path)
    try:
        file.add_scalars(7, {"loss": 0.125})
        assert scalars_of(file.path) == [(7, "loss", 0.125)]
    finally:
        file.close()


def test_two_files_of_one_second_do_not_overwrite_each_other(tmp_path):
    with EventFile(tmp_path) as first, EventFile(tmp_path) as second:
        first.add_scalars(1, {"loss": 0.5})
        second.add_scalars(1, {"loss": 0.25})
    assert scalars_of(first.path) == [(1, "loss", 0.5)] and scalars_of(second.path) == [(1, "loss", 0.25)]
    assert all(name.startswith("events.out.tfevents.") for name in os.listdir(tmp_path))


def test_a_file_may_be_closed_twice(tmp_path):
    file = EventFile(tmp_path)
    file.close()
    file.close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match=r"file/events: no TensorBoard events can be written: .*; choose another folder\."):
        EventFile(tmp_path / "file" / "events")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_said_in_one_sentence(tmp_path, monkeypatch):
    writer = tf.io.TFRecordWriter
    monkeypatch.setattr(tf.io, "TFRecordWriter", lambda path: writer("/dev/full"))
    with pytest.raises(StorageError, match="no TensorBoard events can be written"):
        EventFile(tmp_path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_costs_the_events_of_an_epoch_and_not_the_training(tmp_path, caplog):
    file = EventFile(tmp_path)
    file._writer.close()
    file._writer = tf.io.TFRecordWriter("/dev/full")
    file.add_epoch({"epoch": 1, "loss": 2.0})
    file.close()
    assert "no TensorBoard events can be written" in caplog.text
