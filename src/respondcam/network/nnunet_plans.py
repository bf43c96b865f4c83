"""What nnU-Net's plans say of the preparation of a volume: checked before anything is built on it.

nnU-Net writes these fields itself and takes them at their word. In plans that were damaged or
changed by hand they end in errors from deep inside it, or in memory that no machine has.
"""

import inspect
from collections.abc import Mapping
from math import isfinite, prod
from pathlib import Path
from typing import Any

from respondcam._kinds import is_listed, is_mapping
from respondcam.errors import ModelError

MOST_VOXELS = 1 << 28  # of a patch, or of a scan that is not that large itself
_LONGEST = 2048  # voxels of a patch along an axis
_CT = ("mean", "std", "percentile_00_5", "percentile_99_5")
_ORDER = 5  # of splines


def check_plans(
    file: Path, plans: Mapping[str, Any], configuration: Mapping[str, Any], *, channels: int
) -> None:
    """Refuse plans by which no volume can be prepared.

    Parameters
    ----------
    file
        ``plans.json``, for messages.
    plans
        Its content.
    configuration
        The chosen one, with what it inherits.
    channels
        How many the network takes.

    Raises
    ------
    ModelError
        Naming the file, the field and what is accepted.
    """
    found = (
        _grid(configuration)
        or _axes(plans)
        or _normalisations(configuration, channels)
        or _intensities(plans, configuration, channels)
        or _resampling(configuration)
    )
    if found:
        field, value, accepted = found
        given = repr(value)
        given = f"{given[:60]}..." if len(given) > 63 else given
        raise ModelError(f"{str(file)!r} gives {field} as {given}. Accepted: {accepted}.")


_Wrong = tuple[str, Any, str] | None  # field, value, and what is accepted


def _grid(configuration: Mapping[str, Any]) -> _Wrong:
    patch, spacing = configuration.get("patch_size"), configuration.get("spacing")
    sizes = patch if is_listed(patch) else []
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in sizes)
    if len(sizes) not in (2, 3) or not whole or not all(1 <= n <= _LONGEST for n in sizes):
        return "patch_size", patch, f"two or three whole numbers from 1 to {_LONGEST}"
    if prod(sizes) > MOST_VOXELS:
        return "patch_size", patch, f"patches of at most {MOST_VOXELS} voxels"
    lengths = spacing if is_listed(spacing) else []
    if len(lengths) != len(sizes) or not all(_is_number(one) and one > 0 for one in lengths):
        return "spacing", spacing, f"{len(sizes)} finite numbers above 0, one per axis of the patch"
    return None


def _axes(plans: Mapping[str, Any]) -> _Wrong:
    for field in ("transpose_forward", "transpose_backward"):
        order = plans.get(field)
        whole = is_listed(order) and all(type(one) is int for one in order)
        if not whole or sorted(order or []) != [0, 1, 2]:
            return field, order, "the axes 0, 1, 2 in some order"
    return None


def _normalisations(configuration: Mapping[str, Any], channels: int) -> _Wrong:
    from nnunetv2.preprocessing.normalization.default_normalization_schemes import (  # pyright: ignore[reportMissingTypeStubs]
        ImageNormalization,
    )

    field = "normalization_schemes"
    names = configuration.get(field)
    each = f"one for each of the {channels} channel(s) of dataset.json"
    if not is_listed(names) or len(names) < channels:
        return field, names, f"names of nnU-Net's normalisations, {each}"
    for name in names[:channels]:
        found = _found(name, "normalization")
        if not isinstance(found, type) or not issubclass(found, ImageNormalization):
            return field, name, "ZScoreNormalization, CTNormalization and others of nnU-Net's"
    masked = configuration.get("use_mask_for_norm")
    if not is_listed(masked) or not all(isinstance(one, bool) for one in masked):
        return "use_mask_for_norm", masked, f"true or false, {each}"
    return None if len(masked) >= channels else ("use_mask_for_norm", masked, each)


def _intensities(
    plans: Mapping[str, Any], configuration: Mapping[str, Any], channels: int
) -> _Wrong:
    field = "foreground_intensity_properties_per_channel"
    every = plans.get(field)
    for channel in range(channels):
        place = f"{field} of channel {channel}"
        own = every.get(str(channel)) if is_mapping(every) else None
        if not is_mapping(own):
            return place, own, "an object with mean, std and percentiles of the intensities"
        if configuration["normalization_schemes"][channel] != "CTNormalization":
            continue
        for name in _CT:
            if not _is_number(own.get(name)):
                accepted = f"finite numbers for {', '.join(_CT)}, which CTNormalization takes"
                return f"{name} in {place}", own.get(name), accepted
    return None


def _resampling(configuration: Mapping[str, Any]) -> _Wrong:
    for field in ("resampling_fn_data", "resampling_fn_seg"):
        name, options = configuration.get(field), configuration.get(f"{field}_kwargs")
        found = _found(name, "resampling")
        own = getattr(found, "__module__", "").startswith("nnunetv2.preprocessing.resampling.")
        if not inspect.isfunction(found) or not own:
            return field, name, "resample_data_or_seg_to_shape and others of nnU-Net's"
        known = inspect.signature(found).parameters
        variable = any(one.kind is one.VAR_KEYWORD for one in known.values())
        if not is_mapping(options) or not (variable or set(options) <= set(known)):
            accepted = f"an object with arguments of {name}: {', '.join(list(known)[4:])}"
            return f"{field}_kwargs", options, accepted
        for order in ("order", "order_z"):
            value = options.get(order, 0)
            if type(value) is not int or not 0 <= value <= _ORDER:
                return f"{order} in {field}_kwargs", value, f"whole numbers from 0 to {_ORDER}"
    return None


def _found(name: Any, where: str) -> Any:
    """What nnU-Net finds under a name in one of its packages; None if nothing."""
    import nnunetv2  # pyright: ignore[reportMissingTypeStubs]
    from nnunetv2.utilities.find_class_by_name import (  # pyright: ignore[reportMissingTypeStubs]
        recursive_find_python_class,
    )

    if not isinstance(name, str) or not name.isidentifier():
        return None
    folder = Path(nnunetv2.__path__[0]) / "preprocessing" / where
    find: Any = recursive_find_python_class  # pyright: ignore[reportUnknownVariableType]
    return find(str(folder), name, f"nnunetv2.preprocessing.{where}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
