"""How often Python looks for garbage."""

import atexit
import gc

# Python's own is 700: importing TensorFlow and Keras then takes 7.8 s where it takes 6.4 s with this.
_THRESHOLD = 20_000


def collect_seldom() -> None:
    """Lets Python look for unreachable objects less often, and not at all when the process ends.

    TensorFlow's modules are millions of objects that stay, and are looked through again and again while they are made,
    and once more at the end, which takes 2 s. What nothing refers to any more is freed at once as ever; this is about
    cycles.
    """
    gc.set_threshold(_THRESHOLD)
    atexit.register(gc.freeze)
