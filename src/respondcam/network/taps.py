"""Hooks that start autograd at a layer: the cut of the split forward pass."""

# Autograd's own switches have names with an underscore.
# pyright: reportPrivateUsage=false

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from respondcam.errors import LayerError
from respondcam.network.hooks import is_hooked
from respondcam.network.precision import full_from_here, is_cast
from respondcam.network.sharing import Sharing, write_into
from respondcam.network.trees import map_tensors, spatial_tensor


def set_grad(enabled: bool) -> None:
    """Set the grad mode past every TorchFunctionMode, the shim below included."""
    with torch._C.DisableTorchFunction():
        torch._C._set_grad_enabled(enabled)


def node_of(tensor: Tensor) -> Any:
    """The node of the graph that a tensor comes from, or that gathers the gradient of a leaf.

    To ask for it, PyTorch switches autograd on, which has to come past the shim below.
    """
    with torch._C.DisableTorchFunction():
        return torch.autograd.graph.get_gradient_edge(tensor).node


class GradModeShim(TorchFunctionMode):
    """Swallow every change of the grad mode inside the model.

    A model that leaves a ``no_grad`` block after the explained layer would otherwise switch
    autograd off again.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch._C._set_grad_enabled:
            return None
        return func(*args, **(kwargs or {}))


class HookShim(TorchFunctionMode):
    """Pass over what a network asks of the gradient of a tensor that has none here.

    Networks that were made to be explained register hooks on their features, or retain their
    gradient, and so run nowhere without autograd.
    """

    _ASKS: Any = (Tensor.register_hook, Tensor.retain_grad)  # pyright: ignore[reportUnknownMemberType]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self._ASKS and not args[0].requires_grad:
            return RemovableHandle(OrderedDict[int, Any]())
        return func(*args, **(kwargs or {}))

    @staticmethod
    def is_wanted(error: BaseException) -> bool:
        """Whether an error comes from such a question."""
        said = str(error)
        return "cannot register a hook" in said or "can't retain_grad" in said


@dataclass
class Tap:
    """Records one layer: at each of its calls, the tensor from which the gradient is taken.

    Parameters
    ----------
    name
        The layer's name, for messages.
    sharing
        What it does with memory; of no use for the network's input, which is a copy.
    backward_pass
        The backward pass inside of which the forward pass runs (-1: in none). A model that takes
        gradients in its forward pass may run layers again in that backward pass, for activation
        checkpointing; those calls do not count.
    keep_graph
        Whether what leads to the layer has a graph that is kept (differentiable maps).
    expand
        Turns the activation into several changed copies of its batch, so that everything after the
        layer runs on all of them in one pass; at the call `expand_call` only.
    recorded
        One tensor per call, in order: a leaf, or a tensor that an earlier leaf leads to.
    """

    name: str
    sharing: Sharing
    backward_pass: int = field(default_factory=torch._C._current_graph_task_id)
    keep_graph: bool = False
    expand: Callable[[Tensor], Tensor] | None = None
    expand_call: int = 0
    recorded: list[Tensor] = field(default_factory=list[Tensor])

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Forward pre-hook."""
        if self._is_forward():
            self.sharing.enter((args, kwargs))

    def on_output(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Forward hook: hand on clones, since an in-place operation may follow the layer."""
        return self._record(output, module) if self._is_forward() else output

    def on_input(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Forward pre-hook of the whole model: the input itself as a layer."""
        if self._is_forward():
            args, kwargs = self._record((args, kwargs), None)
        return args, kwargs

    def _is_forward(self) -> bool:
        return self.backward_pass == torch._C._current_graph_task_id()

    def _is_expanded(self) -> bool:
        return self.expand is not None and len(self.recorded) == self.expand_call

    def _record(self, tree: Any, module: nn.Module | None) -> Any:
        chosen = spatial_tensor(tree)
        way = "copy"
        if module is not None:
            casts = chosen is not None and is_cast(chosen)
            way = self.sharing.leave(chosen, casts=casts, changes=self._is_expanded())
        if chosen is None:
            return tree
        _check(self.name, chosen)
        if torch.is_inference_mode_enabled():
            raise LayerError(
                f"Layer {self.name!r} runs inside torch.inference_mode(), where no gradient can "
                f"start. Choose a layer after that block, or use torch.no_grad() in the model."
            )
        set_grad(True)
        leaf = full_from_here(chosen)
        if self.expand is not None and self._is_expanded():
            given = leaf if self.keep_graph else leaf.detach()
            # what is made of it is not to change with what is written there
            leaf = self.expand(given.clone() if way == "keep" else given)
        if module is not None and way == "copy" and _is_kept(module, chosen, leaf):
            way = "keep"
        watched = module is not None and way != "keep"  # for what is written to under other names
        if way == "keep" and not self.sharing.must_keep(chosen, leaf):
            way = "copy"
        if way == "keep" or (way == "apart" and leaf.requires_grad):
            leaf = leaf.clone()  # neither written over nor reached by its other names
        if not leaf.requires_grad:
            leaf = leaf.detach().requires_grad_(True)
        self.recorded.append(leaf)
        if way == "keep":
            write_into(chosen, leaf, self.name)
            return tree
        copy = leaf.clone()
        if watched:
            self.sharing.hand_on(copy)
        return map_tensors(lambda t: copy if t is chosen else t, tree)


def _is_kept(module: nn.Module, output: Tensor, leaf: Tensor) -> bool:
    """Whether hooks of others may have kept a layer's output, and it can take `leaf` in its place.

    A view that was made without a graph can take none.
    """
    alike = (leaf.shape, leaf.dtype) == (output.shape, output.dtype) and not output._is_view()
    return alike and (leaf is not output or not output.requires_grad) and is_hooked(module)


def _check(name: str, output: Tensor) -> None:
    """Raise LayerError for a layer's output that no map can be made of."""
    why = ""
    if output.is_complex():
        why = "is complex, and maps are real; choose a layer after its magnitude is taken"
    elif output.layout != torch.strided:
        why = f"is stored as {output.layout}, without a voxel for each place"
    elif output.is_meta:
        why = "has no numbers: the model or the input is on the meta device; load weights first"
    elif not output.numel():
        why = f"is empty, of shape {tuple(output.shape)}"
    if why:
        raise LayerError(f"The output of layer {name!r} {why}.")


@dataclass
class Swap:
    """Replaces one layer's output at one of its calls: the head runs on changed activations."""

    name: str
    sharing: Sharing
    change: Callable[[Tensor], Tensor]
    call: int = -1
    seen: int = 0
    calls: int = 1

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Forward pre-hook."""
        self.sharing.enter((args, kwargs))

    def on_output(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Forward hook."""
        return self._swapped(output, module)

    def on_input(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Forward pre-hook of the whole model."""
        args, kwargs = self._swapped((args, kwargs), None)
        return args, kwargs

    def _swapped(self, tree: Any, module: nn.Module | None) -> Any:
        chosen = spatial_tensor(tree)
        keeps = False
        if module is not None:
            casts = chosen is not None and is_cast(chosen)
            keeps = self.sharing.leave(chosen, graph=False, casts=casts) == "keep"
        if chosen is None:
            return tree
        mine = self.seen == self.call % self.calls
        self.seen += 1
        activation = full_from_here(chosen)
        kept = module is not None and is_hooked(module)  # by a hook of the network's own
        if keeps or kept:  # what `change` keeps of it is not to be written over
            activation = activation.clone()
        changed = self.change(activation) if mine else activation
        if changed is chosen:
            return tree
        watched = module is not None and not keeps
        keeps = keeps and self.sharing.must_keep(chosen, changed)
        if keeps or (kept and (changed.shape, changed.dtype) == (chosen.shape, chosen.dtype)):
            with torch.no_grad():
                write_into(chosen, changed, self.name)
            return tree
        if watched:
            self.sharing.hand_on(changed)
        return map_tensors(lambda t: changed if t is chosen else t, tree)
