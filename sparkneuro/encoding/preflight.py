"""What a fit will cost, before it costs it: operations, memory, disk and time, and whether all that fits.

Operations are counted from shapes; time follows from the rate of matrix products that was measured on this machine, so it holds
where the executors are like it.
"""

from dataclasses import dataclass

from sparkneuro.encoding.decomposition import EIGH_FLOPS, prefers_kernel
from sparkneuro.encoding.ridge import prefers_gram
from sparkneuro.errors import SettingsError

TRIES_OF_A_CLIMB = 3.5
"""Penalties that a climb tries, on average over targets; between 2.4 and 4.1 was seen."""
EIGH_RATE = 0.33
"""Speed of an eigendecomposition, as a share of that of float64 matrix products."""
TARGET_RATE = 0.7
"""Speed of all work on targets, reading included, as a share of that of float32 matrix products."""


@dataclass(frozen=True)
class Workload:
    """Sizes of a fit.

    Parameters
    ----------
    n_train, n_test, n_features : int
        Of one design, delays included.
    n_runs : int
        Training runs of it.
    n_undelayed : int
        Features before delays.
    n_targets : int
        Of all subjects together.
    n_subjects, n_designs : int
        Subjects, and stimuli among them.
    block_size : int
        Targets of a block.
    n_alphas, n_gammas : int
        Penalties, and weightings of the feature spaces.
    criterion : str
        See `fit_ridge`; "none" for a known penalty.
    alpha_per_target : bool
        Whether each target has its own penalty.
    search : str
        See `fit_ridge`.
    n_folds : int
        Folds of "kfold".
    coefficients, predictions : bool
        What is kept.
    n_slots, task_cores : int
        Tasks that run at the same time, and threads of each.
    """

    n_train: int
    n_test: int
    n_features: int
    n_runs: int
    n_undelayed: int
    n_targets: int
    n_subjects: int
    n_designs: int
    block_size: int
    n_alphas: int
    n_gammas: int
    criterion: str
    alpha_per_target: bool
    search: str
    n_folds: int
    coefficients: bool
    predictions: bool
    n_slots: int
    task_cores: int

    @property
    def kernel(self):
        """Whether the features are decomposed by products of scans."""
        return prefers_kernel(self.n_train, self.n_features)

    @property
    def rank(self):
        """Directions that are kept, at most."""
        return min(self.n_train, self.n_features)

    @property
    def by_gram(self):
        """Whether one penalty is chosen from products of scans with scans."""
        return self.criterion in ("loo", "leave_one_run_out") and prefers_gram(self.n_train, self.rank)


@dataclass(frozen=True)
class Preflight:
    """What a fit will cost.

    Parameters
    ----------
    flops : dict of str to float
        Operations of each step.
    seconds : dict of str to float
        Predicted time of each step.
    driver_bytes, task_bytes, disk_bytes : float
        Private memory of the driver and of one task, and disk of the model's folder at most.
    shared_bytes : float
        Files that tasks map into memory: once a machine, and what does not fit is read again.
    """

    flops: dict
    seconds: dict
    driver_bytes: float
    task_bytes: float
    disk_bytes: float
    shared_bytes: float

    def check(self, memory, disk, n_slots):
        """Refuse what cannot fit.

        Parameters
        ----------
        memory : float
            Bytes of this machine that may be used.
        disk : float or None
            Free bytes where the model will be; None where nobody knows.
        n_slots : int
            Tasks that run at the same time on this machine; 0 where they run on others.

        Raises
        ------
        SettingsError
            With the remedy.
        """
        if self.driver_bytes > memory:
            raise SettingsError(
                f"the decomposition needs {_size(self.driver_bytes)} of memory and this machine has {_size(memory)}: use fewer"
                " features or delays, or a machine with more memory for the driver."
            )
        if self.task_bytes * n_slots > memory:
            fits = int(memory // self.task_bytes)
            remedy = f"run {fits} at a time" if fits else "make a voxel table with smaller blocks (ingest --block-size)"
            raise SettingsError(
                f"{n_slots} tasks at a time need {_size(self.task_bytes * n_slots)} of memory and this machine has"
                f" {_size(memory)}: {remedy}."
            )
        if disk is not None and self.disk_bytes > disk:
            raise SettingsError(
                f"the model needs up to {_size(self.disk_bytes)} of disk and {_size(disk)} are free: free some, choose another"
                " folder, or leave out --coefficients or --predictions."
            )

    def lines(self):
        """Describe the costs for a person.

        Returns
        -------
        lines : dict of str to str
            By step, and memory and disk at the end.
        """
        steps = [step for step in self.flops if self.flops[step]]
        lines = {step: f"{self.flops[step] / 1e12:9.2f} Tflop {_duration(self.seconds[step]):>10}" for step in steps}
        lines["together"] = f"{sum(self.flops.values()) / 1e12:9.2f} Tflop {_duration(sum(self.seconds.values())):>10}"
        lines["memory of the driver"] = _size(self.driver_bytes)
        lines["memory of a task"] = _size(self.task_bytes)
        lines["shared by the tasks of a machine"] = _size(self.shared_bytes)
        lines["disk at most"] = _size(self.disk_bytes)
        return lines


def plan_fit(work, rate32, rate64):
    """Count what a fit costs.

    Parameters
    ----------
    work : Workload
        Its sizes.
    rate32, rate64 : float
        Operations a second of matrix products with all cores that run at the same time, in float32 and float64.

    Returns
    -------
    preflight : Preflight
        The costs.
    """
    flops, seconds = {}, {}

    def step(name, operations, rate):
        flops[name], seconds[name] = float(operations), float(operations) / rate

    n, p, k = work.n_train, work.n_features, work.rank
    size, times = (n if work.kernel else p), work.n_designs * work.n_gammas
    step("Gram matrix", times * n * p * size, rate64)
    step("eigendecomposition", times * EIGH_FLOPS * size**3, rate64 * EIGH_RATE)
    step("singular vectors", times * 2 * n * p * k, rate64)
    if work.criterion == "kfold":
        step("folds", times * work.n_folds * (EIGH_FLOPS * size**3 + n * p * size / work.n_folds), rate64 * EIGH_RATE)
    choosing, fitting = _target_flops(work)
    step("choice of alpha", choosing * work.n_targets, rate32 * TARGET_RATE)
    step("coefficients and scores", fitting * work.n_targets, rate32 * TARGET_RATE)
    return Preflight(flops, seconds, _driver_bytes(work), _task_bytes(work), _disk_bytes(work), _shared_bytes(work))


def _target_flops(work):
    """Operations a target: of choosing its penalty, and of all that follows."""
    n, k = work.n_train, work.rank
    n_results = work.n_test + (work.n_features if work.coefficients else 0)
    project = 2 * n * k
    if work.criterion == "none":
        return 0, min(project + 2 * n_results * k, 2 * n_results * n)
    if work.criterion == "kfold":
        project += 2 * n * work.n_features + 2 * work.n_folds * work.n_features * k
    if work.alpha_per_target:
        tries = work.n_alphas if work.search == "exhaustive" else min(work.n_alphas, TRIES_OF_A_CLIMB)
        tries = 0 if work.criterion == "gcv" else tries
        return work.n_gammas * (project + tries * 2 * n * k), 2 * n_results * k
    sums = n * n if work.by_gram else work.n_gammas * (project + 2 * n * k + k * k)
    return sums, min(2 * n * k + 2 * n_results * k, 2 * n_results * n)


def _driver_bytes(work):
    size = work.n_train if work.kernel else work.n_features
    # The Gram matrix, three times as much for its eigendecomposition; then singular vectors of the other side in float32.
    decomposing = 8 * 4 * size**2 + 4 * work.n_features * work.rank
    if work.n_gammas > 1:
        decomposing += 8 * 2 * size**2  # the Gram matrix that is scaled for each weighting
    if work.criterion == "kfold":
        decomposing += _fold_bytes(work)
    # Sums of one weighting twice, as total and as what is added to it.
    return max(decomposing, 2 * _sum_bytes(work) / (1 if work.by_gram else work.n_gammas))


def _fold_bytes(work):
    """Of what k-fold keeps for one weighting: the features, their V, and bases and projectors of the folds."""
    n, p, k = work.n_train, work.n_features, work.rank
    return 4 * (n * p + p * k + n * (k + 1) + work.n_folds * k * min(p + 1, n))


def _sum_bytes(work):
    """Of the sums from which one penalty for all targets is chosen, but for those that lie in a file."""
    n, k = work.n_train, work.rank
    if work.alpha_per_target or work.criterion == "none":
        return 0
    if work.by_gram:
        return 8 * n**2
    each = {
        "loo": k * k + n * (work.n_alphas + 1), "gcv": k * k, "kfold": work.n_folds * k * k,
        "leave_one_run_out": k * k + n**2 / max(work.n_runs, 1),
    }  # fmt: skip
    return 8 * work.n_gammas * each[work.criterion]


def _cross_bytes(work):
    """Of the sums that lie in a file: targets by projected targets."""
    by_runs = work.criterion == "leave_one_run_out" and not work.by_gram and not work.alpha_per_target
    return 4 * work.n_gammas * work.n_train * work.rank if by_runs else 0


def _task_bytes(work):
    n_scans = work.n_train + work.n_test
    columns = min(work.block_size, work.n_targets)
    n_results = work.n_test + (work.n_features if work.coefficients else 0)
    together = min(columns, max(1, (256 << 20) // (4 * n_scans)))
    # The block twice while it is read, its results, and what is projected at a time, with copies of both for the search.
    block = 4 * columns * (2 * n_scans + n_results) + 4 * together * 3 * (work.rank + work.n_train)
    # The sums, and one product in float32 before it is added.
    sums = _sum_bytes(work) + 4 * (work.n_train**2 if work.by_gram else work.rank**2)
    return 300e6 + max(block, 8 * columns * n_scans + sums)


def _shared_bytes(work):
    n_results = work.n_test + (work.n_features if work.coefficients else 0)
    folds = work.n_designs * work.n_gammas * _fold_bytes(work) if work.criterion == "kfold" else 0
    return 4 * work.n_designs * work.n_gammas * work.rank * (work.n_train + n_results) + folds


def _disk_bytes(work):
    n_results = work.n_test + (work.n_features if work.coefficients else 0)
    kept = 4 * work.n_targets * ((work.n_features if work.coefficients else 0) + (work.n_test if work.predictions else 0) + 10)
    sums = 0
    if not work.alpha_per_target and work.criterion != "none":
        parts = work.n_slots * (_sum_bytes(work) + _cross_bytes(work))
        sums = work.n_subjects * (parts + 4 * n_results * work.n_train)
    return kept + _shared_bytes(work) + sums + 4 * (work.n_train + work.n_test) * work.n_undelayed


def _size(n_bytes):
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if n_bytes < 1000 or unit == "TB":
            return f"{n_bytes:.0f} {unit}" if n_bytes >= 100 or unit == "bytes" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000


def _duration(seconds):
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
