"""Exceptions whose messages say what was expected, what came, and what to do."""

from collections.abc import Iterator


class QCANetError(Exception):
    """Error in the user's input or data, in one line; the CLI exits with status 2."""

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())  # names in a message may hold line breaks


class DataWarning(UserWarning):
    """Doubt about the user's data, in one line; the CLI prints it on stderr."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes; MONAI wraps what a component raises."""
    while error is not None:
        yield error
        error = error.__cause__


def root_cause(error: BaseException) -> BaseException:
    """Return an error's first QCANetError, or the last of its causes."""
    chain = [*causes(error)]
    return next((cause for cause in chain if isinstance(cause, QCANetError)), chain[-1])


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
