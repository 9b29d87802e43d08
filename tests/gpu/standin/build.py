"""Build of the stand-in: our C, and a stub for every other function of CUDA that the installed torch links."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = ("counters.c", "runtime.c", "memory.c", "kernels.c", "libraries.c")
TORCH_LIBRARIES = ("libtorch_cuda.so", "libc10_cuda.so", "libtorch_python.so", "libtorch_cuda_linalg.so")
CUDA = re.compile(r"^(__cuda|cuda|cublas|cudnn)\w+$")
CUDA_DRIVER = re.compile(r"^cu[A-Z]\w+$")
NOT_SUPPORTED = {"cuda": 801, "cudnn": 3000, "cublas": 15, "cu": 801}


def build_standin(folder: Path) -> Path:
    """Compile the stand-in into `folder`, which exists; return the library for LD_PRELOAD. Takes about two seconds."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise RuntimeError("a C compiler is needed to build the stand-in; apt-get install gcc")
    includes = [f"-I{HERE}", f"-I{HERE / 'include'}"]
    includes += [f"-I{_package('nvidia') / name / 'include'}" for name in ("cuda_runtime", "cudnn")]
    options = [compiler, "-O1", "-fPIC", "-w", *includes]
    objects = [folder / Path(name).with_suffix(".o").name for name in SOURCES]
    for name, built in zip(SOURCES, objects, strict=True):
        subprocess.run([*options, "-c", HERE / name, "-o", built], check=True)
    ours = {name for built in objects for name in _symbols(built, "--defined-only")}
    (folder / "stubs.c").write_text(stubs(linked_functions() - ours))
    library = folder / "libstandin.so"
    subprocess.run([*options, "-shared", folder / "stubs.c", *objects, "-o", library, "-lpthread"], check=True)
    # What loads the driver by name finds the same library.
    (folder / "libcuda.so.1").symlink_to(library.name)
    return library


def linked_functions() -> set[str]:
    """Return the functions of the CUDA runtime, cuBLAS, cuDNN and the driver that torch's libraries use."""
    libraries = _package("torch") / "lib"
    names = {name for library in TORCH_LIBRARIES for name in _symbols(libraries / library, "--undefined-only")}
    driver = _symbols(libraries / "libcaffe2_nvrtc.so", "--undefined-only")
    return {name for name in names if CUDA.match(name)} | {name for name in driver if CUDA_DRIVER.match(name)}


def stubs(names: set[str]) -> str:
    """Return C that defines the functions: each is counted, and does nothing or says that it is not supported."""
    return '#include <stdlib.h>\n#include "standin.h"\n' + "".join(map(_stub, sorted(names)))


def _stub(name: str) -> str:
    family = next(prefix for prefix in ("cuda", "cublas", "cudnn", "cu") if name.lstrip("_").startswith(prefix))
    if family in ("cublas", "cudnn") and "Create" in name:  # the last argument of cublasLt's is no pointer
        return f'int {name}(void **made) {{ return COUNT("{name}"), *made = calloc(1, 64), 0; }}\n'
    quiet = (family == "cublas" and "Get" not in name) or re.match("cudnn(Set|Destroy|BatchNorm|Conv|Spatial)", name)
    return f'int {name}() {{ return COUNT("{name}"), {0 if quiet else NOT_SUPPORTED[family]}; }}\n'


def _symbols(library: Path, which: str) -> set[str]:
    """Return the names of a library's or an object's symbols, without their versions."""
    dynamic = ["-D"] if library.suffix == ".so" else []
    listed = subprocess.run(["nm", *dynamic, which, library], check=True, capture_output=True, text=True).stdout
    return {line.split()[-1].split("@")[0] for line in listed.splitlines()}


def _package(name: str) -> Path:
    """Return the folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"the package {name} is not installed")
    return Path(next(iter(spec.submodule_search_locations)))
