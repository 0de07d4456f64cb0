"""Blue/green switching of nginx upstreams, with a gate, proof, and a way back."""

__version__ = "0.1.0"
