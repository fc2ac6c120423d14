"""Components that users can add in one file: methods, networks, codecs and executors.

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
import pkgutil
from dataclasses import dataclass
from importlib import metadata, resources
from typing import Generic, TypeVar

from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.suggestion import suggestion
from vclimb.pipeline.system.open_files import open_files_explained

ComponentT = TypeVar("ComponentT")


@dataclass(frozen=True)
class Listing:
    """A component that can be chosen by its name.

    Attributes:
        place: `package.module:Class`.
    """

    summary: str
    place: str


class Registry(Generic[ComponentT]):
    """All components of a kind.

    Args:
        kind: Word for a component in messages, such as `method`.
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

    def listings(self) -> dict[str, Listing]:
        """List vclimb's components by name, and then those of installed packages, without importing them."""
        listings = dict(_scan(self._package))
        with open_files_explained():
            entries = metadata.entry_points(group=self._group)
        for entry in entries:
            origin = f"From the package {entry.dist.name}." if entry.dist is not None else ""
            listings.setdefault(entry.name, Listing(origin, entry.value))
        return listings

    def summaries(self) -> dict[str, str]:
        """Map the names of all components to their summaries, without importing them."""
        return {name: listing.summary for name, listing in self.listings().items()}

    def find(self, name: object) -> type[ComponentT]:
        """Import the component of a name.

        Raises:
            SettingsError: no component has the name, or its class can't be imported or is not of this kind.
        """
        if not isinstance(name, str) or name not in self._classes:
            place = str(name)
            if ":" not in place:
                listings = _scan(self._package)
                if place not in listings:  # then other packages are searched, which reads many files
                    listings = self.listings()
                if place not in listings:
                    hint = suggestion(place, listings)
                    raise SettingsError(
                        f"{self._kind} {name!r} is not known; {hint}, or a class as package.module:Class"
                    )
                place = listings[place].place
            self._classes[str(name)] = self._imported(str(name), place)
        return self._classes[str(name)]

    def _imported(self, name: str, place: str) -> type[ComponentT]:
        try:
            component = pkgutil.resolve_name(place)
        except (AttributeError, ValueError) as error:
            raise SettingsError(f"{self._kind} {name!r} can't be imported: {error}") from None
        except ImportError as error:
            raise SettingsError(
                f"{self._kind} {name!r} can't be imported: {error}; module {place.partition(':')[0]!r} must be "
                "installed, or its folder be named by the environment variable PYTHONPATH"
            ) from None
        if not isinstance(component, type) or not issubclass(component, pkgutil.resolve_name(self._base)):
            raise SettingsError(f"{self._kind} {name!r} is no {self._kind}: {place} does not extend {self._base}")
        return component


@functools.cache
def _scan(package: str) -> dict[str, Listing]:
    """List the classes in a package's modules that declare a name, sorted by it."""
    listings = {}
    for file in resources.files(package).iterdir():
        source = file.read_text("utf-8") if file.name.endswith(".py") else ""
        for node in ast.parse(source).body if "\n    name = " in source else ():
            if isinstance(node, ast.ClassDef):
                texts = {
                    target.id: statement.value.value
                    for statement in node.body
                    if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
                    for target in statement.targets
                    if isinstance(target, ast.Name) and isinstance(statement.value.value, str)
                }
                if "name" in texts:
                    place = f"{package}.{file.name.removesuffix('.py')}:{node.name}"
                    listings[texts["name"]] = Listing(texts.get("summary", ""), place)
    return dict(sorted(listings.items()))
