"""What a fit of an encoding model over a voxel table is asked to do."""

from dataclasses import dataclass

from sparkneuro.encoding.choice import CRITERIA
from sparkneuro.encoding.inputs import check_alphas
from sparkneuro.encoding.kfold import SCORINGS
from sparkneuro.encoding.search import SEARCHES
from sparkneuro.errors import SettingsError
from sparkneuro.validation import check_choice, check_number

SPLITS = ("runs", "random", "none")
ALPHAS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6)
"""Penalties to choose from where none are given: a climb tries three or four of them, however many there are."""
THESIS_ALPHAS = (0.1, 1.0, 100.0, 200.0, 300.0, 400.0, 600.0, 800.0, 900.0, 1000.0, 1200.0)
"""Those of Ahmadi 2025, to compare with."""


@dataclass(frozen=True)
class EncoderSettings:
    """Settings of a fit.

    Parameters
    ----------
    features : tuple of str
        Feature tables, one a feature space.
    output : str
        Folder of the model, on a filesystem that all machines share.
    delays : tuple of int
        In scans; each feature enters once a delay.
    alphas : tuple of float
        Penalties to choose from, ascending.
    criterion : str or None
        See `fit_ridge`; leaving one run out when absent.
    alpha_per_target : bool
        Whether each target has its own penalty; else all targets of a subject have one.
    search : {"climb", "exhaustive"}
        See `fit_ridge`.
    n_folds : int
        Folds of "kfold".
    scoring : {"l2", "correlation"}
        What "kfold" compares.
    standardize : bool
        Whether each feature is z-scored over the training scans.
    n_gammas : int
        Weightings of the feature spaces that are tried; 1 weighs all alike.
    split : {"runs", "random", "none"}
        What is held out to score the model: whole runs, random scans (which leak), or nothing.
    test_runs : tuple of str
        Names of held-out runs, such as ``task-movie_run-8``; drawn when empty.
    test_fraction : float
        Share of runs, or of scans, that is drawn.
    coefficients, predictions : bool
        Whether coefficients, and predictions of held-out scans, are kept.
    seed : int
        Of what is drawn.
    """

    features: tuple
    output: str
    delays: tuple = (0,)
    alphas: tuple = ALPHAS
    criterion: str | None = None
    alpha_per_target: bool = False
    search: str = "climb"
    n_folds: int = 5
    scoring: str = "l2"
    standardize: bool = True
    n_gammas: int = 1
    split: str = "runs"
    test_runs: tuple = ()
    test_fraction: float = 0.1
    coefficients: bool = True
    predictions: bool = True
    seed: int = 0

    def check(self):
        """Refuse settings that make no sense, alone or together.

        Raises
        ------
        SettingsError
            With one sentence.
        """
        if not self.features:
            raise SettingsError("features must name at least one feature table; got none.")
        check_alphas(self.alphas)
        if self.criterion is not None:
            check_choice("criterion", self.criterion, CRITERIA)
        for name, choices in (("search", SEARCHES), ("scoring", SCORINGS), ("split", SPLITS)):
            check_choice(name, getattr(self, name), choices)
        if self.scoring != "l2" and self.criterion != "kfold":
            raise SettingsError(f"scoring must be l2 unless criterion is kfold; got {self.scoring}.")
        for name, minimum in (("n_folds", 2), ("n_gammas", 1), ("seed", 0)):
            check_number(name, getattr(self, name), minimum, integer=True)
        check_number("test_fraction", self.test_fraction, 0, 1, exclusive=True)
        if self.test_runs and self.split != "runs":
            raise SettingsError(f"test_runs must be left out unless split is runs; got split {self.split}.")
        if self.n_gammas > 1 and len(self.features) == 1:
            raise SettingsError(f"n_gammas must be 1 with a single feature table; got {self.n_gammas}.")
        if not self.delays or len(set(self.delays)) != len(self.delays):
            raise SettingsError(f"delays must be whole numbers of scans, each once; got {self.delays}.")
        for delay in self.delays:
            check_number("delays", delay, integer=True)
