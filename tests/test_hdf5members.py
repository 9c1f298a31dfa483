import h5py
import numpy as np
import pytest

from pipeline.files.hdf5members import own_member


@pytest.fixture
def file(tmp_path):
    """A file to which a test adds, beside another one with the same members."""
    for name in ("other.hdf5", "this.hdf5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["data"] = np.arange(100)
            file["group/inner/data"] = np.arange(100)
    with h5py.File(tmp_path / "this.hdf5", "r+") as file:
        yield file


def member(file, name, kind=h5py.Dataset):
    return own_member(file, name, kind)


def test_what_lies_in_the_file_is_returned_also_from_groups_in_groups(file):
    np.testing.assert_array_equal(member(file, "data"), np.arange(100))
    np.testing.assert_array_equal(member(file, "group/inner/data"), np.arange(100))
    assert list(member(file, "group/inner", h5py.Group)) == ["data"]


@pytest.mark.parametrize(
    "link",
    [
        h5py.ExternalLink("other.hdf5", "/data"),
        h5py.ExternalLink("nowhere.hdf5", "/data"),
        h5py.SoftLink("/data"),
    ],
)
def test_links_are_not_followed(file, link):
    file["link"] = link
    file["group/link"] = link
    for name in ("link", "group/link", "link/data"):
        with pytest.raises(ValueError, match=f"it has no {name} of its own"):
            member(file, name)


def test_a_group_on_the_way_may_be_no_link_either(file):
    file["way"] = h5py.SoftLink("/group/inner")
    with pytest.raises(ValueError, match="it has no way/data of its own"):
        member(file, "way/data")


@pytest.mark.parametrize("name", ["nothing", "data/more", "group/../data", "/data", ""])
def test_a_name_that_is_no_members_is_refused(file, name):
    with pytest.raises(ValueError, match=f"it has no {name} of its own"):
        member(file, name)


def test_another_kind_is_refused(file):
    with pytest.raises(ValueError, match="its group is not a dataset"):
        member(file, "group")
    with pytest.raises(ValueError, match="its data is not a group"):
        member(file, "data", h5py.Group)


def test_data_that_lie_elsewhere_are_refused(file, tmp_path):
    file.create_dataset("external", (10,), "u1", external=[("/etc/passwd", 0, 10)])
    layout = h5py.VirtualLayout((100,), "i8")
    layout[:] = h5py.VirtualSource(tmp_path / "other.hdf5", "data", (100,))
    file.create_virtual_dataset("virtual", layout)
    for name in ("external", "virtual"):
        with pytest.raises(ValueError, match=f"its {name} lies outside it"):
            member(file, name)


@pytest.mark.parametrize(
    ("shape", "dtype"), [((10**12,), "u1"), ((2, 5), "S1001"), ((10**6, 10**6, 10**6), "f8")]
)
@pytest.mark.parametrize("chunks", [None, True])
def test_data_that_claim_more_than_the_file_has_are_refused(file, shape, dtype, chunks):
    file.create_dataset("huge", shape, dtype, chunks=chunks)
    with pytest.raises(ValueError, match="its huge is larger than it"):
        member(file, "huge")


def test_what_has_no_data_at_all_is_refused(file):
    file["empty"] = h5py.Empty("i4")
    with pytest.raises(ValueError, match="its empty is empty"):
        member(file, "empty")
