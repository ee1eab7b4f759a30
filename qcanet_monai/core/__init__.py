"""Array functions without I/O: resampling, instances, metrics, measurements."""
