"""What was measured of embryos, as figures and one page that needs nothing else."""
