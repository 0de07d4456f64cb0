"""A container that nginx runs in, as a host: on this machine, or on one behind SSH."""
