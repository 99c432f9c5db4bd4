"""Property tests here take a few dozen examples each; busy machines break no deadline."""

from hypothesis import settings

settings.register_profile("core", deadline=None, max_examples=30, database=None)
settings.load_profile("core")
