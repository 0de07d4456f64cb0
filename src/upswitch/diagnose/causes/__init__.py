"""upswitch.diagnose.causes."""
