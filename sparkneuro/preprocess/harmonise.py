"""ComBat: remove what a site adds to and multiplies every voxel's value by, and keep what covariates explain (neuroHarmonize).

One value a subject and voxel, e.g. the log of the temporal standard deviation. The model is fitted on training subjects alone;
others are only transformed, each by itself. Sites' effects on a voxel are shrunk towards those on all voxels (empirical Bayes),
so all voxels are fitted together: in float64, about `COPIES` times the training values are in memory at once.
"""

import contextlib
import io
from dataclasses import dataclass, fields

import numpy as np

from sparkneuro.data import store
from sparkneuro.errors import FormatError, SettingsError, require

COPIES = 7
"""Arrays of the size of the training values, in float64, that a fit holds at once."""


@dataclass(frozen=True, eq=False)
class CombatModel:
    """A fitted ComBat model.

    Parameters
    ----------
    sites : ndarray of shape (n_sites,), str
        Sorted.
    covariates : ndarray of shape (n_covariates,), str
        Names of the columns.
    kept : ndarray of shape (n_voxels,), bool
        Voxels that the model holds for: finite in all training subjects, and not the same in all.
    coefficients : ndarray of shape (n_sites + n_covariates, n_kept)
        What each site and covariate adds to the value.
    mean : ndarray of shape (n_kept,)
        Value of the average site, covariates 0.
    variance : ndarray of shape (n_kept,)
        Of the residuals of all sites.
    shift : ndarray of shape (n_sites, n_kept)
        What each site adds, in standard deviations.
    scale : ndarray of shape (n_sites, n_kept)
        What each site multiplies the variance by.
    """

    sites: np.ndarray
    covariates: np.ndarray
    kept: np.ndarray
    coefficients: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    shift: np.ndarray
    scale: np.ndarray

    def apply(self, values, sites, covariates):
        """Harmonise values of subjects, each by itself.

        Parameters
        ----------
        values : ndarray of shape (n_subjects, n_voxels)
            Values as they were measured; NaN where there is none.
        sites : sequence of str
            Site of each subject, one of the model's.
        covariates : ndarray of shape (n_subjects, n_covariates)
            Their covariates.

        Returns
        -------
        harmonised : ndarray of shape (n_subjects, n_kept), float64
            Of the voxels of `kept`; NaN stays NaN.

        Raises
        ------
        SettingsError
            When a site is not one of the model's.
        """
        strange = sorted(set(sites) - set(self.sites.tolist()))
        if strange:
            raise SettingsError(f"the model knows the sites {', '.join(self.sites)}; it cannot harmonise {', '.join(strange)}.")
        harmonise = require("neuroHarmonize", "cohort").harmonizationApply
        # The library counts sites from 0 among those that it is given, so every site of the model must be there.
        present = np.vstack([np.asarray(values, np.float64)[:, self.kept], np.tile(self.mean, (len(self.sites), 1))])
        known = np.vstack([covariates, np.zeros((len(self.sites), len(self.covariates)))])
        table = _tabulate([*sites, *self.sites.tolist()], known, self.covariates)
        return harmonise(present, table, self._library_model())[: len(values)]

    def save(self, path):
        """Write the model as ``.npz``, atomically; equal models give equal bytes.

        Parameters
        ----------
        path : str
            Path or URI.
        """
        content = io.BytesIO()
        np.savez(content, **{field.name: getattr(self, field.name) for field in fields(self)})
        store.write_bytes(path, content.getbuffer())

    @classmethod
    def load(cls, path):
        """Read a model that `save` wrote.

        Parameters
        ----------
        path : str
            Path or URI.

        Returns
        -------
        model : CombatModel
            The model.

        Raises
        ------
        FormatError
            When it is damaged, or something else.
        """
        try:
            with np.load(io.BytesIO(store.read_bytes(path)), allow_pickle=False) as content:
                return cls(**{field.name: content[field.name] for field in fields(cls)})
        except (ValueError, KeyError, EOFError, OSError) as error:
            if isinstance(error, (FormatError, PermissionError)):
                raise
            raise FormatError(f"{path}: this is no ComBat model ({error!r}); fit it again.") from error

    def _library_model(self):
        return {
            "SITE_labels": self.sites, "B_hat": self.coefficients, "stand_mean": self.mean[:, None],
            "var_pooled": self.variance[:, None], "gamma_star": self.shift, "delta_star": self.scale,
            "info_dict": {"ref_level": None}, "smooth_model": {"perform_smoothing": False, "smooth_cols": []},
        }


def fit_combat(values, sites, covariates, names=()):
    """Fit ComBat.

    Parameters
    ----------
    values : ndarray of shape (n_subjects, n_voxels)
        Values of the training subjects; NaN where there is none.
    sites : sequence of str
        Site of each subject.
    covariates : ndarray of shape (n_subjects, n_covariates)
        Their covariates, whose effect is kept.
    names : sequence of str
        Names of the covariates.

    Returns
    -------
    model : CombatModel
        The model.

    Raises
    ------
    SettingsError
        When a site has fewer than two subjects, sites and covariates cannot be told apart, or no voxel is left.
    MissingExtraError
        Without neuroHarmonize.
    """
    check_design(sites, covariates, names)
    learn = require("neuroHarmonize", "cohort").harmonizationLearn
    values = np.asarray(values)
    kept = np.isfinite(values).all(axis=0)
    kept[kept] = np.ptp(values[:, kept], axis=0) > 0
    if kept.sum() < 2:
        raise SettingsError("combat needs voxels that all training subjects have; there are none, so use another mask.")
    with contextlib.redirect_stdout(io.StringIO()), np.errstate(invalid="ignore", divide="ignore"):
        fitted, _ = learn(values[:, kept].astype(np.float64), _tabulate(sites, covariates, names), seed=0)
    return CombatModel(
        np.asarray(fitted["SITE_labels"], str), np.asarray(names, str), kept, fitted["B_hat"], fitted["stand_mean"][:, 0].copy(),
        np.asarray(fitted["var_pooled"])[:, 0], np.asarray(fitted["gamma_star"]), np.asarray(fitted["delta_star"]),
    )


def check_design(sites, covariates, names=()):
    """Check that a model of sites and covariates can be fitted.

    Parameters
    ----------
    sites : sequence of str
        Site of each training subject.
    covariates : ndarray of shape (n_subjects, n_covariates)
        Their covariates.
    names : sequence of str
        Names of the covariates.

    Raises
    ------
    SettingsError
        When there is one site only, a site has fewer than two subjects, or sites and covariates cannot be told apart.
    """
    labels, counts = np.unique(np.asarray(sites, str), return_counts=True)
    if len(labels) < 2:
        raise SettingsError("combat harmonises data sets with each other; there must be two with training subjects at least.")
    if counts.min() < 2:
        few = labels[counts < 2][0]
        raise SettingsError(f"combat needs two training subjects of each data set at least; {few} has one.")
    design = np.hstack([np.asarray(sites)[:, None] == labels, covariates]).astype(np.float64)
    size = np.abs(design).max(axis=0)
    if np.linalg.matrix_rank(design / np.where(size > 0, size, 1)) < design.shape[1]:
        words = ", ".join(names) or "none"
        who = "in the training subjects"
        raise SettingsError(f"combat cannot tell data sets and covariates ({words}) apart {who}; leave one out.")


def code_covariates(rows, names):
    """Turn columns of a participants table into numbers: words become one column of 0 and 1 for each but the first.

    Parameters
    ----------
    rows : dict of str to dict of str to str
        Columns by name, by label of the subject.
    names : sequence of str
        Columns that are wanted.

    Returns
    -------
    matrix : ndarray of shape (n_subjects, n_columns), float64
        In the order of `rows`.
    columns : list of str
        What each column of it is, e.g. ``age`` or ``sex=M``.

    Raises
    ------
    SettingsError
        When a column is missing, or a subject's value is.

    Examples
    --------
    >>> rows = {"01": {"age": "31", "sex": "F"}, "02": {"age": "45.5", "sex": "M"}}
    >>> matrix, columns = code_covariates(rows, ["age", "sex"])
    >>> matrix.tolist(), columns
    ([[31.0, 0.0], [45.5, 1.0]], ['age', 'sex=M'])
    """
    parts, columns = [np.empty((len(rows), 0))], []
    for name in names:
        words = {label: row.get(name, "n/a").strip() for label, row in rows.items()}
        lacking = [label for label, word in words.items() if word.lower() in ("", "n/a", "nan")]
        if lacking:
            some = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
            raise SettingsError(f"the covariate {name} is unknown for {some}; give it in participants.tsv, or leave it out.")
        try:
            parts.append(np.array([float(word) for word in words.values()])[:, None])
            columns.append(name)
        except ValueError:
            levels = sorted(set(words.values()))[1:]
            parts.append(np.array([[word == level for level in levels] for word in words.values()], np.float64))
            columns += [f"{name}={level}" for level in levels]
    matrix = np.hstack(parts)
    if not np.isfinite(matrix).all():
        raise SettingsError(f"covariates must be finite numbers or words; {', '.join(names)} hold something else.")
    return matrix, columns


def _tabulate(sites, covariates, names):
    frame = require("pandas", "cohort").DataFrame({"SITE": list(map(str, sites))})
    for name, column in zip(names, np.asarray(covariates, np.float64).T, strict=True):
        frame[str(name)] = column
    return frame
