"""upswitch.health.types."""
