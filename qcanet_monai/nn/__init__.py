"""Networks, losses, optimisers and learning-rate schedules."""
