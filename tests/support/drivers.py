"""Shared libraries that pose as the NVIDIA driver, for CUDA's real runtime library as well."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

COMPILER = shutil.which("cc")
OLD_VERSION, NEW_VERSION = 11040, 12080  # as CUDA counts
# CUDA's runtime library asks for functions by name; those that are missing are never called if cuInit fails.
_SOURCE = """
#include <string.h>
int cuInit(unsigned flags) {{ return {init}; }}
int cuDriverGetVersion(int *version) {{ *version = {version}; return 0; }}
int cuDeviceGetCount(int *count) {{ *count = {devices}; return 0; }}
int cuGetProcAddress(const char *name, void **function, int version, unsigned long long flags) {{
    *function = !strcmp(name, "cuInit") ? (void *)cuInit
        : !strcmp(name, "cuDriverGetVersion") ? (void *)cuDriverGetVersion
        : !strcmp(name, "cuGetProcAddress") ? (void *)cuGetProcAddress : 0;
    return *function ? 0 : 500;
}}
int cuGetProcAddress_v2(const char *name, void **function, int version, unsigned long long flags, int *status) {{
    return cuGetProcAddress(name, function, version, flags);
}}
"""
Driver = Callable[..., Path]


def make_driver(folder: Path, version: int = NEW_VERSION, init: int = 0, devices: int = 1) -> Path:
    """Compile a libcuda.so.1 that offers CUDA `version`, whose cuInit returns `init`, and that counts `devices`."""
    folder.mkdir()
    library = folder / "libcuda.so.1"
    (folder / "driver.c").write_text(_SOURCE.format(version=version, init=init, devices=devices))
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-w", "-o", library, folder / "driver.c"], check=True)
    return library
