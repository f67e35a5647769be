"""The type of computations, and whether this machine is faster with it."""

from pathlib import Path

from annlib.errors import ConfigError

# Of processors that multiply matrices of bfloat16 by themselves; others convert each value.
_PROCESSOR_FLAGS = {"amx_bf16", "avx512_bf16"}
# Ampere, the first generation of NVIDIA's GPUs that does.
_COMPUTE_CAPABILITY = (8, 0)


def check_precision(precision: str) -> None:
    """Checks that the processor, or the GPU where there is one, is faster with it than with float32.

    Raises:
        ConfigError: bfloat16 is not faster here.
    """
    if precision != "mixed_bfloat16":
        return
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        expected, received = "a GPU of compute capability 8.0 or more", ".".join(map(str, capability))
        is_faster = capability >= _COMPUTE_CAPABILITY
    else:
        flags = _processor_flags()
        vectors = sorted(flag for flag in flags if flag.startswith(("avx", "amx")))
        expected, received = "a processor with AMX or AVX512-BF16", ", ".join(vectors) or "neither"
        is_faster = bool(flags & _PROCESSOR_FLAGS)
    if not is_faster:
        raise ConfigError(
            f"--precision mixed_bfloat16 would be slower than float32 here: expected {expected}, received {received}. "
            "Leave it out."
        )


def _processor_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith("flags") for flag in line.partition(":")[2].split()}
