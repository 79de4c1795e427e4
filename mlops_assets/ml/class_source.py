"""What decides what a class does: its file, the modules of its author that it imports, and versions of libraries.

Files are read and not run, so that asking costs little and imports nothing. Only where that leads nowhere, as with
names that are made at run time, is the class imported. What a module imports by `importlib` is not seen.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import threading
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.ml.import_paths import find_module, import_class
from mlops_assets.ml.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from importlib.machinery import ModuleSpec

ALWAYS = ("numpy", "onnx")
# Python 3.11 fails where two threads parse at the same time ("AST constructor recursion depth mismatch",
# python/cpython#106905), and others than ours do, as `inspect`
PARSING = threading.Lock()
PARSES = 20
WITH = {"torch": ("onnxscript",), "sklearn": ("scipy", "skl2onnx")}  # what fits or converts beside the library itself


class ClassSource(Value):
    """SHA-256 of the files by module, and versions of the libraries by package."""

    files: dict[str, str]
    libraries: dict[str, str]


def class_source(paths: Iterable[str]) -> ClassSource:
    """The source of the classes at these import paths, taken together.

    Modules of the author are those that no installed distribution has, wherever they lie, and those in the package of
    the class; they are followed through their imports. Of a class of scikit-learn or torch the file counts, and the
    library by its version.

    Raises:
        TrainingError: there is no such class.
    """
    files, libraries = dict[str, str](), set[str](ALWAYS)
    starts = [_defining_module(path) for path in paths]
    for module, found, is_own in _used_modules(starts):
        if found is None:
            continue
        if not is_own:
            home = module.partition(".")[0]
            libraries.update((home, *WITH.get(home, ())))
        if found.origin and (is_own or module in starts):
            files[module] = hashlib.sha256(Path(found.origin).read_bytes()).hexdigest()
    return ClassSource(files=files, libraries={name: _version(name) for name in sorted(libraries)})


def needs_torch(paths: Iterable[str]) -> bool:
    """Whether one of the classes at these import paths is made with torch, or files of its author import torch.

    What cannot be read may need it, too. Torch need not be installed.

    >>> needs_torch(["sklearn.linear_model.Ridge"]), needs_torch(["mlops_assets.ml.networks.MLP"])
    (False, True)
    """
    starts = list[str]()
    for path in paths:
        if path.startswith("sklearn."):
            continue
        found = _definition(path)
        if found is None or library_of(path) == "torch":
            return True
        starts.append(found[0])
    return any(module.partition(".")[0] == "torch" for module, _, _ in _used_modules(starts))


def library_of(path: str) -> str:
    """The library that the class at an import path is made with: torch, sklearn, or "" where that cannot be read.

    >>> library_of("sklearn.linear_model.Ridge"), library_of("mlops_assets.ml.networks.MLP")
    ('sklearn', 'torch')
    """
    waiting, seen = [path], set[str]()
    while waiting:
        path = waiting.pop()
        library = path.partition(".")[0]
        if library in WITH:
            return library
        found = None if path in seen else _definition(path)
        seen.add(path)
        if found is not None:
            module, defined = found
            if any(isinstance(item, ast.FunctionDef) and item.name == "to_onnx" for item in defined.body):
                return ""  # a learner of its own
            names = _names(module)
            for base in defined.bases:
                first, dot, rest = ast.unparse(base).partition(".")
                waiting.append(names.get(first, f"{module}.{first}") + dot + rest)
    return ""


def _used_modules(starts: Sequence[str]) -> Iterator[tuple[str, ModuleSpec | None, bool]]:
    """These modules and those that they import: where each lies, and whether its author is that of the first ones.

    Modules of other authors are not followed.
    """
    homes = {module.partition(".")[0] for module in starts} - WITH.keys()
    waiting, seen = list(starts), set[str]()
    while waiting:
        module = waiting.pop()
        home = module.partition(".")[0]
        if module in seen or home in sys.stdlib_module_names:
            continue
        seen.add(module)
        found = find_module(module)
        is_own = home in homes or home not in _distributions()
        yield module, found, is_own
        if is_own and found and found.origin and found.origin.endswith(".py"):
            waiting += _imported_modules(module)


def _defining_module(path: str) -> str:
    """The module whose file defines the class, behind all that only imports it."""
    found = _definition(path)
    if found is not None:
        return found[0]
    kind = import_class(path)
    home = inspect.getmodule(kind)
    return home.__name__ if home is not None else path.rpartition(".")[0]


def _definition(path: str) -> tuple[str, ast.ClassDef] | None:
    """Module and definition of a class, where its file and those that import it from there say so."""
    seen = set[str]()
    while path not in seen:
        seen.add(path)
        module, _, name = path.rpartition(".")
        tree = _tree(module)
        for item in tree.body if tree else ():
            if isinstance(item, ast.ClassDef) and item.name == name:
                return module, item
        path = _names(module).get(name, path)
    return None


def _tree(module: str) -> ast.Module | None:
    found = find_module(module) if module else None
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        return None
    content = Path(found.origin).read_bytes()
    for tries_left in reversed(range(PARSES)):
        try:
            with PARSING:
                return ast.parse(content)
        except SyntaxError:
            return None  # importing it says where
        except SystemError:
            if not tries_left:
                raise
    return None


def _names(module: str) -> dict[str, str]:
    """What the names that a module imports stand for."""
    names = dict[str, str]()
    for statement in _imports(module):
        if isinstance(statement, ast.ImportFrom):
            source = _absolute(statement, module)
            names |= {alias.asname or alias.name: f"{source}.{alias.name}" for alias in statement.names}
        else:
            for alias in statement.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
    return names


def _imported_modules(module: str) -> Iterator[str]:
    for statement in _imports(module):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        else:
            source = _absolute(statement, module)
            for alias in statement.names:
                inner = f"{source}.{alias.name}"
                yield inner if alias.name != "*" and find_module(inner) else source


def _imports(module: str) -> Iterator[ast.Import | ast.ImportFrom]:
    """The statements of a module that import, also inside of functions, but not those for type checkers alone."""
    tree = _tree(module)
    waiting: list[ast.AST] = [tree] if tree else []
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        if isinstance(node, ast.If) and ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING":
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def _absolute(statement: ast.ImportFrom, module: str) -> str:
    """The module that `from ... import` names, seen from `module`."""
    if not statement.level:
        return statement.module or ""
    found = find_module(module)
    is_package = found is not None and found.submodule_search_locations is not None
    parts = module.split(".")
    package = parts[: len(parts) - statement.level + is_package]
    return ".".join([*package, *([statement.module] if statement.module else [])])


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())


def _version(package: str) -> str:
    """The versions of the distributions that a package comes from; "" where it is none."""
    try:
        return " ".join(sorted({version(name) for name in _distributions().get(package, ())}))
    except PackageNotFoundError:
        return ""
