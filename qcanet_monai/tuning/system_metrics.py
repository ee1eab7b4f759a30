"""Load of the machine during a trial, measured with MLflow's own monitors."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

SECONDS = 2.0  # between two samples


class SystemMetrics:
    """Thread that samples CPU, memory and GPUs until `stop`.

    The worker reports the means with each epoch, because it may not reach MLflow's store, such as a sqlite
    file on another machine.
    """

    def __init__(self) -> None:
        self._monitors = _monitors()
        self._lock, self._ended = threading.Lock(), threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            self._sample()
            if self._ended.wait(SECONDS):
                return

    def _sample(self) -> None:
        with self._lock:
            for monitor in self._monitors:
                monitor.collect_metrics()

    def take(self) -> dict[str, float]:
        """Return the means since the last call, under names that MLflow's pages know."""
        self._sample()  # an epoch may be shorter than the interval
        found: dict[str, float] = {}
        with self._lock:
            for monitor in self._monitors:
                found |= {f"system/{name}": float(v) for name, v in monitor.aggregate_metrics().items()}
                monitor.clear_metrics()
        return found

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()


def _monitors() -> list[Any]:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    found: list[Any] = [CPUMonitor()]
    with suppress(ImportError, RuntimeError):  # no nvidia-ml-py, or no GPU
        found.append(GPUMonitor())
    return found
