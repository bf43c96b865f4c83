"""TorchScript programs as modules whose layers can be hooked."""

from respondcam.network.torchscript.module import ProgramModule, as_module, frozen, in_python

__all__ = ["ProgramModule", "as_module", "frozen", "in_python"]
