"""Connection to a Ray cluster, started locally or already running."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import IO

from qcanet_monai.errors import ClusterError
from qcanet_monai.optional import need


@contextmanager
def ray_cluster(address: str | None = None) -> Iterator[dict[str, float]]:
    """Connect to Ray while the body runs; yield its resources (``CPU``, ``GPU``).

    Parameters
    ----------
    address
        ``auto`` or ``host:port`` of a running cluster; if None, start Ray on this machine's loopback.

    Raises
    ------
    ClusterError
        If the cluster does not respond.
    """
    need("ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # send no usage data
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # work without a GPU sees none
    if address is not None and ":" in address:
        _check_answers(address)
    import ray

    options = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"} if address is None else {}
    with tempfile.TemporaryFile() as log:  # Ray's C++ writes a line per second and attempt
        try:
            with _stderr_to(log) if address is not None else nullcontext():
                ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **options)
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            log.seek(0)
            raise _no_cluster(address, error, log.read().decode(errors="replace")) from error
    try:
        yield ray.cluster_resources()
    finally:
        ray.shutdown()


def _no_cluster(address: str | None, error: Exception, log: str) -> ClusterError:
    """Return one line for a cluster that cannot be used."""
    if "InvalidAuthToken" in log or "token" in str(error).lower():
        return ClusterError(
            f"expected the token of the Ray cluster at {address}, got another or none: set "
            "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file of the token"
        )
    place = "on this machine" if address is None else f"at {address}"
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return ClusterError(f"expected a Ray cluster {place}, got no answer ({reason}): start it")


@contextmanager
def _stderr_to(log: IO[bytes]) -> Iterator[None]:
    """Write what this process prints to stderr, C++ included, to a file."""
    sys.stderr.flush()
    before = os.dup(2)
    os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _check_answers(address: str) -> None:
    """Fail within 10 s, where Ray would retry for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"expected a Ray cluster at {address}, got {str(error) or type(error).__name__}: start it, or "
            "leave --address out to use this machine"
        ) from error
