"""The layout: a package imports only packages above it and flat modules, and no module needs itself."""
import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
ORDER = ["common", "ranks", "sources", "consent", "training", "influence", "game", "evaluation", "report"]
BESIDE = ["studies", "benchmarks"]  # which need a checkout and import src by its name
MODULES = {path.relative_to(SOURCE).with_suffix("").parts: path for path in SOURCE.rglob("*.py")
           if path.name != "__init__.py"}


def imports(module):
    """The modules that a module imports, those within its functions too, as tuples of names."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            start = (*module[:len(module) - node.level], *(node.module.split(".") if node.module else ()))
            found |= {name for alias in node.names for name in ((*start, alias.name), start) if name in MODULES}
    return found


def test_the_packages_are_those_of_the_stages():
    assert sorted(path.parent.name for path in SOURCE.glob("*/__init__.py")) == sorted(ORDER)


@pytest.mark.parametrize("package", ORDER)
def test_a_package_imports_only_what_is_above_it(package):
    below = set(ORDER[ORDER.index(package) + 1:])
    for module in (name for name in MODULES if name[0] == package):
        assert not {name[0] for name in imports(module)} & below, module


def test_there_is_no_cycle():
    left = {module: imports(module) for module in MODULES}
    while free := [module for module, needed in left.items() if not needed & set(left)]:
        for module in free:
            del left[module]
    assert not left


def test_tests_mirror_the_folders():
    tests = Path(__file__).parent
    folders = {path.parent.name for path in tests.glob("*/test_*.py")}
    assert folders == {*ORDER, "studies"}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_names_neither_the_package_nor_what_stands_beside_it(module):
    """It is src in a checkout and ifrqe where it is installed."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else \
            [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        assert not {name.split(".")[0] for name in names} & set(BESIDE)
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        assert not re.search(r"^src\.|\b(from|import) (src|ifrqe)\b", text)
