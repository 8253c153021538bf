"""The PushT simulator: exact stepping, geometry and video. Knows nothing of JAX."""

import os

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # gym-pusht draws with pygame
