"""The device a model runs on, the flags of a reference run, and the record of both."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import warnings
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

import slmconform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy")
_FP32_KEYS = (
    ("generic", "all"),
    ("cuda", "all"),
    ("mkldnn", "all"),
    *((backend, op) for backend in ("cuda", "mkldnn") for op in ("matmul", "conv", "rnn")),
)


class DeviceUnavailable(ValueError):
    """The asked device is unknown to this torch or absent from this machine."""


def resolve(name: str) -> torch.device:
    """Return the device of a name: ``auto``, ``cpu``, or any accelerator type with an index.

    ``auto`` is torch's current accelerator where there is one, else the CPU. Accelerators come
    back with their index, so that the result equals the ``device`` of a tensor made there.
    Raises `DeviceUnavailable`.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return torch.device("cpu") if accelerator is None else torch.device(accelerator.type, 0)
    try:
        device = torch.device(name)
        module = torch.get_device_module(device)
    except RuntimeError:
        raise _unavailable(name, "torch here knows no such device") from None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = module.is_available()
        count = module.device_count() if available else 0
    if not available:
        said = f" ({_first_line(caught[0].message)})" if caught else ""
        raise _unavailable(name, f"no {device.type} device is available{said}")
    index = device.index or 0
    if index >= count:
        raise _unavailable(name, f"{device.type} has {count} device(s), counted from 0")
    return torch.device("cpu") if device.type == "cpu" else torch.device(device.type, index)


def device_class(device: torch.device) -> str:
    """Name the kind of device whose numbers may be compared: ``cpu``, ``cuda sm_90``, ``mps``."""
    if device.type != "cuda":
        return device.type
    properties = torch.cuda.get_device_properties(device)
    if torch.version.hip:
        return f"rocm {properties.gcnArchName.split(':')[0]}"
    return f"cuda sm_{properties.major}{properties.minor}"


@contextmanager
def reference_flags(device: torch.device, *, threads: int = 1) -> Iterator[dict[str, JSON]]:
    """Set every determinism flag of a reference run, yield what was set, and restore them all.

    Enter it before the first operation on the device: cuBLAS reads its workspace setting once.
    Algorithms without a deterministic form warn instead of raising. Raising would turn a
    candidate that uses one into a crash and say nothing about the model, while whether its
    results repeat is measured anyway, bit for bit; so the names are recorded instead, in the
    list ``nondeterministic_operations``, which fills while the context is open. The warnings
    themselves are kept from the terminal; every other warning passes as before.
    """
    used: list[JSON] = []
    state: dict[str, JSON] = {"device": str(device)}
    with ExitStack() as stack:
        stack.enter_context(_recorded_nondeterminism(used))
        for flag in _flags(threads):
            before = flag.read()
            stack.callback(_quietly, flag.write, before)
            _quietly(flag.write, flag.value)
            state[flag.name] = flag.shown if flag.shown is not None else flag.value
        state["nondeterministic_operations"] = used
        yield state


@contextmanager
def kept_flags() -> Iterator[None]:
    """Put the settings of a reference run back that are changed inside."""
    before = [(flag, flag.read()) for flag in _flags(1)]
    try:
        yield
    finally:
        for flag, value in before:
            if flag.read() != value:
                _quietly(flag.write, value)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with another number of threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def environment(device: torch.device) -> dict[str, JSON]:
    """Versions, platform and device of a measurement, as they are written into evidence."""
    found: dict[str, JSON] = {
        "slmconform": slmconform.__version__,
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "device": str(device),
        "device_class": device_class(device),
        "device_name": _device_name(device),
    }
    if device.type == "cuda":
        found |= _cuda_versions()
    return found


@dataclass(frozen=True, slots=True)
class _Flag:
    """One global setting: ``shown`` replaces the value in the record where they differ."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    value: Any
    shown: JSON = None


def _flags(threads: int) -> Iterator[_Flag]:
    yield _Flag("CUBLAS_WORKSPACE_CONFIG", _read_workspace, _write_workspace, ":4096:8")
    # Equal to use_deterministic_algorithms(True, warn_only=True), which would import inductor.
    yield _Flag(
        "use_deterministic_algorithms",
        torch.get_deterministic_debug_mode,
        torch.set_deterministic_debug_mode,
        1,
        shown="warn",
    )
    yield _attribute("fill_uninitialized_memory", torch.utils.deterministic, value=True)
    yield _attribute("cudnn.deterministic", torch.backends.cudnn, "deterministic", value=True)
    yield _attribute("cudnn.benchmark", torch.backends.cudnn, "benchmark", value=False)
    yield _attribute("mkldnn.deterministic", torch.backends.mkldnn, "deterministic", value=True)
    yield _Flag("fp32_precision", _read_fp32, _write_fp32, _FULL_FP32, shown=_FULL_FP32.record())
    for width in ("fp16", "bf16"):
        yield _reduction(f"allow_{width}_reduced_precision_reduction")
    yield _attribute("allow_fp16_accumulation", torch.backends.cuda.matmul, value=False)
    yield _Flag(
        "allow_fp16_bf16_reduction_math_sdp",
        torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed,
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp,
        value=False,
    )
    yield _Flag(
        "default_dtype",
        torch.get_default_dtype,
        torch.set_default_dtype,
        torch.float32,
        shown="float32",
    )
    yield _Flag("num_threads", torch.get_num_threads, torch.set_num_threads, threads)


def _attribute(name: str, owner: Any, attribute: str = "", *, value: bool) -> _Flag:
    attribute = attribute or name
    return _Flag(
        name,
        lambda: getattr(owner, attribute),
        lambda new: setattr(owner, attribute, new),
        value,
    )


def _reduction(name: str) -> _Flag:
    """Return a reduced-precision switch; its split-k half is a second attribute, set with it."""
    matmul = torch.backends.cuda.matmul

    def read() -> bool | tuple[bool, bool]:
        reduced = getattr(matmul, name)
        split_k = getattr(matmul, f"{name}_split_k", None)
        return reduced if split_k is None else (reduced, split_k)

    return _Flag(name, read, lambda new: setattr(matmul, name, new), value=False)


def _read_workspace() -> str | None:
    return os.environ.get("CUBLAS_WORKSPACE_CONFIG")


def _write_workspace(value: str | None) -> None:
    if value is None:
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    else:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = value


@dataclass(frozen=True, slots=True)
class _Fp32Precision:
    """The old TF32 switches and each backend's own setting in the new interface."""

    matmul: str
    cudnn: bool
    own: tuple[str, ...]

    def record(self) -> dict[str, JSON]:
        settings = zip(_FP32_KEYS, self.own, strict=True)
        return {
            "float32_matmul_precision": self.matmul,
            "cudnn.allow_tf32": self.cudnn,
            **{".".join(key): value for key, value in settings},
        }


_FULL_FP32 = _Fp32Precision("highest", cudnn=False, own=("ieee",) * len(_FP32_KEYS))


def _read_fp32() -> _Fp32Precision:
    """Read both interfaces, also where they contradict each other and torch's getters raise.

    A setting of ``none`` inherits, and reading it gives the inherited value; so the general
    settings are cleared before the particular ones are read. Both old switches are read while
    the new interface agrees with neither value, and the whole is put back.
    """
    own = tuple(_take_fp32(key) for key in _FP32_KEYS)
    matmul = torch.get_float32_matmul_precision()
    for op in ("conv", "rnn"):
        torch._C._set_fp32_precision_setter("cuda", op, "tf32")
    try:
        cudnn = bool(_quietly(torch._C._get_cudnn_allow_tf32))
    except RuntimeError:  # the old switch says no where the new one now says yes
        cudnn = False
    state = _Fp32Precision(matmul, cudnn, own)
    _quietly(_write_fp32, state)
    return state


def _take_fp32(key: tuple[str, str]) -> str:
    value = torch._C._get_fp32_precision_getter(*key)
    torch._C._set_fp32_precision_setter(*key, "none")
    return value


def _write_fp32(state: _Fp32Precision) -> None:
    # The old interface overwrites parts of the new one, never the other way round.
    torch.set_float32_matmul_precision(state.matmul)
    torch.backends.cudnn.allow_tf32 = state.cudnn
    for key, value in zip(_FP32_KEYS, state.own, strict=True):
        torch._C._set_fp32_precision_setter(*key, value)


def _quietly(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call torch without the deprecation warnings of the interfaces that it mirrors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments)


@contextmanager
def _recorded_nondeterminism(used: list[JSON]) -> Iterator[None]:
    """Append the name in each of torch's warnings about nondeterminism, and show none of them."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def record(message: Any, category: Any, *place: Any, **more: Any) -> None:
            named = _NONDETERMINISTIC.match(str(message))
            if named is None:
                show(message, category, *place, **more)
            elif (name := named["op"] or "cuBLAS") not in used:
                used.append(name)

        warnings.showwarning = record
        warnings.filterwarnings("always", message=_NONDETERMINISTIC.pattern)
        yield


_NONDETERMINISTIC = re.compile(
    r"(?P<op>\S+) does not have a deterministic implementation"
    r"|Deterministic behavior was enabled .* CuBLAS",
    re.DOTALL,
)


def _unavailable(name: str, reason: str) -> DeviceUnavailable:
    here = ["cpu"]
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None:
        count = torch.accelerator.device_count()
        here += [f"{accelerator.type}:{index}" for index in range(count)]
    return DeviceUnavailable(
        f"device {name!r} cannot be used: {reason}; here: {', '.join(here)}; "
        "choose one of these or 'auto'"
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device_name(device: torch.device) -> str:
    if device.type == "cpu":
        return _cpu_name()
    name = getattr(torch.get_device_module(device), "get_device_name", None)
    return str(name(device)) if callable(name) else device.type


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _cuda_versions() -> dict[str, JSON]:
    driver = Path("/proc/driver/nvidia/version")
    return {
        "cuda": torch.version.cuda or torch.version.hip,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "driver": _first_line(driver.read_text(encoding="utf-8")) if driver.is_file() else None,
    }


def _first_line(text: object) -> str:
    return str(text).strip().splitlines()[0]
