"""Writes a Java interface as a class file: Velocity then finds the methods of `$input` and `$util`, without javac.

Velocity calls only public methods of public classes and interfaces, and JPype implements interfaces but declares none.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

_PUBLIC_ABSTRACT = 0x0401
_PUBLIC_INTERFACE_ABSTRACT = 0x0601
_JAVA_8 = 52


class _ConstantPool:
    def __init__(self) -> None:
        self.entries: list[bytes] = []

    def add(self, entry: bytes) -> int:
        if entry not in self.entries:
            self.entries.append(entry)
        return self.entries.index(entry) + 1

    def utf8(self, text: str) -> int:
        return self.add(struct.pack(">BH", 1, len(text)) + text.encode("ascii"))

    def class_(self, name: str) -> int:
        return self.add(struct.pack(">BH", 7, self.utf8(name)))


def interface(name: str, methods: Mapping[str, Sequence[str]]) -> bytes:
    """The class file of a public interface.

    Args:
        name: Such as `gateway/Input`.
        methods: Each method's name and its descriptors, such as `(Ljava/lang/String;)Ljava/lang/Object;`.
    """
    pool = _ConstantPool()
    this, parent = pool.class_(name), pool.class_("java/lang/Object")
    declared = [
        struct.pack(">HHHH", _PUBLIC_ABSTRACT, pool.utf8(method), pool.utf8(descriptor), 0)
        for method, descriptors in methods.items()
        for descriptor in descriptors
    ]
    return b"".join(
        [
            struct.pack(">IHH", 0xCAFEBABE, 0, _JAVA_8),
            struct.pack(">H", len(pool.entries) + 1),
            *pool.entries,
            struct.pack(">HHHHHH", _PUBLIC_INTERFACE_ABSTRACT, this, parent, 0, 0, len(declared)),
            *declared,
            struct.pack(">H", 0),
        ]
    )
