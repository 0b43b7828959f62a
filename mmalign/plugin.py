"""Own code without packaging: a Python file that the user names, which registers modalities, objectives and so on."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from mmalign import registry
from mmalign.errors import UserError


def load_plugin(path: str | Path) -> ModuleType:
    """Import a Python file of your own, which registers what it defines by `mmalign.register`.

    The file is code and runs with your rights. Its path comes from you alone: recipes, run folders and bundles cannot
    name one. Load the same file before you load a bundle that uses its names.

    Args:
        path: The file, ending in .py. Loading it again returns the module that was imported before.

    Returns:
        The imported module.

    Raises:
        UserError: there is no such file, its name does not end in .py, it cannot be imported, or it registers nothing.

    Example:
        >>> import mmalign
        >>> mmalign.load_plugin("my_objective.py")  # doctest: +SKIP
        >>> mmalign.train("image-text/demo", {"model.pairs": [{"objective": "mine"}]})  # doctest: +SKIP
    """
    file = Path(path).expanduser().resolve()
    if file.suffix != ".py" or not file.is_file():
        raise UserError(f"--plugin {path}: expected a Python file that exists, such as my_code.py")
    # The same name in every process, so that loader workers that are spawned can unpickle its classes.
    name = f"mmalign_plugin_{file.stem}"
    if (loaded := sys.modules.get(name)) is not None:
        if loaded.__file__ == str(file):
            return loaded
        raise UserError(
            f"--plugin {path}: a plugin called {file.name} is loaded already ({loaded.__file__}); rename one"
        )
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UserError(f"--plugin {path}: expected a Python file that exists, such as my_code.py")
    module = importlib.util.module_from_spec(spec)
    before = registry.registered()
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        if registry.registered() == before:
            raise UserError('registers nothing; expected calls such as mmalign.register("objectives", "mine", Mine)')
    except Exception as error:
        # All or nothing: a file that was mended is imported again as if it were new.
        del sys.modules[name]
        for key in registry.registered().keys() - before.keys():
            registry.unregister(*key)
        own = isinstance(error, UserError)
        line = "" if own else f"{_line(error, file)}{type(error).__name__}: "
        raise UserError(f"--plugin {path}: {line}{error}") from error
    return module


def _line(error: Exception, file: Path) -> str:
    """The last line of the plugin that an error passed through, as `line 3: `."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"line {error.lineno}: "
    lines, trace = [0], error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f"line {lines[-1]}: " if lines[-1] else ""
