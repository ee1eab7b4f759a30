"""Training targets made from instance labels."""
