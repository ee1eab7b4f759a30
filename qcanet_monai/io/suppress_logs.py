"""Suppressed logs of file libraries, and their errors in one line."""

import contextlib
import logging
import threading
from collections.abc import Iterator

__all__ = ["one_line", "suppress_logs"]


@contextlib.contextmanager
def suppress_logs(name: str) -> Iterator[list[logging.LogRecord]]:
    """Hide this thread's records of the logger `name`, and yield a list of them.

    The list grows while the body runs. Uses a filter, because several threads can add and remove filters at
    once, unlike handlers and levels.
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
    """Return an error's message, or its type, in at most 160 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."
