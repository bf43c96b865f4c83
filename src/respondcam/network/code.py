"""Which code a network is made of: its parameters do not show what it computes."""

from respondcam._files import expanded
from respondcam.network.weights import file_sha256


def code_sha256(spec: str) -> str | None:
    """Digest of the file of Python that an address names; None for every other address.

    What that file imports is not looked at.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp(), "nets.py")
    >>> _ = file.write_bytes(b"abc")
    >>> code_sha256(f"{file}:build")[:8], code_sha256("demo")
    ('ba7816bf', None)
    """
    file = expanded(spec.rpartition(":")[0])
    return file_sha256(file) if file.suffix == ".py" and file.is_file() else None
