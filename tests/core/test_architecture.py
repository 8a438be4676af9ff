"""The rooms of the house: which may import which, without circles, and how full a folder may be."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import sonosynth

ROOT = Path(sonosynth.__file__).parent
# A room imports from rooms that stand before it. docs/architecture.md says what is in each.
ROOMS = (
    "core",
    "tracking",
    "statistics",
    "data",
    "datasets",
    "phantoms",
    "features",
    "priors",
    "audit",
    "gan",
    "metrics",
    "classify",
    "study",
    "analysis",
    "report",
    "release",
    "web",
    "cli",
)
APART = {"gan", "metrics", "classify"}  # do not import each other
MOST_FILES = 14
# A method that draws a page takes it by name from the room of pages, further down the list.
BY_NAME = {
    ("sonosynth.audit.audit", "sonosynth.report.audit_page"),
    ("sonosynth.metrics.scorecard", "sonosynth.report.scorecard.page"),
}


def name_of(path: Path) -> str:
    return ".".join(("sonosynth", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {name_of(path): path for path in ROOT.rglob("*.py")}


def imports_of(path: Path) -> set[str]:
    """Return the modules of this package that a file imports, also inside functions and for type checkers."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in MODULES else str(node.module) for name in inside}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & set(MODULES)


def imports_by_name(path: Path) -> set[str]:
    """Return the modules that a file gives to `import_module`: of an f-string, what stands before its first field."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("import_module", "importlib.import_module"):
            name = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
            assert isinstance(name, ast.Constant), f"{path}: import_module of a name that no test can see"
            found.add(name.value)
    return found


def room_of(module: str) -> str | None:
    return module.split(".")[1] if "." in module and module.split(".")[1] in ROOMS else None


def test_every_folder_is_a_room_of_the_list():
    assert {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_before_it(room):
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    if room in APART:
        allowed -= APART - {room}
    for module, path in MODULES.items():
        if room_of(module) == room:
            wrong = [name for name in imports_of(path) if room_of(name) not in allowed]
            assert not wrong, f"{module} imports {wrong}"


def test_imports_by_name_of_rooms_further_down_are_those_that_are_listed():
    found = {
        (module, name)
        for module, path in MODULES.items()
        for name in imports_by_name(path)
        if room_of(name) and room_of(name) not in ROOMS[: ROOMS.index(room_of(module)) + 1]
    }
    assert found == BY_NAME


@pytest.mark.long
def test_no_modules_import_each_other_in_a_circle():
    graph = {module: imports_of(path) - {"sonosynth"} for module, path in MODULES.items() if module != "sonosynth"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circle of imports: {' -> '.join(error.args[1])}")


def test_no_folder_is_overfull():
    for folder in (path for path in ROOT.rglob("*") if path.is_dir()):
        files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= MOST_FILES, f"{folder.relative_to(ROOT)} holds {len(files)} files"


@pytest.mark.long
def test_names_of_tests_have_fewer_than_80_characters():
    for path in Path(__file__).parents[1].rglob("test_*.py"):
        functions = [
            node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef)
        ]
        long = [
            function.name for function in functions if function.name.startswith("test_") and len(function.name) >= 80
        ]
        assert not long, f"{path.name}: {long}"
