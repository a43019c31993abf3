"""What Python imports at the start of a program under `eventstore run`, and of its children.

The folder of this module is on the path for this alone. It takes the place of the environment's
own `sitecustomize`, if there is one, which is therefore run after it.
"""

import importlib.machinery
import importlib.util
import os
import sys


def _install_alias() -> None:
    try:
        from eventstore.alias import install_as_ml_metadata
    except ImportError as error:
        sys.stderr.write(
            f"eventstore run: {sys.executable} cannot import eventstore ({error}): install "
            "mlmd-eventstore there; `import ml_metadata` is left as it is\n"
        )
    else:
        install_as_ml_metadata()


def _run_the_next(folder: str) -> None:
    others = [path for path in sys.path if os.path.abspath(path or os.curdir) != folder]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


_install_alias()
_run_the_next(os.path.dirname(os.path.abspath(__file__)))
