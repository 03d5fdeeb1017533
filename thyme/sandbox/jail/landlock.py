"""Landlock: which files a process may open, enforced by the kernel and inherited for good."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

from . import kernel

_open = os.open  # as it is before the hooks
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_VERSION, _RULE_PATH_BENEATH = 1, 1

WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(1, 6))
MAKE_DIR, MAKE_REG, REFER, TRUNCATE = 1 << 7, 1 << 8, 1 << 13, 1 << 14
READ = READ_FILE | READ_DIR
CHANGE = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
_ON_FILES = READ_FILE | WRITE_FILE | TRUNCATE

_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15}
"""How many rights on files each version of the interface knows; they are the lowest bits."""
_RIGHTS_NOW = 16
"""The same of version 5 and later."""
_NET_BIND_AND_CONNECT = 3
"""Both rights on TCP ports, from version 4 on."""
_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS = 3
"""Both scopes, from version 6 on."""


def version() -> int:
    """Landlock's ABI version; 0 where the kernel has none or has it switched off."""
    try:
        return kernel.syscall("landlock", _CREATE_RULESET, None, 0, _CREATE_VERSION)
    except OSError:
        return 0


class Ruleset:
    """Everything is denied but reading below some paths and changing below others."""

    def __init__(self, readable: Iterable[str], writable: Iterable[str]) -> None:
        """Open a ruleset.

        Args:
            readable: Folders and files that may be read; missing ones are passed over.
            writable: Folders in which files may be made, changed and removed, and devices that may be written.

        Raises:
            OSError: The kernel has no Landlock.
        """
        abi = version()
        self._handled = (1 << _RIGHTS_BY_ABI.get(abi, _RIGHTS_NOW)) - 1
        network = _NET_BIND_AND_CONNECT if abi >= 4 else 0
        scoped = _SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS if abi >= 6 else 0
        size = 24 if abi >= 6 else 16 if abi >= 4 else 8  # of the structure as that version knows it, bytes
        attributes = ctypes.create_string_buffer(struct.pack("QQQ", self._handled, network, scoped))
        self.descriptor = kernel.syscall("landlock_create_ruleset", _CREATE_RULESET, attributes, size, 0)
        for path in readable:
            self.allow(path, READ)
        for path in writable:
            self.allow(path, CHANGE)

    def allow(self, path: str, rights: int) -> None:
        """Allow `rights` on a file, or on everything below a folder."""
        try:
            descriptor = _open(path, os.O_PATH | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                rights &= _ON_FILES
            rule = ctypes.create_string_buffer(struct.pack("<Qi", rights & self._handled, descriptor))
            kernel.syscall(f"landlock_add_rule {path}", _ADD_RULE, self.descriptor, _RULE_PATH_BENEATH, rule, 0)
        finally:
            os.close(descriptor)

    def restrict(self) -> None:
        """Put the ruleset on this process, for good. Needs ``no_new_privs``."""
        kernel.syscall("landlock_restrict_self", _RESTRICT_SELF, self.descriptor, 0)
