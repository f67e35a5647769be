import os

from annlib.garbage import collect_seldom

# What one test compiles must not be there for the next, nor lie in the user's cache.
os.environ.setdefault("TF_XLA_FLAGS", "")
collect_seldom()
