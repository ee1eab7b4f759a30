"""Exceptions whose messages say what was expected, what came, and what to do."""


class QCANetError(Exception):
    """Error in the user's input or data, in one line; the CLI exits with status 2."""


class InputError(QCANetError):
    """Invalid image, table or argument."""


class OutputError(QCANetError):
    """Result that cannot be written."""


class ModelError(QCANetError):
    """Invalid model reference, bundle or weights file."""


class StudyError(QCANetError):
    """Study that cannot be started, resumed or promoted."""


class ClusterError(QCANetError):
    """Ray cluster that does not respond, or fails a request."""


class MissingPackageError(QCANetError, ImportError):
    """Missing package of an optional extra."""


class RegistryError(QCANetError):
    """MLflow server, run or registered model that is unreachable or unusable."""
