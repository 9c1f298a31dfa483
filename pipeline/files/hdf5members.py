"""Reading HDF5 files from others: only what lies in the file itself, and no more than that."""

import math

import h5py


def own_member(
    group: h5py.Group, name: str, kind: type, file_bytes: int
) -> h5py.Group | h5py.Dataset:
    """Returns a group or a data set, unless it leads out of the file or claims more than is there.

    Links, external storage and virtual data sets could bring in any file of this machine. Data
    that were never written HDF5 would make up, and fill the memory with them.

    Args:
        group: the file, or a group of it.
        name: the member's; slashes lead through groups.
        kind: `h5py.Group` or `h5py.Dataset`.
        file_bytes: size of the file.

    Raises:
        ValueError: there is no such member; the message begins with "its" or "it has".
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
        if member.shape is None:
            raise ValueError(f"its {name} is empty")
        if math.prod(member.shape) * member.dtype.itemsize > file_bytes:
            raise ValueError(f"its {name} is larger than it")
    return member
