"""Components that users can add in one file: methods and networks.

A component is a class with the literal class attributes `name` and `summary`. Its name may be

- that of a class in one of vclimb's own folders, which are searched without importing them, so that a command's help
  can list them in milliseconds;
- that of an entry point, in the group of the component's kind, of an installed package;
- `package.module:Class`, the place of a class that Python can import.

vclimb's own names come first. Processes that a study starts find a component by the same name.
"""

from __future__ import annotations

import ast
import functools
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, resources
from typing import Any, Generic, TypeVar

from vclimb.pipeline.errors import SettingsError
from vclimb.suggestion import suggestion

ComponentT = TypeVar("ComponentT")


@dataclass(frozen=True)
class Listing:
    """A component that can be chosen by its name.

    Attributes:
        name: Name of the component in settings.
        summary: Description in one line.
        place: `package.module:Class`.
    """

    name: str
    summary: str
    place: str


class Registry(Generic[ComponentT]):
    """All components of a kind.

    Args:
        kind: What the components are, in messages: `method` or `network`.
        package: Package whose modules define vclimb's own components.
        group: Group of entry points of other packages' components.
        base: Place of the class that all components extend; it is imported with the first component.
    """

    def __init__(self, kind: str, package: str, group: str, base: str) -> None:
        self._kind = kind
        self._package = package
        self._group = group
        self._base = base
        self._classes: dict[str, type[ComponentT]] = {}

    def built_in(self) -> dict[str, Listing]:
        """List vclimb's components by name, without importing them."""
        return _scan(self._package)

    def installed(self) -> dict[str, Listing]:
        """List the components of other installed packages by name, without importing them."""
        listings: dict[str, Listing] = {}
        for entry in metadata.entry_points(group=self._group):
            origin = f"From the package {entry.dist.name}." if entry.dist is not None else ""
            listings.setdefault(entry.name, Listing(entry.name, origin, entry.value))
        return listings

    def summaries(self) -> dict[str, str]:
        """Map the names of all components to their summaries, without importing them."""
        return {name: listing.summary for name, listing in (self.installed() | self.built_in()).items()}

    def find(self, name: object) -> type[ComponentT]:
        """Import the component of a name.

        Raises:
            SettingsError: no component has the name, or its class can't be imported or is not of this kind.
        """
        if not isinstance(name, str):
            raise SettingsError(f"{self._kind} {name!r} is not known; {suggestion(str(name), self.built_in())}")
        if name not in self._classes:
            self._classes[name] = self._load(name)
        return self._classes[name]

    def _load(self, name: str) -> type[ComponentT]:
        place = name
        if ":" not in name:
            listing = self.built_in().get(name) or self.installed().get(name)
            if listing is None:
                known = {**self.built_in(), **self.installed()}
                raise SettingsError(
                    f"{self._kind} {name!r} is not known; {suggestion(name, known)}, or a class as package.module:Class"
                )
            place = listing.place
        base, component = _import(self._base), self._imported(name, place)
        if not isinstance(component, type) or not issubclass(component, base):
            raise SettingsError(f"{self._kind} {name!r} is no {self._kind}: {place} does not extend {self._base}")
        return component

    def _imported(self, name: str, place: str) -> Any:
        module = place.partition(":")[0]
        try:
            return _import(place)
        except AttributeError as error:
            raise SettingsError(f"{self._kind} {name!r} can't be imported: {error}") from None
        except ImportError as error:
            raise SettingsError(
                f"{self._kind} {name!r} can't be imported: {error}; module {module!r} must be installed, or its folder "
                "be named by the environment variable PYTHONPATH"
            ) from None


def _import(place: str) -> Any:
    """Import the object at `package.module:Name`."""
    module, _, attribute = place.partition(":")
    return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))


@functools.cache
def _scan(package: str) -> dict[str, Listing]:
    """List the classes in a package's modules that declare a name, sorted by it."""
    listings = []
    for file in resources.files(package).iterdir():
        if file.name.endswith(".py"):
            module, source = f"{package}.{file.name.removesuffix('.py')}", file.read_text("utf-8")
            for class_name, texts in _declarations(source) if "\n    name = " in source else ():
                listings.append(Listing(texts["name"], texts.get("summary", ""), f"{module}:{class_name}"))
    return {listing.name: listing for listing in sorted(listings, key=lambda listing: listing.name)}


def _declarations(source: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Find the classes that declare a name: their names in Python, and their attributes that are literal texts."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            texts = {
                target.id: statement.value.value
                for statement in node.body
                if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
                for target in statement.targets
                if isinstance(target, ast.Name) and isinstance(statement.value.value, str)
            }
            if "name" in texts:
                yield node.name, texts
