"""Reading HDF5 files from others: only what lies in the file itself, and no more than that."""

import math

import h5py

DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError, MemoryError)
"""What h5py and NumPy raise over a damaged file."""


def own_member(group: h5py.Group, name: str, kind: type) -> h5py.Group | h5py.Dataset:
    """Returns a group or a data set, unless it leads out of the file or claims more than is there.

    Links, external storage and virtual data sets could bring in any file of this machine. Data
    that were never written HDF5 would make up, and fill the memory with them. A chunk can be of any
    size, whatever the data set's is, and be compressed; this project writes none.

    Args:
        group: the file, or a group of it.
        name: the member's; slashes lead through groups.
        kind: `h5py.Group` or `h5py.Dataset`.

    Raises:
        ValueError: there is no such member; the message begins with "its" or "it has".
        OSError, RuntimeError, LookupError, TypeError: the file is damaged.
    """
    member = group
    for part in name.split("/"):
        is_group = isinstance(member, h5py.Group)
        if not is_group or not isinstance(member.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"it has no {name} of its own")
        member = member[part]
    if not isinstance(member, kind):
        raise ValueError(f"its {name} is not a {kind.__name__.lower()}")
    if isinstance(member, h5py.Dataset):
        if member.external or member.is_virtual:
            raise ValueError(f"its {name} lies outside it")
        _refuse_larger(member, name, group)
        if member.chunks:
            raise ValueError(f"its {name} is chunked or compressed")
    return member


def own_texts(group: h5py.Group, name: str) -> list[str] | None:
    """Returns the texts of an attribute, None where there is none of texts of a fixed length.

    Those of variable length are left alone: they lie in a heap, and damage there can have HDF5
    1.14 read on for ever.

    Raises:
        ValueError: it has not one dimension, claims more than is there, or is not UTF-8.
        OSError, RuntimeError, LookupError, TypeError: the file is damaged.
    """
    if name not in group.attrs:
        return None
    attribute = group.attrs.get_id(name)
    if attribute.dtype.kind != "S":
        return None
    _refuse_larger(attribute, name, group)
    if len(attribute.shape) != 1:
        raise ValueError(f"its {name} has the shape {attribute.shape}")
    return [text.decode() for text in group.attrs[name]]


def _refuse_larger(data: h5py.Dataset | h5py.h5a.AttrID, name: str, group: h5py.Group) -> None:
    if data.shape is None:
        raise ValueError(f"its {name} is empty")
    if math.prod(data.shape) * data.dtype.itemsize > group.file.id.get_filesize():
        raise ValueError(f"its {name} is larger than it")
