"""Metrics of label images, detections and tracks."""
