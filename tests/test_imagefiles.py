import os
import re
import struct
import threading
import time
import zlib
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import specialfiles
from PIL import Image
from tqdm import tqdm

from pipeline.io import imagefiles
from pipeline.io.imagefiles import decoded, examine_images, list_images, read_images

SIZE = 64
RED, GREEN, BLUE = np.eye(3, dtype=np.uint8) * 255


@pytest.fixture
def photo(tmp_path):
    """A JPEG with enough in it to be damaged."""
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    return written(tmp_path / "photo.JPEG", cv2.GaussianBlur(noise, (5, 5), 0))


def written(path, image):
    cv2.imwrite(str(path), image)
    return str(path)


def changed(path, content):
    path.write_bytes(content)
    return str(path)


def content(file):
    with open(file, "rb") as opened:
        return opened.read()


def read(files, size=SIZE):
    """All images, and what is wrong by the number of the file."""
    images, problems = [], {}
    for block, found in read_images(files, (size, size)):
        problems |= {len(images) + index: str(error) for index, error in found.items()}
        images.extend(block)
    return images, problems


def test_images_may_be_higher_than_wide(photo):
    ((images, problems),) = read_images([photo], (48, 32), lambda image: image[:48, :32])
    assert (images.shape, problems) == ((1, 48, 32, 3), {})


def test_no_thread_draws_a_progress_bar_amid_what_decoders_complain(tmp_path):
    """That of tqdm would, on stderr, and whole pictures would be called damaged."""
    with open(tmp_path / "terminal", "w") as terminal, tqdm(total=1, file=terminal):
        assert tqdm.monitor is None


def test_images_come_in_the_order_of_their_files_over_several_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(imagefiles, "BLOCK", 7)
    levels = np.random.default_rng(0).permutation(30) * 8
    files = [
        written(tmp_path / f"{level}.png", np.full((SIZE, SIZE, 3), level)) for level in levels
    ]
    images, problems = read(files)
    assert problems == {}
    assert [image[0, 0, 0] for image in images] == levels.tolist()
    assert [len(block) for block, _ in read_images(files, (SIZE, SIZE))] == [7, 7, 7, 7, 2]


def test_colours_come_as_red_green_and_blue(tmp_path):
    for name, rgb in (("red", RED), ("green", GREEN), ("blue", BLUE)):
        for suffix in ("png", "JPEG"):
            bgr = np.broadcast_to(rgb[::-1], (SIZE, SIZE, 3))
            (image,), _ = read([written(tmp_path / f"{name}.{suffix}", bgr)])
            np.testing.assert_allclose(image[30, 30].astype(int), rgb, atol=2)


def test_grayscale_files_get_three_equal_channels(tmp_path):
    gray = np.arange(SIZE * SIZE, dtype=np.uint8).reshape(SIZE, SIZE)
    file = written(tmp_path / "gray.JPEG", gray)
    assert cv2.imread(file, cv2.IMREAD_UNCHANGED).ndim == 2
    (image,), problems = read([file])
    assert problems == {}
    expected = cv2.imread(file, cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(image, np.stack([expected] * 3, axis=-1))


@pytest.mark.parametrize(
    ("folder", "count"),
    [
        ("tiny_imagenet_sample", 1000),
        pytest.param(
            *("real_tiny_imagenet", 10_000),
            marks=[pytest.mark.slow, pytest.mark.needs("tiny-imagenet-200")],
        ),
    ],
)
def test_all_images_of_a_data_set_are_good_and_as_opencv_reads_them(folder, count, request):
    folder = request.getfixturevalue(folder)
    files = sorted(str(path) for path in folder.glob("val/images/*.JPEG"))
    images, problems = read(files)
    assert len(images) == count
    assert problems == {}
    for file, image in list(zip(files, images, strict=True))[::50]:
        np.testing.assert_array_equal(image, cv2.imread(file)[..., ::-1])


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, -2, -1])
def test_a_truncated_file_is_found_and_named(tmp_path, photo, keep, capfd):
    whole = content(photo)
    cut = whole[: int(len(whole) * keep) if isinstance(keep, float) else keep]
    _, problems = read([photo, changed(tmp_path / "cut.JPEG", cut), photo])
    assert list(problems) == [1]
    assert str(tmp_path / "cut.JPEG") in problems[1]
    assert ("damaged" if cut else "is empty") in problems[1]
    assert capfd.readouterr().err == ""  # nor does libjpeg say so without a name


def test_a_truncated_file_with_an_end_stitched_on_is_found(tmp_path, photo):
    whole = content(photo)
    file = changed(tmp_path / "stitched.JPEG", whole[: len(whole) // 2] + b"\xff\xd9")
    _, problems = read([file])
    assert problems[0].endswith("is damaged (Corrupt JPEG data: premature end of data segment)")


def test_some_damage_inside_is_found_and_nothing_is_said_of_the_others(tmp_path, photo):
    whole = content(photo)
    start = whole.index(b"\xff\xda") + 14
    chance = np.random.default_rng(0)
    files = []
    for number in range(60):
        damaged = bytearray(whole)
        damaged[chance.integers(start, len(whole) - 2)] ^= chance.integers(1, 256)
        files += [photo, changed(tmp_path / f"{number}.JPEG", bytes(damaged))]
    _, problems = read(files)
    assert all(number % 2 for number in problems)
    assert len(problems) >= 10


def test_zeros_behind_the_end_do_no_harm(tmp_path, photo):
    file = changed(tmp_path / "padded.JPEG", content(photo) + bytes(100))
    images, problems = read([photo, file])
    assert problems == {}
    np.testing.assert_array_equal(*images)


def test_what_is_no_image_is_named(tmp_path, photo):
    text = changed(tmp_path / "text.JPEG", b"hello")
    missing = str(tmp_path / "missing.JPEG")
    folder = str(tmp_path)
    _, problems = read([text, photo, missing, folder])
    assert problems == {
        0: f"{text} is truncated, damaged or not an image",
        2: f"{missing} cannot be read: No such file or directory",
        3: f"{folder} cannot be read: Is a directory",
    }


def test_a_wrong_size_is_named(tmp_path, photo):
    wide = written(tmp_path / "wide.JPEG", np.zeros((32, 48, 3), np.uint8))
    huge = bytearray(content(wide))
    place = huge.index(b"\xff\xc0") + 5
    huge[place : place + 4] = b"\xff\xff\xff\xff"  # more pixels than OpenCV decodes
    bomb = changed(tmp_path / "bomb.JPEG", bytes(huge))
    _, problems = read([photo, wide, bomb])
    assert problems == {
        1: f"{wide} has 48x32 pixels instead of 64x64",
        2: f"{bomb} has 65535x65535 pixels instead of 64x64",
    }


def test_stderr_is_free_again_even_when_nobody_reads_to_the_end(photo, capfd):
    next(read_images([photo] * 3, (SIZE, SIZE)))
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


def test_no_thread_goes_on_decoding_after_an_exception(monkeypatch):
    """One that does when Python ends has OpenCV abort the process."""

    def decode(file, target, fit):
        if file == "0":
            raise RuntimeError
        time.sleep(0.05)

    monkeypatch.setattr(imagefiles, "_decode", decode)
    before = threading.active_count()
    with pytest.raises(RuntimeError):
        next(read_images([str(number) for number in range(40)], (SIZE, SIZE)))
    assert threading.active_count() == before


def any_size(image):
    return cv2.resize(image, (SIZE, SIZE))


@pytest.mark.parametrize(
    "suffix", [".png", ".jpg", ".bmp", ".tiff", ".webp", ".gif", ".avif", ".jp2", ".ppm", ".ras"]
)
def test_all_kinds_of_pictures_are_read(tmp_path, suffix):
    file = written(tmp_path / f"a{suffix}", np.full((48, 32, 3), 255, np.uint8))
    ((images, problems),) = read_images([file], (SIZE, SIZE), any_size)
    assert problems == {}
    np.testing.assert_allclose(images[0].astype(int), 255, atol=3)
    assert read([file])[1] == {0: f"{file} has 32x48 pixels instead of 64x64"}


# pictures as viewers show them

HALVES = np.zeros((48, 32, 3), np.uint8)  # red above, blue below
HALVES[:24], HALVES[24:] = RED, BLUE


def shown(path, image, **settings):
    """What is read of an image that Pillow has written."""
    image.save(path, **settings)
    return decoded(str(path), path.read_bytes()).astype(int)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_a_picture_is_turned_as_its_camera_was_held(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera's top is to the right
    image = shown(tmp_path / f"a.{suffix}", Image.fromarray(HALVES), exif=exif)
    assert image.shape == (32, 48, 3)
    np.testing.assert_allclose(image[16, 40], RED, atol=12)
    np.testing.assert_allclose(image[16, 8], BLUE, atol=12)


@pytest.mark.parametrize(("mode", "suffix"), [("CMYK", "jpg"), ("CMYK", "tiff"), ("P", "png")])
def test_colours_are_right_however_they_are_stored(tmp_path, mode, suffix):
    image = shown(tmp_path / f"a.{suffix}", Image.fromarray(HALVES).convert(mode))
    np.testing.assert_allclose(image[[8, 40], 16], [RED, BLUE], atol=12)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_of_16_bits_the_upper_8_are_kept(tmp_path, suffix, channels):
    levels = np.arange(48 * 32 * channels, dtype=np.uint16).reshape(48, 32, channels) * 14
    file = written(tmp_path / f"a{suffix}", levels)
    image = decoded(file, content(file))
    expected = np.broadcast_to(levels[..., ::-1] // 256, (48, 32, 3))
    np.testing.assert_allclose(image.astype(int), expected, atol=1)


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_is_white_and_what_is_half_is_half(tmp_path, suffix, mode):
    image = Image.fromarray(HALVES * 0).convert(mode)
    alpha = np.full((48, 32), 255, np.uint8)
    alpha[:16], alpha[16:32] = 0, 128
    image.putalpha(Image.fromarray(alpha))
    if (mode, suffix) == ("LA", "webp"):
        image = image.convert("RGBA")  # as which WebP has it
    image = shown(tmp_path / f"a.{suffix}", image, **{"lossless": True} if suffix == "webp" else {})
    np.testing.assert_allclose(image[[8, 24, 40], 16, 0], [255, 127, 0], atol=1)


def test_a_colour_that_stands_for_transparency_is_white(tmp_path):
    image = Image.fromarray(HALVES).convert("P", palette=Image.Palette.ADAPTIVE)
    blue = image.getpixel((16, 40))
    image = shown(tmp_path / "a.png", image, transparency=blue)
    np.testing.assert_array_equal(image[[8, 40], 16], [RED, [255] * 3])


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_a_jpeg_is_made_smaller_while_it_is_decoded(tmp_path, reduction):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.repeat(HALVES, 3, axis=0)).save(tmp_path / "a.jpg", exif=exif)
    file = tmp_path / "a.jpg"
    image = decoded(str(file), file.read_bytes(), reduction)
    assert image.shape == (32 // reduction, 144 // reduction, 3)
    np.testing.assert_allclose(image[1, -2].astype(int), RED, atol=12)
    np.testing.assert_allclose(image[1, 1].astype(int), BLUE, atol=12)


def test_what_decoders_note_of_a_picture_that_is_whole_is_no_damage(tmp_path, photo, capfd):
    profile = b"\0\0\2\x0cADBE" + bytes(28) + b"acsp" + bytes(484)  # one that libpng dislikes
    Image.open(photo).save(tmp_path / "a.png", icc_profile=profile)
    Image.open(photo).save(tmp_path / "a.tiff", tiffinfo={65000: "a tag of somebody's own"})
    for name, note in (("a.png", "libpng warning: iCCP"), ("a.tiff", "tag 65000")):
        cv2.imread(str(tmp_path / name))
        assert note in capfd.readouterr().err
        assert read([str(tmp_path / name)])[1] == {}


def test_but_damage_of_the_picture_in_a_tiff_is(tmp_path, photo):
    Image.open(photo).save(tmp_path / "whole.tiff", compression="jpeg")
    whole, files = (tmp_path / "whole.tiff").read_bytes(), []
    for seed in range(20):
        rng, content = np.random.default_rng(seed), bytearray(whole)
        for place in rng.integers(len(whole) // 3, 2 * len(whole) // 3, 8):
            content[place] = rng.integers(256)
        files.append(str(tmp_path / f"{seed}.tiff"))
        Path(files[-1]).write_bytes(content)
    assert len(read(files)[1]) > 10


def test_so_many_pictures_are_decoded_at_a_time_as_memory_holds_easily(photo):
    for size, most in ((SIZE, 12), (3000, 2)):
        shape = (size, size)
        fit = partial(cv2.resize, dsize=shape)
        assert next(len(images) for images, _ in read_images([photo] * 12, shape, fit)) == most


def test_a_look_at_files_keeps_what_a_function_makes_of_them(tmp_path, photo):
    text = changed(tmp_path / "text.JPEG", b"hello")
    files = [photo, text, *[photo] * 150]
    looks = list(examine_images(files, lambda content, image: (len(content), image.shape)))
    size = os.path.getsize(photo)
    assert looks[:1] + looks[2:] == [(size, (SIZE, SIZE, 3))] * 151
    assert str(looks[1]) == f"{text} is truncated, damaged or not an image"


def test_pictures_of_all_kinds_are_found_in_a_folder_and_below(tmp_path):
    names = ["a.jpg", "b.JPEG", "c.PNG", "d.webp", "e.bmp", "f.tif", "below/g.tiff"]
    for name in ("below", ".thumbnails"):
        (tmp_path / name).mkdir()
    for name in [*names, "notes.txt", "._a.jpg", ".thumbnails/a.jpg"]:
        (tmp_path / name).touch()
    assert sorted(list_images(tmp_path)) == sorted(str(tmp_path / name) for name in names)


def test_links_to_folders_are_followed_to_each_folder_once(tmp_path):
    place, elsewhere = tmp_path / "place", tmp_path / "elsewhere"
    for folder in (place / "below", elsewhere):
        folder.mkdir(parents=True)
        (folder / "a.png").touch()
    (place / "below" / "circle").symlink_to(place)
    (place / "link").symlink_to(elsewhere)
    (place / "twin").symlink_to(elsewhere)
    assert sorted(list_images(place)) == [f"{place}/below/a.png", f"{place}/link/a.png"]


# what could fill the memory


def memory_taken(function):
    """The result, and how much more memory the process held meanwhile than before, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that since now

    def field(name):
        status = Path("/proc/self/status").read_text()
        return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) * 1024

    before = field("VmRSS")
    result = function()
    return result, field("VmHWM") - before


def test_a_picture_that_unpacks_to_gigabytes_is_refused_undecoded(tmp_path):
    side = 20_000
    packed = zlib.compress(bytes((side * 3 + 1) * side), 1)
    assert len(packed) < 10**7
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    blocks = [(b"IHDR", header), (b"IDAT", packed), (b"IEND", b"")]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in blocks
    )
    bomb = changed(tmp_path / "bomb.png", png)
    for fit in (None, any_size):
        (_, problems), memory = memory_taken(partial(next, read_images([bomb], (SIZE, SIZE), fit)))
        assert str(problems[0]).startswith(f"{bomb} has 20000x20000 pixels")
        assert memory < 10**8


def test_a_block_of_a_png_that_claims_gigabytes_is_refused_undecoded(tmp_path):
    whole = bytearray(content(written(tmp_path / "a.png", np.zeros((SIZE, SIZE, 3), np.uint8))))
    whole[whole.index(b"IDAT") - 4] = 0xF0
    damaged = changed(tmp_path / "damaged.png", bytes(whole))
    with specialfiles.at_once():
        (_, problems), memory = memory_taken(partial(next, read_images([damaged], (SIZE, SIZE))))
    assert str(problems[0]) == f"{damaged} is truncated, damaged or not an image"
    assert memory < 10**8


def test_of_a_16_bit_grayscale_png_one_level_may_be_transparent(tmp_path):
    levels = np.array([[0, 30_000, 65_535]], np.uint16)
    cv2.imwrite(str(tmp_path / "gray.png"), levels)
    whole = content(tmp_path / "gray.png")
    chunk = b"tRNS" + struct.pack(">H", 0)
    told = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
    place = whole.index(b"IDAT") - 4
    image = decoded("gray.png", whole[:place] + told + whole[place:])
    np.testing.assert_array_equal(image[0, :, 0], [0, 117, 255])


@pytest.mark.parametrize(
    "put", [specialfiles.sparse, *specialfiles.SPECIAL], ids=lambda put: put.__name__
)
def test_what_is_no_file_of_a_pictures_size_is_refused_at_once(tmp_path, put):
    put(tmp_path / "a.png")
    with specialfiles.at_once():
        _, problems = read([str(tmp_path / "a.png")])
    assert problems[0].startswith(f"{tmp_path}/a.png cannot be read: ")
