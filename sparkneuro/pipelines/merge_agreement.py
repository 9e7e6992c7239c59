"""What the data sets of a cohort must have in common: space, unit and repetition time; found out before anything is done."""

from sparkneuro.errors import SettingsError
from sparkneuro.validation import check_number

_NOT_COMMON = ("native", "mixed", "unknown", "")


def find_space(sources, assume, earlier=None):
    """Check that all data sets are in one space.

    Parameters
    ----------
    sources : sequence of Source
        The data sets.
    assume : bool
        Whether they are taken to be in one space whatever they say.
    earlier : dict or None
        Recipe of the table that they join.

    Returns
    -------
    space : str
        The BIDS space; ``unknown`` where it was assumed and they do not agree on one.

    Raises
    ------
    SettingsError
        When they are in different spaces, or in none that is common to subjects.
    """
    spaces = {source.space: source.dataset.name for source in sources}
    if earlier:
        spaces.setdefault(earlier["space"], "the cohort so far")
    named = [space for space in spaces if space not in _NOT_COMMON]
    if assume:
        return named[0] if len(named) == 1 else "unknown"
    remedy = "normalise them to one, choose one with --space, or say --assume-same-space when you know that they lie in one"
    if len(spaces) > 1:
        list_ = ", ".join(f"{name}: {space}" for space, name in spaces.items())
        raise SettingsError(f"a cohort needs one space, and these are in several ({list_}); {remedy}.")
    if not named:
        own = f"a cohort needs a space that its subjects share, and these are in space {next(iter(spaces))}"
        raise SettingsError(f"{own}; {remedy}.")
    return named[0]


def check_units(sources, earlier=None):
    """Check that all series are in one unit, and tell it.

    Parameters
    ----------
    sources : sequence of Source
        The data sets.
    earlier : dict or None
        Recipe of the table that they join.

    Returns
    -------
    units : str
        "z-score" or "source unit".

    Raises
    ------
    SettingsError
        When some are z-scored and others are not.
    """
    units = {source.units: source.dataset.name for source in sources}
    if earlier:
        units.setdefault(earlier["units"], "the cohort so far")
    if len(units) > 1:
        list_ = ", ".join(f"{name}: {unit}" for unit, name in units.items())
        remedy = "ingest them alike; for BIDS folders --standardize and --no-standardize choose"
        raise SettingsError(f"the series of a cohort must be in one unit ({list_}); {remedy}.")
    return next(iter(units))


def agree_on_t_r(wish, sources, others=()):
    """Tell the repetition time that runs are resampled to.

    Parameters
    ----------
    wish : str or None
        ``keep``, a number of seconds, or nothing where all must be the same already.
    sources : sequence of Source
        The data sets.
    others : sequence of float
        Repetition times (s) of runs that are in the cohort already.

    Returns
    -------
    t_r : float or None
        Repetition time (s); None where every run keeps its own.

    Raises
    ------
    SettingsError
        When they differ and nothing is wished, or a run is too short for what is.
    """
    from sparkneuro.preprocess.resample_time import check_resampling, same_t_r

    if wish is None:
        rates = sorted({*others, *(run.t_r for source in sources for run in source.runs)})
        if not same_t_r(rates[0], rates[-1]):
            shown = f"{', '.join(f'{t_r:g}' for t_r in rates[:5])}{', ...' if len(rates) > 5 else ''}"
            remedy = "resample all with --t-r SECONDS, or let each run keep its own with --t-r keep"
            raise SettingsError(f"the runs have different repetition times ({shown} s); {remedy}.")
    if wish in (None, "keep"):
        return None
    for n_scans, own in {(run.n_scans, run.t_r) for source in sources for run in source.runs}:
        check_resampling(n_scans, own, wish)
    return wish


def read_t_r(word):
    """Read the setting `t_r`.

    Parameters
    ----------
    word : str, float or None
        As it was given.

    Returns
    -------
    wish : str, float or None
        ``keep``, or seconds.

    Raises
    ------
    SettingsError
        When it is neither.
    """
    if word in (None, "keep"):
        return word
    try:
        seconds = float(word)
    except ValueError as error:
        raise SettingsError(f"t_r must be a number of seconds, or keep; got {word!r}.") from error
    return check_number("t_r", seconds, minimum=0, maximum=60, exclusive=True)
