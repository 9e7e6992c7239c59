"""Checks of arguments, raised at the door of a public function."""

from numbers import Integral, Real

from sparkneuro.errors import SettingsError


def check_number(name, value, minimum=None, maximum=None, integer=False, exclusive=False):
    """Return `value` when it is a number within its bounds.

    Parameters
    ----------
    name : str
        Name of the argument, as the user knows it.
    value : object
        What came.
    minimum, maximum : float or None
        Bounds, inclusive.
    integer : bool
        Whether only whole numbers are right.
    exclusive : bool
        Whether `minimum` itself is wrong too.

    Returns
    -------
    value : int or float
        The value, unchanged.

    Raises
    ------
    SettingsError
        When it is no number, or out of bounds.

    Examples
    --------
    >>> check_number("n_workers", 2, minimum=1, integer=True)
    2
    """
    kind = "a whole number" if integer else "a number"
    bounds = []
    if minimum is not None:
        bounds.append(f"{'above' if exclusive else 'of at least'} {minimum}")
    if maximum is not None:
        bounds.append(f"of at most {maximum}")
    expected = " ".join([kind, " and ".join(bounds)]).strip()
    right_type = isinstance(value, Integral if integer else Real) and not isinstance(value, bool)
    if not right_type or value != value:
        raise SettingsError(f"{name} must be {expected}; got {value!r}.")
    too_small = minimum is not None and (value < minimum or (exclusive and value == minimum))
    if too_small or (maximum is not None and value > maximum):
        raise SettingsError(f"{name} must be {expected}; got {value!r}.")
    return value


def check_choice(name, value, choices):
    """Return `value` when it is one of `choices`.

    Parameters
    ----------
    name : str
        Name of the argument, as the user knows it.
    value : object
        What came.
    choices : sequence
        What is right.

    Returns
    -------
    value : object
        The value, unchanged.

    Raises
    ------
    SettingsError
        When it is none of them.

    Examples
    --------
    >>> check_choice("precision", "float32", ("float32", "mixed_bfloat16"))
    'float32'
    """
    if value not in choices:
        raise SettingsError(f"{name} must be one of {', '.join(map(str, choices))}; got {value!r}.")
    return value
