"""Connection to a Ray cluster, started locally or already running."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

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
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ClusterError(
            f"expected a Ray cluster at {address}, got no answer ({reason}): start it"
        ) from error
    try:
        yield ray.cluster_resources()
    finally:
        ray.shutdown()


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
