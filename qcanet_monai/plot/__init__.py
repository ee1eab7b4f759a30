"""Pictures of volumes and labels."""
