"""What lies in the folder of a volume store while it is made: the volumes and record of each image, receipts of shards.

All of it is in one hidden folder, and is deleted when the store is finished.
"""

import hashlib
import json
from dataclasses import replace

from sparkneuro.data import store
from sparkneuro.data.storage.listing import list_infos
from sparkneuro.data.storage.local_replacement import check_room
from sparkneuro.data.volumes.volume_shards import shard_name
from sparkneuro.data.volumes.volume_store import PARTS, VolumeRecord
from sparkneuro.pipelines.volumes_plan import RECIPE, SOURCES


def part_path(output, key, ending):
    """Tell where an image's volumes are until they are packed, and their record.

    Parameters
    ----------
    output : str
        Path or URI of the store.
    key : str
        Of the image.
    ending : str
        ``.raw`` or ``.json``.

    Returns
    -------
    path : str
        Path or URI.
    """
    return store.join(output, PARTS, key + ending)


def begin(plan):
    """Write down what is made, before anything else, and find the images that are not done.

    Parameters
    ----------
    plan : Plan
        What is to be done.

    Returns
    -------
    missing : list of SourceImage
        Images whose volumes are not there, or that have changed since.

    Raises
    ------
    StorageError
        When there is no room.
    """
    store.delete_unfinished(plan.output)
    store.write_bytes(store.join(plan.output, PARTS, RECIPE), json.dumps(plan.recipe).encode())
    infos = list_infos(store.join(plan.output, PARTS))
    missing = [source for source in plan.sources if not _is_stored(plan, source, infos)]
    filesystem, inner = store.locate(plan.output)
    if filesystem.type_name == "local":
        n_volumes = sum(source.n_scans or 1 for source in (*plan.sources, *missing))
        check_room(inner, n_volumes * plan.volume_bytes)
    return missing


def list_stored(plan):
    """List the images and shards that are done.

    Parameters
    ----------
    plan : Plan
        What is to be done.

    Returns
    -------
    keys : list of str
        Keys of images, names of shards.
    """
    names = store.list_files(store.join(plan.output, PARTS))
    return [name.removesuffix(".json") for name in names if name.endswith(".json")]


def number_records(plan, made):
    """Gather the records of all images and number their volumes through.

    Parameters
    ----------
    plan : Plan
        What was to be done.
    made : dict of str to dict
        Records that have just been made, by key; others are read.

    Returns
    -------
    records : list of VolumeRecord
        In the order of the sources.
    """
    records, first = [], 0
    for source in plan.sources:
        content = made.get(source.key) or json.loads(store.read_bytes(part_path(plan.output, source.key, ".json")))["record"]
        record = replace(VolumeRecord.from_dict(content), first=first)
        records.append(record)
        first += record.n_volumes
    return records


def plan_shards(plan, records):
    """Tell which volumes go into which shard.

    Parameters
    ----------
    plan : Plan
        What is to be done.
    records : list of VolumeRecord
        The images, numbered.

    Returns
    -------
    jobs : list of dict
        One a shard, for `volumes_task.pack_shard`; `pieces` are path of a part, first volume, and the one after the last.
    """
    n_volumes = records[-1].first + records[-1].n_volumes
    pieces, made_of = ([[] for _ in range(-(-n_volumes // plan.per_shard))] for _ in range(2))
    for source, record in zip(plan.sources, records, strict=True):
        start, stop = record.first, record.first + record.n_volumes
        while start < stop:
            number = start // plan.per_shard
            end = min(stop, (number + 1) * plan.per_shard)
            pieces[number].append([part_path(plan.output, source.key, ".raw"), start - record.first, end - record.first])
            made_of[number].append([source.key, source.size, source.modified, *pieces[number][-1][1:]])
            start = end
    return [
        {
            "path": store.join(plan.output, shard_name(number)), "name": shard_name(number),
            "receipt": part_path(plan.output, shard_name(number), ".json"), "pieces": parts,
            "n_volumes": sum(stop - start for _, start, stop in parts), "shape": plan.recipe["shape"],
            "dtype": plan.recipe["dtype"], "fingerprint": hashlib.sha256(json.dumps(made_of[number]).encode()).hexdigest(),
        }
        for number, parts in enumerate(pieces)
    ]


def read_shard_receipt(job):
    """Read what a shard's task has left.

    Parameters
    ----------
    job : dict
        Of `plan_shards`.

    Returns
    -------
    receipt : dict or None
        `sha256`, `bytes`, and `crc32` of its volumes; None when the shard is not done, or was made of something else.
    """
    if not store.exists(job["receipt"]):
        return None
    receipt = json.loads(store.read_bytes(job["receipt"]))
    whole = store.exists(job["path"]) and store.stat(job["path"])[0] == receipt["bytes"]
    return receipt if whole and receipt["fingerprint"] == job["fingerprint"] else None


def delete_strays(plan, n_shards):
    """Delete shards that the store has no longer.

    Parameters
    ----------
    plan : Plan
        What was to be done.
    n_shards : int
        Shards of the store.
    """
    ours = {shard_name(number) for number in range(n_shards)}
    for name in store.list_files(plan.output):
        if name.startswith("shard-") and name not in ours:
            store.delete(store.join(plan.output, name))


def write_sources(plan):
    """Write down sizes and times of the sources, by which a later call sees that nothing has changed.

    Parameters
    ----------
    plan : Plan
        What was to be done.
    """
    content = {source.path: [source.size, source.modified, source.t_r] for source in plan.sources}
    store.write_bytes(store.join(plan.output, SOURCES), json.dumps(content).encode())


def delete_parts(plan):
    """Delete what is needed only while the store is made.

    Parameters
    ----------
    plan : Plan
        What was to be done.
    """
    store.delete(store.join(plan.output, PARTS))


def _is_stored(plan, source, infos):
    size = infos.get(f"{source.key}.raw", (None,))[0]
    if f"{source.key}.json" not in infos or size != (source.n_scans or 1) * plan.volume_bytes:
        return False
    receipt = json.loads(store.read_bytes(part_path(plan.output, source.key, ".json")))
    return receipt["state"] == [source.size, source.modified, source.t_r]
