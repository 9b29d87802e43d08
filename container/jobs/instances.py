"""Facts about instance types: GPUs, other accelerators, disks."""

import re

_GPU = re.compile(r"ml\.(g\d|p\d)")
_SEVERAL_GPUS = re.compile(
    r"ml\.(g[\w-]+\.(12|24|48)xlarge|p2\.(8|16)xlarge|p3\.(8|16)xlarge|p[3-9][\w-]*\.(24|36|48)xlarge)"
)
_OTHER_CHIP = re.compile(r"ml\.(p2|trn\w+|inf\d)\.")  # older than torch's wheels, or no GPU at all
_ARM = re.compile(r"ml\.([cmr]\d+g\w*|p6e-gb200)\.")  # Graviton, Grace
_LOCAL_DISK = re.compile(r"ml\.(g[4-9]\w*|p3dn|p[4-9][\w-]*|trn\w+|[cmr]\d\w*d)\.")  # encrypted by its own hardware


def has_gpu(instance_type: str) -> bool:
    return bool(_GPU.match(instance_type))


def has_several_gpus(instance_type: str) -> bool:
    return bool(_SEVERAL_GPUS.fullmatch(instance_type))


def has_other_chip(instance_type: str) -> bool:
    """Return whether the instance has an accelerator that this image cannot use."""
    return bool(_OTHER_CHIP.match(instance_type))


def has_arm(instance_type: str) -> bool:
    """Return whether the processors of the instance are ARM, which the image of the job is not for."""
    return bool(_ARM.match(instance_type))


def has_local_disk(instance_type: str) -> bool:
    """Return whether the volume is the instance's own: SageMaker then rejects a VolumeKmsKeyId."""
    return bool(_LOCAL_DISK.match(instance_type))


def volume_key(instance_type: str, kms_key: str | None) -> str | None:
    """Return the VolumeKmsKeyId of an instance."""
    return None if has_local_disk(instance_type) else kms_key


def encryption(instance_type: str, kms_key: str | None) -> str:
    """Return a sentence about a disk that a given key does not encrypt, empty if it encrypts everything."""
    if kms_key is None or volume_key(instance_type, kms_key):
        return ""
    return f"the disk of {instance_type} is encrypted by the instance itself; --kms-key is for the files in S3"


def describe_instances(instance_type: str, count: int = 1, *, spot: bool = False) -> str:
    """Return `2 x ml.g5.xlarge, spot`."""
    return f"{count} x {instance_type}{', spot' if spot else ''}"


def waste(instance_type: str, *, uses_all_gpus: bool = False) -> str:
    """Return a sentence about hardware that is paid for and not used, empty if there is none."""
    if has_several_gpus(instance_type) and not uses_all_gpus:
        return f"{instance_type} has several GPUs and a job uses one; choose a type with one, such as ml.g5.xlarge"
    if has_other_chip(instance_type):
        return f"{instance_type} has an accelerator that the job cannot use; choose ml.g4dn, g5, g6 or newer"
    return ""
