"""The one exception family: each message says what was expected, what came, and what to do."""


class QCANetError(Exception):
    """A user's mistake or a limit of their data, told in one line; the CLI prints it and exits 2."""


class InputError(QCANetError):
    """An image or table that cannot be what it is said to be."""


class OutputError(QCANetError):
    """A result that cannot be written where it was asked for."""


class ModelError(QCANetError):
    """A model reference, bundle or weights file that cannot be used."""


class StudyError(QCANetError):
    """A search that cannot be started, continued or promoted from."""


class ClusterError(QCANetError):
    """A Ray cluster that does not answer, or does not do what it was asked."""


class MissingPackageError(QCANetError, ImportError):
    """A package of an optional extra that is not installed."""


class RegistryError(QCANetError):
    """An MLflow server, run or registered model that cannot be reached or used."""
