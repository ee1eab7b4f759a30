"""Suppressed logs of file libraries, and their errors in one line."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from os import PathLike

from qcanet_monai.errors import InputError


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


@contextlib.contextmanager
def log_level(level: int, *names: str) -> Iterator[None]:
    """Set the level of loggers, and so of their children, while the body runs."""
    before = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(level)
        yield
    finally:
        for name, own in before.items():
            logging.getLogger(name).setLevel(own)


@contextlib.contextmanager
def reading(path: str | PathLike[str], expected: str) -> Iterator[None]:
    """Raise every failure of the body as an `InputError` about the file `path`."""
    try:
        yield
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory: crop the image") from error
    # a damaged file makes libraries and codecs raise errors of almost any kind
    except Exception as error:
        text, mend = one_line(error), "copy or export it again"
        if "imagecodecs" in text:
            mend = "pip install imagecodecs, or save the file uncompressed"
        raise InputError(f"{path}: expected {expected}, got an error ({text}): {mend}") from error


def one_line(error: BaseException) -> str:
    """Return an error's message, or its type, in at most 160 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."
