"""What is wrong with a file: errors of Python's own kinds, which are ValueErrors too, as a user's mistakes are."""


class Missing(ValueError, FileNotFoundError):
    """A file that is not there."""


class Exists(ValueError, FileExistsError):
    """A file that is there already and is not to be replaced."""
