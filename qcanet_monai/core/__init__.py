"""Arrays in, arrays out: resampling, markers, watershed, overlap, metrics, nucleus tables."""
