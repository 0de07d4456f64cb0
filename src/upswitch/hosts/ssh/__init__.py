"""A machine behind SSH, as a host. Begin with host.py; connection.py opens the connection, streams.py all that goes over it."""
