"""Faults of the machine that reach the command line as plain exceptions: full disks, memory used up, lost processes."""

import errno

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.files import disk_errors

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
_MEMORY = (
    "use smaller images or batches, for example --set train.batch_size=1 --set image.long_side=640, or --device cpu."
)

_TORCH_WANTS_MEMORY = "DefaultCPUAllocator"  # of the RuntimeError that torch raises in place of a MemoryError

_NO_THREAD = "can't start new thread"  # of Python's RuntimeError

# Of the RuntimeErrors of gloo and NCCL, and of Detectron2's `launch`.
_PROCESS_LOST = ("gloo/transport", "remote process exit", "terminated with signal")


def machine_fault(error: Exception) -> str | None:
    """One line that says what is wrong and how to fix it; None if the fault is not the machine's."""
    if isinstance(error, OSError) and error.errno in _DISK:
        try:
            with disk_errors(error.filename or "disk"):
                raise error
        except UserError as fault:
            return str(fault)
    if isinstance(error, MemoryError) or _TORCH_WANTS_MEMORY in str(error):
        return f"memory: it is used up. To need less, {_MEMORY}"
    if type(error).__name__ == "OutOfMemoryError":  # torch's own, named so that torch need not be imported
        return f"device memory: it is used up ({str(error).splitlines()[0]}). To need less, {_MEMORY}"
    if _NO_THREAD in str(error):
        return (
            "threads: no more can be started. Raise the limit on processes (ulimit -u, or the container's limit on "
            "pids), or end other programs, and run the same command again."
        )
    if any(words in str(error) for words in _PROCESS_LOST):
        return (
            "processes: another one of this training has ended. What it said tells why; if it said nothing, it was "
            "killed, perhaps because memory ran out. To go on from the last checkpoint, run the same command again "
            "with --resume."
        )
    return None
