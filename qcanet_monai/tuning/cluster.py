"""A Ray cluster: one of this machine's own, or one that runs already."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from qcanet_monai.errors import StudyError


@contextmanager
def ray_cluster(address: str | None, cpus: float, gpus: float) -> Iterator[None]:
    """Connect to Ray while the body runs; without an address, start it on this machine's loopback.

    Parameters
    ----------
    address
        ``auto`` or ``host:port`` of a running cluster.
    cpus, gpus
        What one trial needs.

    Raises
    ------
    StudyError
        If the cluster does not answer, or this machine is too small for a trial.
    """
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
        raise StudyError(f"expected a Ray cluster at {address}, got no answer ({reason})") from error
    try:
        here = ray.cluster_resources()
        if address is None and (here.get("CPU", 0) < cpus or here.get("GPU", 0) < gpus):  # clusters may grow
            raise StudyError(
                f"a trial needs {cpus:g} CPU and {gpus:g} GPU, this machine has {here.get('CPU', 0):g} and "
                f"{here.get('GPU', 0):g}: lower the study's resources or give --address"
            )
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Ray itself would go on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise StudyError(
            f"expected a Ray cluster at {address}, got {str(error) or type(error).__name__}: start it, or "
            "leave --address out to use this machine"
        ) from error
