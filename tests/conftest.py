"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# No deadline: a slow machine is not a failure. The blob printed with a failure replays it anywhere.
settings.register_profile("perdure", deadline=None, print_blob=True)
settings.load_profile("perdure")
