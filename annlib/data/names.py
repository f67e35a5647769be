"""Names of a table's columns, by which files of another kind than CSV with commas in UTF-8 are told."""

from collections.abc import Sequence

from annlib.errors import DataError, quoted

# What separates values elsewhere.
_SEPARATORS = (";", "\t", "|")


def check_different(path: object, names: Sequence[str]) -> None:
    """Raises DataError where a file has a column twice."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"{path} has two columns of one name: expected different names, received {twice[0]!r} "
            f"{names.count(twice[0])} times. Rename or remove one."
        )


def check_separator(path: object, names: Sequence[str]) -> None:
    """Raises DataError where the names of a CSV file are of one in another encoding, or separated by something else."""
    if any("\0" in name for name in names):
        raise DataError(
            f"{path} holds NUL characters, as in {quoted(names[0])}: expected UTF-8, received another encoding, such "
            "as UTF-16. Convert it."
        )
    if len(names) == 1 and _has_separator(names[0]):
        raise DataError(
            f"{path} has one column, {quoted(names[0])}: expected values separated by commas, received another "
            "separator. Convert it."
        )


def separator_advice(names: Sequence[str]) -> str:
    """Returns what else to do where names are missing and another one may be several; nothing where none looks so."""
    found = [name for name in names if _has_separator(name)]
    return f", or separate values by commas, where {quoted(found[0])} is more than one name" if found else ""


def _has_separator(name: str) -> bool:
    return any(separator in name for separator in _SEPARATORS)
