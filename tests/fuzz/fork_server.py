"""Stands in for the child that reads HDF5: started once, it forks for every file.

``python -P fork_server.py SCRIPT``. A request stands in a line, and so does the answer: the status
as `subprocess` gives it, and what was said.
"""

import contextlib
import importlib.util
import json
import os
import sys

import h5py  # noqa: F401  (once, not in every child)


def main(script: str) -> None:
    spec = importlib.util.spec_from_file_location("hdf5_child", script)
    assert spec is not None
    assert spec.loader is not None
    child = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(child)
    for line in sys.stdin:
        out, into = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(into, 1)
            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
            status = 0
            try:
                with contextlib.suppress(*child.WORDED):
                    child.main(line)
            except BaseException as error:
                os.write(1, repr(error).encode())
                status = 1
            os._exit(status)
        os.close(into)
        with os.fdopen(out, errors="replace") as said:
            text = said.read()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.write(json.dumps([status, text]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
