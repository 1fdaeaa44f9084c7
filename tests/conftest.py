"""What holds for every test: how long an example takes says something of the machine, not of the code."""

from hypothesis import settings

settings.register_profile("house", deadline=None)
settings.load_profile("house")
