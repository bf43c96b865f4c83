"""Let pytorch-grad-cam be imported where torchvision is not installed.

It imports torchvision for preparing photographs, for boxes of detectors and for one augmentation;
its maps of volumes use none of that. Torchvision's usual wheels need a CUDA build of torch, so here
the names it imports stand for functions that refuse to be called. Nothing of pytorch-grad-cam is
changed, and a torchvision that is installed is used.
"""

import importlib.util
import sys
from types import ModuleType
from typing import Any

_NAMES = {
    "torchvision": (),
    "torchvision.transforms": ("Compose", "Normalize", "ToTensor"),
    "torchvision.transforms.functional": ("resize",),
}


def stand_in() -> None:
    """Put the stand-ins where `import torchvision` finds them."""
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision"):
        return
    for path, names in _NAMES.items():
        module = ModuleType(path, __doc__)
        for name in names:
            setattr(module, name, _refusing(f"{path}.{name}"))
        sys.modules[path] = module
        parent, _, child = path.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)


def _refusing(name: str) -> Any:
    def refuse(*_: Any, **__: Any) -> None:
        raise ImportError(f"{name} was called, but torchvision is not installed here")

    return refuse
