"""What can be wrong with a problem or a file; every message names the thing, what was found and what was expected."""


class ProblemError(ValueError):
    """A problem that means nothing: the message names the field, its value and what was expected."""


class ShapeError(ProblemError):
    """An array of the wrong shape: the message names the array, its shape and the expected one."""


class FileError(ValueError):
    """A file that is no problem file: truncated, oversized, of another version, or holding no valid problem."""
