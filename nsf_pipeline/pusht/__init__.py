"""The PushT simulator: exact stepping, geometry and video. Knows nothing of JAX."""
