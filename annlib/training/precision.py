"""The type of computations, and whether this machine is faster with it."""

from pathlib import Path

from annlib.errors import ConfigError

# Of processors that multiply matrices of bfloat16 by themselves; others convert each value. None does so with float16.
_PROCESSOR_FLAGS = {"amx_bf16", "avx512_bf16"}
# The first generation of NVIDIA's GPUs that does: Volta, Ampere.
_COMPUTE_CAPABILITY = {"mixed_float16": (7, 0), "mixed_bfloat16": (8, 0)}


def check_precision(precision: str) -> None:
    """Checks that the processor, or the GPU where there is one, is faster with it than with float32.

    Raises:
        ConfigError: a mixed precision is not faster here.
    """
    if precision not in _COMPUTE_CAPABILITY:
        return
    import tensorflow as tf

    least = _COMPUTE_CAPABILITY[precision]
    expected = f"a GPU of compute capability {least[0]}.{least[1]} or more"
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        received = ".".join(map(str, capability))
        is_faster = capability >= least
    elif precision == "mixed_float16":
        received, is_faster = "none", False
    else:
        flags = _processor_flags()
        vectors = sorted(flag for flag in flags if flag.startswith(("avx", "amx")))
        expected, received = "a processor with AMX or AVX512-BF16", ", ".join(vectors) or "neither"
        is_faster = bool(flags & _PROCESSOR_FLAGS)
    if not is_faster:
        raise ConfigError(
            f"--precision {precision} would be slower than float32 here: expected {expected}, received {received}. "
            "Leave it out."
        )


def _processor_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith("flags") for flag in line.partition(":")[2].split()}
