"""What the Python files of a package import, found by reading them and never by running them."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from packaging.utils import canonicalize_name

from slmconform.package.problem import PackageProblem, shown

SOURCE_LIMIT = 2**20  # bytes of one source file; parsing takes some seconds then
SOURCES_LIMIT = 4 * 2**20  # bytes of all of them

# Distributions whose import name is not their own, for those that are not installed here.
IMPORTED_AS: Mapping[str, tuple[str, ...]] = {
    "Bio": ("biopython",),
    "Crypto": ("pycryptodome",),
    "Levenshtein": ("levenshtein", "python-levenshtein"),
    "MeCab": ("mecab-python3",),
    "OpenSSL": ("pyopenssl",),
    "PIL": ("pillow",),
    "attr": ("attrs",),
    "bs4": ("beautifulsoup4",),
    "cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python"),
    "dateutil": ("python-dateutil",),
    "faiss": ("faiss-cpu", "faiss-gpu"),
    "git": ("gitpython",),
    "google.protobuf": ("protobuf",),
    "jwt": ("pyjwt",),
    "mpl_toolkits": ("matplotlib",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "opencc": ("opencc", "opencc-python-reimplemented"),
    "pkg_resources": ("setuptools",),
    "skimage": ("scikit-image",),
    "sklearn": ("scikit-learn",),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "umap": ("umap-learn",),
    "yaml": ("pyyaml",),
    "zmq": ("pyzmq",),
}
_IMPORT_ERRORS = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})
_BLOCKS = (ast.stmt, ast.ExceptHandler, ast.match_case)
_IMPORT_CALLS = frozenset({"import_module", "__import__"})


@dataclass(frozen=True, slots=True)
class Import:
    """An absolute import: dotted ``module``, and whether the code goes on without it."""

    module: str
    path: str
    line: int
    optional: bool

    @property
    def top(self) -> str:
        """The name that has to be installed."""
        return self.module.partition(".")[0]


def imports(source: bytes, path: str) -> list[Import]:
    """Every absolute import of one file in the order of its lines.

    An import under ``try`` with a handler for its failure, or under ``if TYPE_CHECKING``, is
    optional. Raises `PackageProblem` with the line where the file is not Python.
    """
    found: list[Import] = []
    pending: list[tuple[ast.AST, bool]] = [(_parse(source, path), False)]
    # Only a call can import inside an expression: without one, statements alone are walked.
    calls = any(name.encode() in source for name in _IMPORT_CALLS)
    while pending:
        node, optional = pending.pop()
        line = getattr(node, "lineno", 0)
        found += [Import(module, path, line, optional) for module in _modules(node)]
        children = _children(node, optional=optional)
        pending.extend(child for child in children if calls or isinstance(child[0], _BLOCKS))
    return sorted(found, key=lambda one: (one.line, one.module))


def imports_by_variable(source: bytes, path: str) -> bool:
    """Whether a file imports what only running it tells: by a name that is no constant."""
    if not any(name.encode() in source for name in _IMPORT_CALLS):
        return False
    return any(
        isinstance(node, ast.Call)
        and _called(node) in _IMPORT_CALLS
        and not (node.args and isinstance(node.args[0], ast.Constant))
        for node in ast.walk(_parse(source, path))
    )


def importable(name: str) -> bool:
    """Whether an installed distribution provides anything to import."""
    return any(
        canonicalize_name(one) == name for provided in _installed().values() for one in provided
    )


def own_modules(sources: list[str]) -> frozenset[str]:
    """The names under which the files of a package can import each other."""
    names: set[str] = set()
    for path in sources:
        parts = path.removesuffix(".py").split("/")
        names.update(parts)
    return frozenset(names - {"__init__"})


def foreign(found: list[Import], own: frozenset[str]) -> list[Import]:
    """The imports that neither the standard library nor the package itself provides."""
    return [
        one
        for one in found
        if one.top not in own and one.top not in sys.stdlib_module_names and one.top != "__future__"
    ]


def distributions(module: str) -> frozenset[str]:
    """The distributions that can provide a dotted module, under their normalised names."""
    names: set[str] = set()
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if known := IMPORTED_AS.get(".".join(parts[:length])):
            names.update(known)
            break
    names.update(_installed().get(parts[0], ()))
    return frozenset(canonicalize_name(name) for name in names or {parts[0]})


@cache
def _installed() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _parse(source: bytes, path: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape sequence is not our business
            return ast.parse(source, filename="<source>")
    except SyntaxError as error:
        where = f"{path}:{error.lineno}" if error.lineno else path
        got = f"not Python {sys.version_info[0]}.{sys.version_info[1]}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        where, got = path, f"cannot be parsed: {shown(str(error) or type(error).__name__)}"
    raise PackageProblem(
        "unparseable-code",
        where,
        got,
        "Python source that parses",
        "correct the file, or leave it out of the package",
    )


def _modules(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and node.args and _called(node) in _IMPORT_CALLS:
        first = node.args[0]
        name = first.value if isinstance(first, ast.Constant) else None
        if isinstance(name, str) and re.fullmatch(r"[^\W\d]\w*(\.\w+)*", name):
            yield name


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _children(node: ast.AST, *, optional: bool) -> Iterator[tuple[ast.AST, bool]]:
    spared: list[ast.AST] = []
    if isinstance(node, ast.Try | ast.TryStar) and any(map(_catches_import, node.handlers)):
        # A handler's own import is the substitute: one of the two is enough.
        spared = [*node.body, *node.handlers, *node.orelse]
    elif isinstance(node, ast.If) and _for_types(node.test):
        spared = [*node.body]
    ids = set(map(id, spared))
    for child in ast.iter_child_nodes(node):
        yield child, optional or id(child) in ids


def _catches_import(handler: ast.ExceptHandler) -> bool:
    caught = handler.type
    if caught is None:
        return True
    options = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(isinstance(one, ast.Name) and one.id in _IMPORT_ERRORS for one in options)


def _for_types(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"
