"""A Ray cluster: one of this machine's own, or one that runs already."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from qcanet_monai.errors import ClusterError
from qcanet_monai.optional import need


@contextmanager
def ray_cluster(address: str | None = None) -> Iterator[dict[str, float]]:
    """Connect to Ray while the body runs; without an address, start it on this machine's loopback.

    Lends what the cluster has now: ``CPU``, ``GPU`` where there are any, and so on.

    Parameters
    ----------
    address
        ``auto`` or ``host:port`` of a running cluster.

    Raises
    ------
    ClusterError
        If the cluster does not answer.
    """
    need("ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the machine unasked
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address is not None and ":" in address:
        _check_answers(address)
    import ray

    options = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"} if address is None else {}
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ClusterError(f"expected a Ray cluster at {address}, got no answer ({reason})") from error
    try:
        yield ray.cluster_resources()
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Ray itself would go on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"expected a Ray cluster at {address}, got {str(error) or type(error).__name__}: start it, or "
            "leave --address out to use this machine"
        ) from error
