"""Picture files that are too large, of an odd kind, damaged or hostile."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base

from lla import data
from lla.data import picture_files, readers
from lla.data.registry import File
from lla.errors import ChecksumError, InputError

TENCH = "n01440764"


def noise(width=40, height=30):
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def chunk(kind, content):
    return (
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )  # fmt: skip


def png(width, height, bits=8, pixels=b"", *more):
    """A PNG that declares a size; with the pixels left out, nothing of it can be decoded."""
    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    parts = (
        chunk(b"IHDR", header),
        *more,
        chunk(b"IDAT", zlib.compress(pixels)),
        chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


TOO_LARGE = [(60000, 2), (2, 60000), (100000, 1), (201, 2), (9460, 9460), (60000, 60000)]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.hard_use(
    "Pictures of 60000 x 2, 100000 x 1 and 60000 x 60000 pixels are refused before they are decoded"
)
@pytest.mark.parametrize(("width", "height"), TOO_LARGE)
def test_too_many_pixels_or_too_long_a_side(tmp_path, width, height):
    path = tmp_path / TENCH / "bomb.png"
    path.parent.mkdir()
    path.write_bytes(png(width, height))
    with pytest.raises(InputError, match=rf"bomb\.png .*({width} x {height}|Bomb)"):
        data.read_rgb(path)
    pictures = data.read_pictures(tmp_path)
    with pytest.raises(InputError, match=r"bomb\.png"):
        data.picture_batches(pictures, data.PicturePreprocessing(), 1)
    (check,) = data.check_pictures(tmp_path)
    assert (check.file, check.state) == (f"{TENCH}/bomb.png", "wrong")


@pytest.mark.parametrize("size", [(60000, 2), (1, 101)])
def test_the_preprocessing_refuses_them_as_well(size):
    with pytest.raises(InputError, match=f"the picture has {size[0]} x {size[1]} pixels"):
        data.PicturePreprocessing()(Image.new("RGB", size))
    with pytest.raises(InputError, match="the picture is L, not RGB"):
        data.PicturePreprocessing()(Image.new("L", (40, 30)))


def test_a_picture_at_the_limit_is_resized_in_parts(monkeypatch):
    largest = []
    resize = Image.Image.resize

    def watched(picture, size, *rest):
        largest.append(size[0] * size[1])
        return resize(picture, size, *rest)

    monkeypatch.setattr(Image.Image, "resize", watched)
    for size in ((2000, 20), (20, 2000)):
        data.PicturePreprocessing()(Image.new("RGB", size))
    assert max(largest) <= 256 * 100 * 224


@pytest.mark.hard_use("A file of 400 GB in place of a picture is refused before it is read")
def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "huge.png"
    with path.open("wb") as stream:
        stream.truncate(400 * 10**9)  # takes no place on the disk
    with pytest.raises(InputError, match=r"huge\.png has 400,000,000,000 bytes"):
        data.read_rgb(path)


def ppm(width, height):
    return b"P6 %d %d 65535\n" % (width, height) + bytes(6 * width * height)


@pytest.mark.hard_use("Pictures of 16 bits a channel are refused, also where Pillow calls them RGB")
@pytest.mark.parametrize("name", ["deep.png", "deep.ppm"])
def test_16_bits_in_colour(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(png(4, 4, 16, bytes(4 * (1 + 4 * 6))) if name == "deep.png" else ppm(4, 4))
    with pytest.raises(InputError, match=rf"{name} has more than 8 bits a channel"):
        data.read_rgb(path)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_an_animation_is_its_first_frame_and_odd(tmp_path, suffix):
    path = tmp_path / TENCH / "moves.png"
    path.parent.mkdir()
    frames = [noise(300, 240).quantize(16).convert("RGB"), Image.new("RGB", (300, 240), "red")]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(path, suffix.upper(), save_all=True, append_images=frames[1:], **options)
    picture, _ = data.read_rgb(path)
    assert np.array_equal(np.asarray(picture), np.asarray(frames[0]))
    odd = [check.message for check in data.check_pictures(tmp_path) if check.state == "odd"]
    assert "it has 2 frames, of which the first is used." in odd


def test_formats_for_which_pillow_runs_programs_are_no_pictures(tmp_path):
    path = tmp_path / "drawing.png"
    noise().save(path, "EPS")
    with pytest.raises(InputError, match=r"drawing\.png cannot be decoded"):
        data.read_rgb(path)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.hard_use("Damaged EXIF data do not end the check of a folder of pictures")
def test_damaged_exif_data(tmp_path):
    path = tmp_path / TENCH / "exif.jpg"
    path.parent.mkdir()
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    noise(300, 240).save(path, exif=exif)
    content = path.read_bytes()
    place = content.index(b"Exif\0\0") + 14
    path.write_bytes(content[:place] + b"\xff" * 12 + content[place + 12 :])
    (check,) = data.check_pictures(tmp_path)
    assert check.state == "right"  # there is no orientation to apply


@pytest.mark.parametrize("error", [SyntaxError("not a TIFF file"), OverflowError("too far")])
def test_exif_data_that_pillow_cannot_read(tmp_path, monkeypatch, error):
    path = tmp_path / TENCH / "exif.png"
    path.parent.mkdir()
    noise(300, 240).save(path)

    def fails(picture):
        raise error

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.getexif", fails)
    (check,) = data.check_pictures(tmp_path)
    assert check.state == "odd"
    assert "EXIF data" in check.message


@pytest.mark.hard_use(
    "A text in a picture that unpacks to 20 MB is refused with the picture's name"
)
def test_text_that_unpacks_to_much(tmp_path):
    path = tmp_path / "text.png"
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(20 * 10**6), 9))
    path.write_bytes(png(4, 4, 8, bytes(4 * (1 + 4 * 3)), text))
    with pytest.raises(InputError, match=r"text\.png cannot be decoded .*[Tt]oo large"):
        data.read_rgb(path)


@pytest.mark.filterwarnings("ignore")  # Pillow's, about what is in a damaged file
@pytest.mark.hard_use("500 flipped bits and truncations of pictures: pixels, or an error by name")
@pytest.mark.parametrize(
    ("format_", "mode"),
    [("PNG", "RGB"), ("PNG", "P"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("WEBP", "RGB"),
     ("GIF", "P"), ("TIFF", "RGB"), ("TIFF", "CMYK"), ("BMP", "RGB"), ("PPM", "RGB")],
)  # fmt: skip
def test_damaged_pictures(tmp_path, format_, mode, record_property):
    stream = io.BytesIO()
    noise(20, 16).convert(mode).save(stream, format_)
    content, path, refused = stream.getvalue(), tmp_path / "harmed.png", 0
    rng = np.random.default_rng(0)
    for trial in range(500):
        harmed = bytearray(content)
        harmed[rng.integers(len(harmed))] ^= 1 << rng.integers(8)
        path.write_bytes(harmed if trial % 5 else harmed[: rng.integers(len(harmed))])
        try:
            picture, _ = data.read_rgb(path)
            assert picture.mode == "RGB"
            data.PicturePreprocessing(16, 16)(picture)
        except InputError as error:
            refused += "harmed.png" in str(error)
    record_property("measured", f"{format_} {mode}: {refused} of 500 refused by name")
    assert refused > 0


def test_a_picture_of_cinic10_that_is_no_picture_or_too_large(tmp_path):
    folder = tmp_path / "test" / "dog"
    folder.mkdir(parents=True)
    for content in (png(60000, 2), png(32, 32), noise(33, 32)):
        path = folder / "a.png"
        content.save(path) if isinstance(content, Image.Image) else path.write_bytes(content)
        with pytest.raises(ChecksumError, match=r"a\.png.*delete"):
            readers.cinic10(tmp_path, [File("test")], "test")


def test_the_limits_hold_every_picture_that_pillow_takes_without_a_warning():
    assert picture_files._MOST_PIXELS == Image.MAX_IMAGE_PIXELS
