"""How much memory tensors take, on a CPU: counted where operations make them."""

from __future__ import annotations

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Accounting(TorchDispatchMode):
    """Counts the bytes of the tensors that operations have made and that are still alive; tensors from before do not count."""

    def __init__(self):
        super().__init__()
        self.alive = self.peak = 0
        self.known = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for tensor in tree_leaves((args, kwargs)):
            self._meet(tensor, new=False)
        outputs = func(*args, **kwargs or {})
        for tensor in tree_leaves(outputs):
            self._meet(tensor, new=True)
        return outputs

    def _meet(self, tensor, new):
        if not isinstance(tensor, torch.Tensor) or tensor.untyped_storage()._cdata in self.known:
            return
        storage = tensor.untyped_storage()
        size = storage.nbytes() if new else 0
        self.known.add(storage._cdata)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._part, storage._cdata, size)

    def _part(self, storage, size):
        self.known.discard(storage)
        self.alive -= size
