"""Targets of trainings."""
