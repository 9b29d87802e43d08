"""The memory of the device has run out: the names that torch gives this error, and its sentence. No torch."""

from collections.abc import Callable

from runtime.errors import DeviceError, reason_of

Release = Callable[[], bool]  # gives memory of the device back that is not needed; returns False if there was none

_PHRASES = (
    "CUDA error: out of memory",  # AcceleratorError: the CUDA context, loading of kernels, pinned memory
    "CUDA driver error: out of memory",  # the same in calls of the driver
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    # cuDNN tries its engines in turn, hides the OutOfMemoryError of each one's workspace, and then says this.
    "unable to find an engine to execute this computation",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if an error means that the device has no memory left: torch.OutOfMemoryError or its other names."""
    if type(error).__name__ == "OutOfMemoryError":  # of torch, which may not be imported
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in _PHRASES)


def explain_no_memory(error: BaseException) -> str:
    """Return one sentence for an error that `is_out_of_memory`."""
    reason = reason_of(error, None)
    return f"the device has no memory left ({reason}); lower --batch-size or --resize, or use a larger device"


def nothing_to_release() -> bool:
    """Return False: the `Release` of work that keeps nothing on the device that it could do without."""
    return False


def no_memory(error: BaseException) -> DeviceError:
    """Return the DeviceError with the sentence for an error that `is_out_of_memory`."""
    return DeviceError(explain_no_memory(error))
