"""upswitch_lab."""
