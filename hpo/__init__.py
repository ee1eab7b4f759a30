"""Ships the studies with the package; see its YAML files."""
