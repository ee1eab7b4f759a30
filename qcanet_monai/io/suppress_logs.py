"""Keep what the file libraries log about bad files off the terminal: the error tells it in one line."""

import contextlib
import logging
import threading
from collections.abc import Iterator

__all__ = ["one_line", "suppress_logs"]


@contextlib.contextmanager
def suppress_logs(name: str) -> Iterator[list[logging.LogRecord]]:
    """Catch this thread's log records of the logger `name` and keep them from being shown.

    A filter, unlike switching handlers or levels, can be added and removed by several threads at once.

    Parameters
    ----------
    name : str
        The logger's name.

    Yields
    ------
    list of LogRecord
        The records caught so far; it grows while the body runs.
    """
    caught: list[logging.LogRecord] = []
    thread = threading.get_ident()

    def keep(record: logging.LogRecord) -> bool:
        if record.thread not in (None, thread):
            return True
        caught.append(record)
        return False

    logger = logging.getLogger(name)
    logger.addFilter(keep)
    try:
        yield caught
    finally:
        logger.removeFilter(keep)


def one_line(error: BaseException) -> str:
    """Return a library's message as one short line, or the kind of error where it has none."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."
