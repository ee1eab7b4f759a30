"""Time-lapse analysis: linking, lineages, criteria and volumes."""
