"""Devices by name, the flags of a reference run and their restoration, the environment record."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import types
import warnings

import pytest
import torch

from slmconform.model import device as subject
from slmconform.model.device import (
    DeviceUnavailable,
    device_class,
    environment,
    reference_flags,
    resolve,
)

CPU = torch.device("cpu")


def public_state() -> dict[str, object]:
    """Every flag as its public getter gives it, independent of the module under test."""
    backends, matmul = torch.backends, torch.backends.cuda.matmul
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fill": torch.utils.deterministic.fill_uninitialized_memory,
        "workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        "cudnn": (backends.cudnn.deterministic, backends.cudnn.benchmark),
        "mkldnn": backends.mkldnn.deterministic,
        "fp32": backends.fp32_precision,
        "fp32_cuda": backends.cudnn.fp32_precision,
        "fp32_conv": backends.cudnn.conv.fp32_precision,
        "fp32_matmul": matmul.fp32_precision,
        "fp32_mkldnn": (backends.mkldnn.fp32_precision, backends.mkldnn.matmul.fp32_precision),
        "old_matmul": torch.get_float32_matmul_precision(),
        "old_cudnn": backends.cudnn.allow_tf32,
        "fp16": (
            matmul.allow_fp16_reduced_precision_reduction,
            getattr(matmul, "allow_fp16_reduced_precision_reduction_split_k", None),
        ),
        "bf16": matmul.allow_bf16_reduced_precision_reduction,
        "accumulation": matmul.allow_fp16_accumulation,
        "sdp": backends.cuda.fp16_bf16_reduction_math_sdp_allowed(),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "filters": list(warnings.filters),
        "show": warnings.showwarning,
    }


@pytest.fixture(autouse=True)
def torch_state_is_left_as_it_was():
    flags = list(subject._flags(1))
    before = [flag.read() for flag in flags]
    yield
    for flag, value in zip(flags, before, strict=True):
        subject._quietly(flag.write, value)


def test_every_flag_is_set_inside_and_restored_after():
    before = public_state()
    with reference_flags(CPU, threads=1) as flags:
        inside = public_state()
        assert json.loads(json.dumps(flags)) == flags
    assert public_state() == before
    assert (inside["deterministic"], inside["warn_only"], inside["fill"]) == (True, True, True)
    assert inside["workspace"] == ":4096:8"
    assert inside["cudnn"] == (True, False)
    assert (inside["fp32"], inside["fp32_cuda"], inside["fp32_conv"]) == ("ieee",) * 3
    assert (inside["fp32_matmul"], inside["fp32_mkldnn"]) == ("ieee", ("ieee", "ieee"))
    assert (inside["old_matmul"], inside["old_cudnn"]) == ("highest", False)
    assert torch.backends.cuda.matmul.allow_tf32 is False
    assert not any((inside["fp16"][0], inside["bf16"], inside["accumulation"], inside["sdp"]))
    assert (inside["dtype"], inside["threads"]) == (torch.float32, 1)
    assert flags["fp32_precision"]["cuda.rnn"] == "ieee"


def test_flags_are_restored_when_an_exception_passes():
    before = public_state()
    with pytest.raises(ZeroDivisionError), reference_flags(CPU, threads=1):
        raise ZeroDivisionError
    assert public_state() == before


def _mixed() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"


def _inherited() -> None:
    torch.backends.fp32_precision = "tf32"


UNUSUAL = {
    "strict determinism": lambda: torch.set_deterministic_debug_mode(2),
    "no fill": lambda: setattr(torch.utils.deterministic, "fill_uninitialized_memory", False),
    "workspace": lambda: os.environ.update(CUBLAS_WORKSPACE_CONFIG=":16:8"),
    "benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "old interface on": lambda: torch.set_float32_matmul_precision("medium"),
    "old cuDNN off": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
    "new interface, inherited": _inherited,
    "both interfaces, contradicting": _mixed,
    "no reduction, no split-k": lambda: setattr(
        torch.backends.cuda.matmul, "allow_fp16_reduced_precision_reduction", (False, False)
    ),
    "default dtype": lambda: torch.set_default_dtype(torch.bfloat16),
    "threads": lambda: torch.set_num_threads(2),
}


@pytest.mark.parametrize("unusual", UNUSUAL)
def test_unusual_states_are_restored(unusual):
    subject._quietly(UNUSUAL[unusual])
    flags = list(subject._flags(1))
    before = [flag.read() for flag in flags]
    with reference_flags(CPU, threads=1):
        during = [flag.read() for flag in flags]
    assert [flag.read() for flag in flags] == before != during


def test_inheritance_between_settings_survives():
    with reference_flags(CPU):
        pass
    torch.backends.fp32_precision = "tf32"
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"


def test_uninitialised_memory_becomes_nan_inside_only():
    with reference_flags(CPU):
        assert torch.empty(3).isnan().all()


def nondeterministic() -> None:
    torch.zeros(4).put_(torch.tensor([1]), torch.tensor([1.0]))


def test_operations_without_a_deterministic_form_are_recorded_and_silent(capfd):
    with reference_flags(CPU) as flags:
        nondeterministic()
        nondeterministic()
    assert flags["nondeterministic_operations"] == ["put_"]
    assert capfd.readouterr() == ("", "")


def test_deterministic_runs_record_no_operation():
    with reference_flags(CPU) as flags:
        torch.ones(2, 2) @ torch.ones(2, 2)
    assert flags["nondeterministic_operations"] == []


def test_other_warnings_pass():
    with pytest.warns(UserWarning, match="mine"), reference_flags(CPU):
        warnings.warn("mine", UserWarning, stacklevel=1)


def test_flags_cost_no_compiler_import_and_no_warning():
    script = (
        "import sys, torch\n"
        "from slmconform.model.device import reference_flags\n"
        "with reference_flags(torch.device('cpu')): torch.zeros(2)\n"
        "sys.exit('torch._inductor' in sys.modules or 'torch._dynamo' in sys.modules)"
    )
    command = [sys.executable, "-W", "always", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_auto_is_the_cpu_where_there_is_no_accelerator(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: None)
    assert resolve("auto") == CPU


@pytest.fixture
def two_gpus(monkeypatch):
    """A machine with two CUDA devices, as far as torch's own questions can tell."""
    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: cuda)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    properties = types.SimpleNamespace(major=9, minor=0, gcnArchName="gfx90a:sramecc+")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Imaginary 9000")


@pytest.mark.parametrize(
    ("name", "index"), [("auto", 0), ("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)]
)
def test_accelerators_come_with_their_index(two_gpus, name, index):
    assert resolve(name) == torch.device("cuda", index)


def test_an_index_beyond_the_last_device_is_refused(two_gpus):
    with pytest.raises(DeviceUnavailable, match=r"'cuda:2'.*has 2 device.*cpu, cuda:0, cuda:1"):
        resolve("cuda:2")


@pytest.mark.parametrize("name", ["cpu", "cpu:0"])
def test_the_cpu_is_always_there(name):
    assert resolve(name) == CPU


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gpu", "knows no such device"),
        ("", "knows no such device"),
        ("cuda:x", "knows no such device"),
        ("cuda:-1", "knows no such device"),
        ("meta", "knows no such device"),
        ("cpu:3", r"cpu has 1 device"),
    ],
)
def test_unknown_devices_are_refused_with_what_is_there(name, reason):
    with pytest.raises(DeviceUnavailable, match=f"{reason}.*here: cpu.*'auto'"):
        resolve(name)


def test_an_absent_device_is_refused_with_the_drivers_words(monkeypatch):
    def broken() -> bool:
        warnings.warn("driver too old\nsecond line", UserWarning, stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", broken)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: None)
    with pytest.raises(DeviceUnavailable, match=r"no cuda device is available \(driver too old\)"):
        resolve("cuda")


def test_device_classes(two_gpus, monkeypatch):
    assert device_class(CPU) == "cpu"
    assert device_class(torch.device("mps")) == "mps"
    assert device_class(torch.device("cuda", 0)) == "cuda sm_90"
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert device_class(torch.device("cuda", 0)) == "rocm gfx90a"


def test_environment_names_versions_and_the_processor():
    found = environment(CPU)
    assert json.loads(json.dumps(found)) == found
    for package in ("torch", "transformers", "tokenizers", "safetensors", "numpy"):
        assert found[package] == importlib.metadata.version(package)
    assert found["device_class"] == "cpu"
    assert found["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert found["device_name"]
    assert "cuda" not in found


def test_environment_of_a_gpu_names_it_and_its_libraries(two_gpus):
    found = environment(torch.device("cuda", 1))
    assert (found["device"], found["device_class"]) == ("cuda:1", "cuda sm_90")
    assert found["device_name"] == "Imaginary 9000"
    assert {"cuda", "cudnn", "driver"} <= found.keys()


def test_a_package_that_is_absent_is_recorded_as_absent(monkeypatch):
    monkeypatch.setattr(subject, "_PACKAGES", ("no-such-package",))
    assert environment(CPU)["no-such-package"] is None
