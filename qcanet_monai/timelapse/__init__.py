"""Series over time: links, lineages, criteria, volumes."""
