"""Networks, losses and learning-rate schedules."""
