"""From the best run to a registered version."""
