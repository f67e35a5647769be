"""What TensorFlow takes of a machine: threads, the GPUs, which it would take whole, and servers, which others reach."""

import tensorflow as tf

from annlib.training.loopback import is_on_loopback, keep_servers_to_loopback
from annlib.training.messages import prepare_messages


def use_threads(count: int, *, use_gpu: bool = False) -> None:
    """Sets the number of threads, of an operation and for operations, before TensorFlow's first operation.

    Those for operations are as many as the machine has cores, otherwise: two workers of one CPU each on two cores train
    Fashion-MNIST's classifier 5 to 8 % slower with them. Operations on GPUs keep them: they wait for the GPU.
    """
    tf.config.threading.set_intra_op_parallelism_threads(count)
    if not use_gpu:
        tf.config.threading.set_inter_op_parallelism_threads(count)


def prepare_gpus(*, given: bool) -> bool:
    """Prepares the GPUs before TensorFlow's first operation.

    Args:
        given: False hides all of them: Ray leaves those of a machine in sight of workers that asked for none.

    Returns:
        True where the process has one.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if not given:
        tf.config.set_visible_devices([], "GPU")
        return False
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    return bool(gpus)


def multi_worker_strategy(*, has_gpu: bool) -> tf.distribute.MultiWorkerMirroredStrategy:
    """Returns the strategy of all workers in TF_CONFIG, whose collectives go by NCCL where they have GPUs.

    Where all of them are on this machine, no other reaches them.

    Left to itself, TensorFlow takes its own ring over gRPC, for GPUs as well: `AssignCollectiveType` in its
    collective_param_resolver_local.cc uses NCCL only where it is asked for.
    """
    kinds = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(implementation=kinds.NCCL if has_gpu else kinds.AUTO)
    if not has_gpu:
        prepare_messages()
    strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    if is_on_loopback():
        keep_servers_to_loopback()
    return strategy
