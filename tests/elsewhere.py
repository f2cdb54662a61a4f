"""A graphics card without one: tensors that say they lie on "cuda", with their values in host memory.

FakeTensorMode would do for shapes, but has no values, and code that reads one cannot go on there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

CARD = torch.device("cuda:0")
MAY_MIX = ("copy_", "_to_copy", "index", "index_put", "index_put_", "_index_put_impl_")
"""Operations that take tensors of two devices: copies, and indices from the host."""


class OnCard(Tensor):
    """A tensor on the card; `values` lies in host memory."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> OnCard:
        layout = dict(
            strides=values.stride(), storage_offset=values.storage_offset(), dtype=values.dtype, requires_grad=values.requires_grad
        )
        self = Tensor._make_wrapper_subclass(cls, values.shape, device=CARD, **layout)
        self.values = values
        return self

    def __repr__(self, **_: Any) -> str:
        return f"OnCard({self.values!r})"

    def tolist(self) -> Any:
        return self.cpu().tolist()  # of a subclass it is refused

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} on a tensor of the card outside of `card()`")


class Card(TorchDispatchMode):
    """Runs operations as a card would, and notes in `reads` those that make the host wait for a value of the card, in `kernels` those that
    the card works on: not views, and not memory that nothing is written to.

    Raises AssertionError where tensors of both devices meet, and without `doubles` for float64 on the card, which Apple's do not have.
    """

    _mode_key = torch._C._TorchDispatchModeKey.FAKE  # as for FakeTensorMode, PyTorch then looks for no driver

    def __init__(self, doubles: bool = False) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.kernels: list[str] = []
        self._doubles = doubles

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_card = {id(tensor.values): tensor for tensor in tensors if isinstance(tensor, OnCard)}
        name = func.overloadpacket.__name__
        stray = [tensor for tensor in tensors if not isinstance(tensor, OnCard) and tensor.ndim > 0]
        assert not (on_card and stray) or name in MAY_MIX, f"{func} mixes tensors of the host and of the card"

        device = torch.device(kwargs["device"]) if kwargs.get("device") is not None else CARD if on_card else torch.device("cpu")
        if kwargs.get("device") is not None:
            kwargs["device"] = "cpu"
        if on_card and (name in ("_local_scalar_dense", "is_nonzero", "nonzero", "equal") or device.type == "cpu" and name != "copy_"):
            self.reads.append(name)
        elif (
            (on_card or device.type != "cpu") and not func.is_view and not name.startswith(("empty", "new_empty", "detach", "_unsafe_view"))
        ):
            self.kernels.append(name)
        if on_card and torch.Tag.inplace_view in func.tags:  # transpose_ and the like: the tensor's own shape changes too
            with no_dispatch():
                func(*args, **kwargs)
        args, kwargs = tree_map_only(OnCard, lambda tensor: tensor.values, (args, kwargs))
        result = func(*args, **kwargs)
        if name == "copy_":
            return on_card.get(id(result), result)
        if device.type == "cpu":
            return result

        def lay(values: Tensor) -> Tensor:
            assert self._doubles or values.dtype != torch.float64, f"{func} makes float64 on the card"
            return on_card[id(values)] if id(values) in on_card else OnCard(values)

        return tree_map_only(Tensor, lay, result)


@contextmanager
def card(doubles: bool = False) -> Iterator[Card]:
    """Within it, `.to("cuda")` and `device="cuda"` work."""
    if not torch.cuda.is_available():
        torch._C._ensureCUDADeviceGuardSet()  # as FakeTensorMode does
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # and this: `torch.tensor(.., device="cuda")` is made on the host, and then laid
    try:
        with Card(doubles) as mode, torch.backends.cudnn.flags(enabled=False):  # whose operations the host does not have
            yield mode
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


def laid(values: Tensor) -> OnCard:
    """These values on the card; inside of `card()`."""
    return OnCard(values)


def same_on_the_card(function: Callable[..., Any], *inputs: Any, doubles: bool = False, anywhere: bool = False) -> list[str]:
    """Calls function with the tensors among the inputs on the card, checks what comes out against the host's, and gives what it read.

    Tensors that come out must lie on the card, or `anywhere`.
    """
    expected = _parts(function(*inputs))
    with card(doubles) as watched:
        results = _parts(function(*tree_map_only(Tensor, laid, inputs)))
    assert len(results) == len(expected)
    for result, value in zip(results, expected, strict=True):
        if not isinstance(value, Tensor):
            assert result == value
            continue
        assert anywhere or isinstance(result, OnCard), "the result lies on the host"
        assert torch.equal(result.values if isinstance(result, OnCard) else result, value)
    return watched.reads


def _parts(result: Any) -> list[Any]:
    """The tensors and others in nested lists, dictionaries and dataclasses."""
    if dataclasses.is_dataclass(result):
        result = [getattr(result, field.name) for field in dataclasses.fields(result)]
    return tree_leaves(list(result) if isinstance(result, Iterator) else result)
