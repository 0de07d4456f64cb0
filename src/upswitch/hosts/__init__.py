"""upswitch.hosts."""
