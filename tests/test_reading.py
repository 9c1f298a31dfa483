import re
import socket

import pytest
import specialfiles

from pipeline.files.reading import open_regular, read_regular


def test_a_file_is_read_also_through_a_link(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "link").symlink_to("a")
    for name in ("a", "link"):
        assert read_regular(tmp_path / name, 7) == b"content"
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"content"
            assert file.name == str(tmp_path / name)


@pytest.mark.parametrize("put", specialfiles.SPECIAL, ids=lambda put: put.__name__)
def test_what_is_no_file_is_refused_at_once(tmp_path, put):
    path = tmp_path / "a"
    put(path)
    with specialfiles.at_once(), pytest.raises(OSError, match=re.escape(f"'{path}'")):
        read_regular(path, 100)


def test_a_socket_is_refused(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "a"))
        with pytest.raises(OSError, match=f"'{tmp_path / 'a'}'"):
            read_regular(tmp_path / "a", 100)


def test_a_file_beyond_the_limit_is_not_read(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    specialfiles.sparse(tmp_path / "sparse")
    with pytest.raises(OSError, match="it is larger than 6 bytes: "):
        read_regular(tmp_path / "a", 6)
    with specialfiles.at_once(), pytest.raises(OSError, match="it is larger than 2,000 bytes"):
        read_regular(tmp_path / "sparse", 2000)
