"""Handlers and the export of trainings."""
