"""What holds for all tests."""

from hypothesis import settings

# Examples are judged by results: on a busy machine one may take a second for no reason of its own.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
