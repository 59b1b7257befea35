"""One function per command: open the inputs, resolve the settings, run the stage, report.

Stages are imported inside the functions: importing torch takes seconds, and `--help` or a bad path should not wait. The
modules themselves load when they are first used: `doctor` has to run where OpenCV or PyArrow, which they import, is
broken.
"""

import importlib.util
import pkgutil
import sys

for _found in pkgutil.iter_modules(__path__, f"{__name__}."):
    _spec = importlib.util.find_spec(_found.name)
    if _spec is not None and _spec.loader is not None and _found.name not in sys.modules:
        _spec.loader = importlib.util.LazyLoader(_spec.loader)
        _module = importlib.util.module_from_spec(_spec)
        sys.modules[_found.name] = _module
        _spec.loader.exec_module(_module)
        globals()[_found.name.rpartition(".")[2]] = _module
