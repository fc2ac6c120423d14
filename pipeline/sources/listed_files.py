"""The files that a user's table names. Files outside the table's folder must be allowed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vclimb.pipeline.errors import SourceError


class ListedFiles:
    """Finder of the files of a table.

    Args:
        root: Absolute folder that relative paths start from, without symbolic links in its path.
        allow_outside: Whether paths may leave the root.
    """

    def __init__(self, root: Path, allow_outside: bool) -> None:
        self._root = str(root)
        self._prefix = self._root.rstrip("/") + "/"
        self._allow_outside = allow_outside
        self._real_folders: dict[str, str] = {}  # a table names few folders and many files

    def find(self, listed: str, where: str) -> tuple[str, str | None]:
        """Find a listed file.

        Args:
            listed: Path in the table.
            where: File and row of the table, for the error.

        Returns:
            The file's path, relative to the root if it lies there, and the reason why it can't be used, or None.

        Raises:
            SourceError: The path leads outside the root: it is absolute, has `..`, or passes a link.
        """
        if "\0" in listed:
            raise SourceError(f"{where}: path {listed!r} holds a zero byte")
        absolute = os.path.normpath(os.path.join(self._root, listed))
        folder, name = os.path.split(absolute)
        try:
            mode = os.lstat(absolute).st_mode
            problem = None
        except OSError as error:
            mode = 0
            gone = isinstance(error, FileNotFoundError | NotADirectoryError)
            problem = "listed, but not on disk" if gone else f"listed, but {error.strerror}"
        if (real_folder := self._real_folders.get(folder)) is None:
            real_folder = self._real_folders[folder] = os.path.realpath(folder)
        real = os.path.realpath(absolute) if stat.S_ISLNK(mode) else os.path.join(real_folder, name)
        if stat.S_ISDIR(mode) or (stat.S_ISLNK(mode) and os.path.isdir(real)):
            problem = "listed, but it is a folder"
        if not self._is_inside(real) and not self._allow_outside:
            reached = "" if real == absolute else f" (it leads to {real!r})"
            raise SourceError(
                f"{where}: path {listed!r} lies outside of {self._root!r}{reached}; "
                "if that is meant, allow it by --allow-outside"
            )
        for path in (absolute, os.path.join(real_folder, name)):  # the second where the root was named through a link
            if self._is_inside(path):
                return path[len(self._prefix) :] or ".", problem
        return os.path.normpath(listed), problem

    def _is_inside(self, path: str) -> bool:
        return path == self._root or path.startswith(self._prefix)
