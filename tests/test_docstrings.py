"""Every public name has a numpydoc docstring that agrees with its signature, and whose examples run."""

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "sparkneuro").rglob("*.py"))
SECTION = re.compile(r"^(Parameters|Attributes|Returns|Yields|Raises|References|Examples|Notes|See Also)\n-+\n", re.MULTILINE)
KERAS_METHODS = {"build", "call", "get_config", "from_config", "compute_output_shape", "compute_output_spec"}


def public_definitions(path):
    """Public functions, classes and methods of a file, as (qualified name, node, class node or None)."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node, None
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    yield f"{node.name}.{method.name}", method, node


def sections_of(docstring):
    """The sections of a numpydoc docstring, as a dict of title to text."""
    pieces = SECTION.split(docstring)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def documented_names(section):
    """Names that stand at the left margin of a section, before their colon."""
    lines = [line for line in section.splitlines() if line and not line[0].isspace()]
    return [name.strip().lstrip("*") for line in lines for name in line.partition(" : ")[0].split(",")]


def parameters_of(function, is_method):
    names = [argument.arg for argument in [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]]
    names += [argument.arg for argument in (function.args.vararg, function.args.kwarg) if argument]
    static = any(isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in function.decorator_list)
    return names[1:] if is_method and not static else names


def constructor_of(node):
    return next((item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None)


def is_accessor(function):
    """Properties, and methods that override those of a base class which documents them."""
    marks = [mark.attr if isinstance(mark, ast.Attribute) else getattr(mark, "id", "") for mark in function.decorator_list]
    return bool({"property", "setter", "cached_property"} & set(marks)) or function.name in KERAS_METHODS


DEFINITIONS = [
    pytest.param(path, name, node, owner, id=f"{path.relative_to(ROOT / 'sparkneuro')}:{name}")
    for path in SOURCES for name, node, owner in public_definitions(path)
]


@pytest.mark.parametrize(("path", "name", "node", "owner"), DEFINITIONS)
def test_a_public_name_says_what_one_gets(path, name, node, owner):
    docstring = ast.get_docstring(node)
    if docstring is None and owner is not None and (owner.bases or is_accessor(node)):
        return  # what a base class documents is not said twice
    assert docstring, f"{name} has no docstring"
    first = docstring.splitlines()[0]
    assert first.endswith((".", "?", ":")), f"the first line of {name} is no sentence: {first!r}"


@pytest.mark.parametrize(("path", "name", "node", "owner"), DEFINITIONS)
def test_the_docstring_names_the_parameters_of_the_signature(path, name, node, owner):
    docstring = ast.get_docstring(node)
    if docstring is None or is_accessor_or_setting(node):
        return
    function = constructor_of(node) if isinstance(node, ast.ClassDef) else node
    documented = documented_names(sections_of(docstring).get("Parameters", ""))
    if function is None:  # a dataclass documents its fields, and a plain class has none to document
        fields = [item.target.id for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)]
        assert set(documented) <= set(fields), f"{name} documents {documented}, its fields are {fields}"
        return
    parameters = parameters_of(function, owner is not None or isinstance(node, ast.ClassDef))
    overriding = owner is not None and owner.bases and not documented
    # Parameters of one kind may share a line, so their order is free.
    assert overriding or sorted(documented) == sorted(p for p in parameters if not p.startswith("_")), name


def is_accessor_or_setting(node):
    """What needs no parameter section: accessors, and Settings dataclasses, whose help texts document the fields."""
    return node.name == "Settings" if isinstance(node, ast.ClassDef) else is_accessor(node)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is(path):
    if path.name == "__init__.py" and not path.read_text().strip():
        return
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


EXAMPLES = [path for path in SOURCES if ">>> " in path.read_text()]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_examples_run(path):
    text = path.read_text()
    if re.search(r"^import (keras|tensorflow)|^from (keras|tensorflow)", text, re.MULTILINE):
        pytest.importorskip("keras", reason="needs the extra keras")
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0 and result.failed == 0
