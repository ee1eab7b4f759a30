"""YAML files of the shipped studies."""
