"""Import TensorFlow without its start-up messages.

Its C++ libraries write a dozen lines to the standard error while they load (on oneDNN, on CUDA drivers that a CPU machine lacks),
before any of the variables that set their log level is read. What they write is held back until the import has succeeded, and
shown in full when it fails.
"""

import importlib.util
import os
import sys
import tempfile
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder


def import_tensorflow_quietly():
    """Arrange that the first import of TensorFlow in this process, by whomever, says nothing. Imports nothing itself."""
    waiting = any(isinstance(finder, _QuietFinder) for finder in sys.meta_path)
    if "tensorflow" not in sys.modules and not waiting and os.environ.get("SPARKNEURO_LOG", "").lower() not in ("info", "debug"):
        sys.meta_path.insert(0, _QuietFinder())


@contextmanager
def held_standard_error():
    """Hold back what this process's libraries write to file descriptor 2; pass it on only if an exception leaves the block."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # closed: nothing can be seen anyway
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            sys.stderr.flush()
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


class _QuietFinder(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _QuietLoader(spec.loader)
        return spec


class _QuietLoader(Loader):
    def __init__(self, loader):
        self.loader = loader

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self.loader
        with held_standard_error():
            self.loader.exec_module(module)
            # Looking for GPUs is what a CPU machine complains of next; it does not start TensorFlow's threads.
            module.config.list_physical_devices()
