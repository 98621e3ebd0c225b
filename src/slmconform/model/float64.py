"""The float64 oracle: a model run in which nothing is rounded to less than double precision.

``module.double()`` is not a float64 model: modelling code casts to float32 on purpose in norms,
softmaxes, rotary embeddings and losses. `float64_twin` widens the weights and `ForcedFloat64`
widens everything that the code does with them. What cannot be widened raises `NoFloat64Kernel`.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

_WIDER: dict[torch.dtype, torch.dtype] = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
    torch.complex32: torch.complex128,
}
_NARROWER = {torch.float64: torch.float32, torch.complex128: torch.complex64}
# Eight bits and fewer are a quantisation that the author meant, not a rounding to undo.
_QUANTISED = frozenset(
    value
    for name, value in vars(torch).items()
    if isinstance(value, torch.dtype) and name.startswith(("float8", "float4", "qint", "quint"))
)
_LIFTS = frozenset({torch.ops.aten.lift_fresh.default, torch.ops.aten.lift.default})


class NoFloat64Kernel(Exception):
    """The model cannot be followed in float64; ``op`` names the operation that stopped it."""

    def __init__(self, op: str, reason: str = "it has no float64 kernel") -> None:
        super().__init__(f"{op} cannot run in float64: {reason}")
        self.op, self.reason = op, reason


class ForcedFloat64(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context in which every cast to or creation of a narrow float becomes float64.

    Narrow are float32, float16, bfloat16 and complex64. Values computed narrow before the
    context (rotary frequencies, say) keep their value. Autocast is off and the default dtype is
    float64 inside; both are restored. Works with autograd, forward and backward.
    Pass floating inputs as float64: fused attention compares dtypes before the mode sees it.

    Raises `NoFloat64Kernel` where an operation has no float64 kernel, reinterprets bits,
    quantises, or writes into a narrow tensor that was made outside the context.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._outside: list[tuple[torch.dtype, dict[str, bool]]] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # The default wraps each call in torch.compiler.disable, which imports all of dynamo.
        return False

    def __enter__(self) -> ForcedFloat64:
        autocast = {device: torch.is_autocast_enabled(device) for device in _autocast_devices()}
        self._outside.append((torch.get_default_dtype(), autocast))
        super().__enter__()  # type: ignore[no-untyped-call]
        _set_precision(torch.float64, dict.fromkeys(autocast, False))
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        _set_precision(*self._outside.pop())

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one operation in float64; the common case is two look-ups and the call itself."""
        kwargs = kwargs or {}
        dtypes = _DTYPE_ARGUMENTS.get(func)
        if dtypes is None:
            dtypes = _DTYPE_ARGUMENTS[func] = _dtype_arguments(func)
        wide_args, wide_kwargs = (
            _rewritten(func, dtypes, args, kwargs) if dtypes else (args, kwargs)
        )
        try:
            out = func(*wide_args, **wide_kwargs)
        except RuntimeError as error:
            return _recovered(func, (args, kwargs), (wide_args, wide_kwargs), error)
        if out.dtype in _WIDER if type(out) is Tensor else _has_narrow(out):
            return _widened(func, wide_args, wide_kwargs, out)
        return out


def float64_twin(module: nn.Module) -> nn.Module:
    """Return an independent copy of a module in evaluation mode with every float widened.

    Parameters, buffers and tensors kept as plain attributes hold the same values in float64;
    tied tensors stay tied; integer tensors are copied. Mixture-of-experts models are set to the
    eager implementation, because the grouped kernel has no float64 form. Storages are widened
    one at a time, so that memory never exceeds the module plus one float64 copy of its floats.

    Raises `NoFloat64Kernel` for quantised weights.
    """
    memo: dict[int, Any] = {}
    for cluster in _clusters(_floating_tensors(module)):
        memo.update(_widened_cluster(cluster))
    twin = copy.deepcopy(module, memo).eval()
    for part in twin.modules():
        choose = getattr(part, "set_experts_implementation", None)
        if callable(choose):
            choose("eager")
    return twin


_DTYPE_ARGUMENTS: dict[Any, tuple[tuple[int, str], ...]] = {}


def _dtype_arguments(func: Any) -> tuple[tuple[int, str], ...]:
    """Position and name of each argument of an operation that holds a dtype."""
    if not isinstance(func, torch._ops.OpOverload):
        raise NoFloat64Kernel(str(func), "its body is compiled as a whole and cannot be followed")
    return tuple(
        (position, argument.name)
        for position, argument in enumerate(func._schema.arguments)
        if "ScalarType" in str(argument.real_type)
    )


def _rewritten(
    func: Any, dtypes: tuple[tuple[int, str], ...], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments with each narrow dtype replaced by its wide one."""
    for position, name in dtypes:
        dtype: Any = args[position] if position < len(args) else kwargs.get(name)
        if func is torch.ops.aten.view.dtype and _reads_float_bits(args[0].dtype, dtype):
            raise NoFloat64Kernel(str(func), f"it reads the bits of {args[0].dtype} as {dtype}")
        if dtype in _QUANTISED:
            raise NoFloat64Kernel(str(func), f"it quantises to {dtype}")
        wide = _WIDER.get(dtype)
        if wide is None:
            continue
        if position < len(args):
            args = (*args[:position], wide, *args[position + 1 :])
        else:
            kwargs = {**kwargs, name: wide}
    return args, kwargs


def _reads_float_bits(source: torch.dtype, target: torch.dtype) -> bool:
    return any(dtype.is_floating_point or dtype.is_complex for dtype in (source, target))


def _recovered(
    func: Any,
    asked: tuple[tuple[Any, ...], dict[str, Any]],
    wide: tuple[tuple[Any, ...], dict[str, Any]],
    error: RuntimeError,
) -> Any:
    """Answer a failed operation: widen what is left narrow, or say whose fault it was.

    An operation that fails in float64 and works on the same values in float32 has no float64
    kernel; one that fails in both is the model's own error, which is raised unchanged.
    """
    if _out_of_memory(error):
        raise error
    if _has_narrow((wide[0], wide[1].values())):
        return _run_widened(func, *wide)
    args, kwargs = _cast(asked[0], _NARROWER), _cast(asked[1], _NARROWER)
    try:
        func(*args, **kwargs)
    except RuntimeError:
        raise error from None
    raise NoFloat64Kernel(str(func)) from error


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)


def _widened(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
    """Answer an operation whose result is narrow although every dtype asked for was wide."""
    if func in _LIFTS:  # torch.tensor, from_numpy and the typed constructors arrive here
        return _cast(out, _WIDER)
    if _has_narrow((args, kwargs.values())):
        if not func._schema.is_mutable and any(r.alias_info for r in func._schema.returns):
            return out  # a view of a narrow tensor: exact, and widened when it is computed with
        return _run_widened(func, args, kwargs)
    raise NoFloat64Kernel(str(func), "it returns narrow floats whatever it is given")


def _run_widened(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operation once more on widened copies of the narrow tensors that it only reads."""
    for position, argument in enumerate(func._schema.arguments):
        value = args[position] if position < len(args) else kwargs.get(argument.name)
        if argument.is_write and _has_narrow(value):
            raise NoFloat64Kernel(
                str(func), "it writes into a narrow tensor that was made before the float64 run"
            )
    try:
        out = func(*_cast(args, _WIDER), **_cast(kwargs, _WIDER))
    except RuntimeError as error:
        if _out_of_memory(error):
            raise
        raise NoFloat64Kernel(str(func)) from error
    if _has_narrow(out):
        raise NoFloat64Kernel(str(func), "it returns narrow floats whatever it is given")
    return out


def _has_narrow(value: Any) -> bool:
    """Whether a tensor, or any tensor in nested sequences, is a narrow float."""
    if isinstance(value, Tensor):
        return value.dtype in _WIDER
    if isinstance(value, str) or not isinstance(value, Iterable):
        return False
    return any(_has_narrow(item) for item in value)


def _cast(value: Any, dtypes: dict[torch.dtype, torch.dtype]) -> Any:
    """Return nested arguments with each tensor's and each bare dtype replaced as told."""
    if isinstance(value, Tensor):
        return value.to(dtypes[value.dtype]) if value.dtype in dtypes else value
    if isinstance(value, tuple | list):
        return type(value)(_cast(item, dtypes) for item in value)
    if isinstance(value, dict):
        return {key: _cast(item, dtypes) for key, item in value.items()}
    return value


def _autocast_devices() -> tuple[str, ...]:
    accelerator = torch.accelerator.current_accelerator()
    return ("cpu",) if accelerator is None else ("cpu", accelerator.type)


def _set_precision(default: torch.dtype, autocast: dict[str, bool]) -> None:
    torch.set_default_dtype(default)
    for device, enabled in autocast.items():
        torch.set_autocast_enabled(device, enabled)


def _floating_tensors(module: nn.Module) -> Iterator[Tensor]:
    """Every distinct float tensor of a module tree, attributes that are not registered too."""
    seen: set[int] = set()
    waiting: list[Any] = [module]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, nn.Module):
            waiting.extend(vars(value).values())
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple | set):
            waiting.extend(value)
        elif isinstance(value, Tensor) and _is_widened(value):
            yield value


def _is_widened(tensor: Tensor) -> bool:
    if type(tensor) not in {Tensor, nn.Parameter}:
        raise NoFloat64Kernel(type(tensor).__name__, "its weights are wrapped or quantised")
    if tensor.dtype in _QUANTISED:
        raise NoFloat64Kernel("the module", f"it holds weights of {tensor.dtype}")
    return tensor.is_floating_point() or tensor.is_complex()


def _clusters(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Group tensors that share elements, so that tied weights are widened once and stay tied."""
    storages: defaultdict[Any, list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        pointer = tensor.untyped_storage().data_ptr()
        # Null pointers (meta and empty tensors) name no storage.
        storages[(tensor.device, tensor.dtype, pointer or id(tensor))].append(tensor)
    for members in storages.values():
        cluster: list[Tensor] = []
        end = -1
        for tensor in sorted(members, key=Tensor.storage_offset):
            if cluster and tensor.storage_offset() >= end:
                yield cluster
                cluster = []
            cluster.append(tensor)
            end = max(end, int(tensor.storage_offset()) + _extent(tensor))
        yield cluster


def _extent(tensor: Tensor) -> int:
    """How many elements of its storage a tensor spans."""
    if tensor.numel() == 0:
        return 0
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return 1 + sum(int((size - 1) * stride) for size, stride in steps)


def _widened_cluster(cluster: list[Tensor]) -> dict[int, Tensor]:
    """Widen the storage range that the tensors share; keys are the ``id`` of the originals."""
    start = cluster[0].storage_offset()
    span = max(tensor.storage_offset() + _extent(tensor) for tensor in cluster) - start
    whole = max(cluster, key=lambda tensor: tensor.untyped_storage().nbytes()).detach()
    wide_dtype = _WIDER.get(whole.dtype, whole.dtype)
    try:
        wide = whole.as_strided((span,), (1,), start).to(wide_dtype, copy=True)
    except TypeError as error:  # Apple's GPUs have no double precision at all
        raise NoFloat64Kernel(f"a {whole.device.type} device", str(error)) from error
    twins: dict[int, Tensor] = {}
    for tensor in cluster:
        offset = tensor.storage_offset() - start
        view = wide.as_strided(tensor.shape, tensor.stride(), offset)
        if isinstance(tensor, nn.Parameter):
            view = cast("Tensor", nn.Parameter(view, requires_grad=tensor.requires_grad))
        twins[id(tensor)] = view
    return twins
