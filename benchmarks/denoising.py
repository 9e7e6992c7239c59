"""Does the autoencoder bring voxel series closer to their noise-free truth? And does PCA do it better?

For each seed: a synthetic sample with planted networks, its voxel table, an autoencoder trained on it by Downpour SGD,
one subject held out. Then, for the voxels in planted networks, the Pearson correlation of the noise-free series with
the raw series, with the autoencoder's reconstruction, and with PCA's at the number of components that correlates best
(chosen with the truth in hand, which favours PCA). The last line is one JSON object.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sparkneuro.session import prepare_environment, start_session, stop_session

# A voxel is in a network where its map is at least this share of the strongest map.
INSIDE = 0.5
COMPONENTS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 50, 71, 142)


@dataclass
class Subject:
    """Series of one subject's voxels in networks, as measured and without noise."""

    raw: object
    truth: object


def correlate(a, b):
    """Pearson correlation of each row of `a` with that of `b`."""
    import numpy as np

    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    return (a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))


def read_subjects(table, sample):
    """Series in networks, subject by subject; and all series of a run, to fit PCA on."""
    import numpy as np

    from sparkneuro.data.nifti import read_volume

    truth_folder = Path(sample) / "derivatives" / "truth"
    mask = table.mask()
    strength = read_volume(str(truth_folder / "networks.nii.gz"))[0][mask].max(axis=1)
    subjects, everything = {}, {}
    for run in table.runs:
        blocks = [table.read_block(run, block) for block in range(table.n_blocks)]
        voxel, series = (np.concatenate(part) for part in zip(*blocks, strict=True))
        truth = read_volume(str(truth_folder / f"{run.key}_desc-truth_bold.nii.gz"))[0][mask][voxel]
        inside = strength[voxel] > INSIDE * strength.max()
        subjects[run.subject], everything[run.subject] = Subject(series[inside], truth[inside]), series
    return subjects, everything


def measure_pca(subjects, everything, training, held_out):
    """Mean r of PCA's reconstructions for each number of components, fitted on the training subjects."""
    import numpy as np

    from sparkneuro.analysis.pca import accumulate, fit_components, reconstruct

    pca = fit_components(accumulate(np.concatenate([everything[subject] for subject in training])))
    return {k: mean_r(subjects, held_out, lambda x, k=k: reconstruct(x, pca, k)) for k in COMPONENTS}


def mean_r(subjects, which, reconstruct):
    """Mean over voxels and subjects of the correlation with the truth."""
    import numpy as np

    return float(np.mean([correlate(reconstruct(subjects[s].raw), subjects[s].truth).mean() for s in which]))


def run_seed(spark, seed, options):
    """Everything for one seed, in a folder that is removed."""
    import keras

    from sparkneuro.data.samples import write_synthetic
    from sparkneuro.data.voxel_table import VoxelTable
    from sparkneuro.pipelines import ingest, train_dca
    from sparkneuro.train.model_folder import read_model_bytes, read_record, unpack_model

    with tempfile.TemporaryDirectory(prefix="sparkneuro-benchmark-") as folder:
        sample, table_path, model_path = (f"{folder}/{name}" for name in ("sample", "motor.voxels", "dca.model"))
        write_synthetic(sample, seed=seed)
        ingest.run(ingest.Settings(sources=(sample,), output=table_path), spark)
        settings = train_dca.Settings(
            table_path, output=model_path, preset=options.preset, epochs=options.epochs, batch_size=options.batch_size,
            learning_rate=options.learning_rate, workers=2, seed=seed, validation_subjects=("05",),
        )  # fmt: skip
        train_dca.run(settings, spark)
        model, table = unpack_model(read_model_bytes(model_path)), VoxelTable.open(table_path)
        history = read_record(model_path)["history"]
        subjects, everything = read_subjects(table, sample)
    training, held_out = ["01", "02", "03", "04"], ["05"]
    pca = measure_pca(subjects, everything, training, held_out)
    best = max(pca, key=pca.get)
    return {
        "seed": seed,
        "raw_r": mean_r(subjects, held_out, lambda x: x),
        "autoencoder_r": mean_r(subjects, held_out, lambda x: keras.ops.convert_to_numpy(model(x))),
        "from_features_r": mean_r(subjects, held_out, lambda x: keras.ops.convert_to_numpy(model.decoder(model.encoder(x)))),
        "pca_best_r": pca[best],
        "pca_best_components": best,
        "autoencoder_r_training_subjects": mean_r(subjects, training, lambda x: keras.ops.convert_to_numpy(model(x))),
        "validation_loss": history[-1]["validation_loss"],
    }


def main():
    """Measure, print a table, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--preset", default="dca", help="network (default: dca)")
    parser.add_argument("--epochs", type=int, default=10, help="default: 10")
    parser.add_argument("--batch-size", type=int, default=256, help="default: 256")
    parser.add_argument("--learning-rate", type=float, default=0.01, help="default: 0.01")
    parser.add_argument("--quick", action="store_true", help="one seed, two epochs of tiny: shows that it runs")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.epochs, options.preset = options.seeds[:1], 2, "tiny"
    spark = start_session(master="local[2]", app_name="benchmark denoising")
    try:
        results = [run_seed(spark, seed, options) for seed in options.seeds]
    finally:
        stop_session(spark)
    names = ("raw_r", "autoencoder_r", "from_features_r", "pca_best_r")
    print(f"{'seed':>4} " + " ".join(f"{name:>16}" for name in names) + f" {'components':>11}")
    for r in results:
        print(f"{r['seed']:4d} " + " ".join(f"{r[name]:16.4f}" for name in names) + f" {r['pca_best_components']:11d}")
    means = {name: round(sum(r[name] for r in results) / len(results), 4) for name in names}
    print(json.dumps({**means, "preset": options.preset, "epochs": options.epochs, "seeds": results}))


if __name__ == "__main__":
    prepare_environment()
    main()
