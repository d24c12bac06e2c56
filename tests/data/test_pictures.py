"""Sets of photographs: where they lie, what becomes of them, and what is refused."""

import hashlib
import importlib.util
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from lla import data
from lla._torchvision import import_torchvision
from lla.cli import app
from lla.data import PicturePreprocessing
from lla.data.picture_folders import class_indices
from lla.errors import InputError, MissingDataError

SMALL = PicturePreprocessing().scaled(16)
TENCH, GOLDFISH, LAST = "n01440764", "n01443537", "n15075141"  # classes 0, 1 and 999


def pixels(seed, width=40, height=30):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def write(path, seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels(seed).save(path, **options)
    return path


@pytest.fixture
def labelled(tmp_path):
    """A folder of six pictures with labels.csv; gives a function that writes the labels."""
    folder = tmp_path / "root" / "ni"
    for index in range(6):
        write(folder / f"{index}.png", index)

    def label(*rows, header="file,class_index"):
        lines = rows or [f"{index}.png,{100 * index}" for index in range(6)]
        (folder / "labels.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        return folder

    return label


# the classes


def test_wnids_are_imagenet_s_in_ascending_order():
    ids = data.wnids()
    assert len(set(ids)) == 1000
    assert list(ids) == sorted(ids)
    import_torchvision()
    from timm.data import ImageNetInfo

    assert list(ids) == ImageNetInfo().label_names()
    # a few that everyone knows: tench, goldfish, tabby cat, toilet tissue
    known = {TENCH: 0, GOLDFISH: 1, "n02123045": 281, LAST: 999}
    assert {wnid: class_indices()[wnid] for wnid in known} == known


def test_wnids_without_the_file_come_from_timm_itself(monkeypatch):
    from lla.data import picture_folders

    expected = data.wnids()
    find = importlib.util.find_spec

    def hide(name, *rest):
        return None if name == "timm" else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", hide)
    assert picture_folders.wnids.__wrapped__() == expected


# the layouts


@pytest.mark.parametrize("top", ["imagenet", "ILSVRC2012", "ImageNet"])
@pytest.mark.parametrize("split", ["val", "train", ""])
def test_folders_by_wnid(tmp_path, top, split):
    for seed, (wnid, name) in enumerate([(LAST, "b.JPEG"), (TENCH, "a.jpg"), (LAST, "a.JPEG")]):
        write(tmp_path / top / split / wnid / name, seed)
    (tmp_path / top / split / TENCH / "._a.jpg").write_bytes(b"left by some file manager")
    (tmp_path / top / split / TENCH / "notes.txt").write_text("no picture")
    found = data.load_pictures("imagenet", tmp_path)
    assert found.files == (f"{TENCH}/a.jpg", f"{LAST}/a.JPEG", f"{LAST}/b.JPEG")
    assert found.labels.tolist() == [0, 999, 999]
    assert found.labels.dtype == torch.int64
    assert found.wnids == (TENCH, LAST, LAST)
    assert (found.split, found.fidelity, found.source) == (split or "all", "reduced", "data root")
    assert found.folder == tmp_path / top / split
    assert found.note.startswith("3 ")
    assert (found.classes, len(found)) == (1000, 3)


def test_validation_comes_before_training(tmp_path):
    for split in ("train", "val"):
        write(tmp_path / "imagenet" / split / TENCH / f"{split}.jpg")
    assert data.load_pictures("imagenet", tmp_path).files == (f"{TENCH}/val.jpg",)


def test_a_complete_split_is_the_papers(tmp_path, monkeypatch):
    from lla.data import pictures

    monkeypatch.setitem(pictures._SPLITS, "val", ("validation", 2))
    for name in ("a", "b"):
        write(tmp_path / "imagenet" / "val" / TENCH / f"{name}.jpg")
    found = data.load_pictures("imagenet", tmp_path)
    assert (found.fidelity, found.note) == ("paper", "ImageNet-1K's validation split, complete.")


def test_a_flat_folder_with_labels(labelled):
    folder = labelled('"3.png",7,someone', "./1.png, 999 ,", header="\ufefffile,class_index,author")
    found = data.load_pictures("ni", folder.parent)
    assert found.files == ("1.png", "3.png")
    assert found.labels.tolist() == [999, 7]
    assert found.fidelity == "substitute"
    own = data.read_pictures(folder)
    assert (own.name, own.files, own.fidelity) == ("ni", found.files, "substitute")


def test_labels_may_name_files_in_the_folders_of_their_class(tmp_path):
    write(tmp_path / "imagenet" / GOLDFISH / "a.jpg")
    table = tmp_path / "imagenet" / "labels.csv"
    table.write_text(f"file,class_index\n{GOLDFISH}/a.jpg,1\n")
    assert data.load_pictures("imagenet", tmp_path).labels.tolist() == [1]
    table.write_text(f"file,class_index\n{GOLDFISH}/a.jpg,2\n")
    with pytest.raises(InputError, match=f"class 2, but the folder {GOLDFISH} is class 1"):
        data.load_pictures("imagenet", tmp_path)


def test_the_bundled_crops_are_the_same_everywhere():
    one, two = data.load_pictures("sample-crops"), data.load_pictures("sample-crops")
    assert len(one) == len(set(one.boxes)) == 64
    assert one.boxes == two.boxes
    assert torch.equal(one.labels, two.labels)
    assert one.boxes[::63] == ((178, 29, 538, 389), (246, 154, 455, 363))
    assert one.labels[:4].tolist() == [760, 503, 866, 376]
    assert (one.fidelity, one.source) == ("substitute", "bundled")
    for left, upper, right, lower in one.boxes:
        assert right - left == lower - upper >= 160
        assert 0 <= left < right <= 640
        assert 0 <= upper < lower <= 427
    from sklearn.datasets import load_sample_image

    for file, box in zip(one.files[:2], one.boxes[:2], strict=True):
        photograph = load_sample_image(file)
        left, upper, right, lower = box
        alone = replace(one, files=(file,), boxes=(box,), labels=one.labels[:1])
        whole = PicturePreprocessing(right - left, right - left)
        ((x, _),) = data.picture_batches(alone, whole, 1).pairs
        expected = torch.from_numpy(photograph[upper:lower, left:right].copy()).permute(2, 0, 1)
        mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (whole.mean, whole.std))
        assert torch.allclose(x[0] * std + mean, expected / 255, atol=1e-6)


# from a picture to the input of a network


SIZES = [
    (500, 375),
    (375, 500),
    (224, 224),
    (256, 256),
    (100, 90),
    (299, 299),
    (1000, 257),
    (37, 611),
    (1600, 16),
    (16, 1600),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("sides", [(256, 224), (146, 128), (248, 224), (57, 50), (64, 64)])
def test_preprocessing_equals_torchvision_s_transforms(size, interpolation, sides):
    transforms = import_torchvision().transforms
    mine = PicturePreprocessing(*sides, interpolation)
    mode = transforms.InterpolationMode(interpolation)
    theirs = transforms.Compose(
        [
            transforms.Resize(mine.resize, mode),
            transforms.CenterCrop(mine.crop),
            transforms.ToTensor(),
            transforms.Normalize(mine.mean, mine.std),
        ]
    )
    picture = pixels(1, *size)
    assert torch.equal(mine(picture), theirs(picture))


@pytest.mark.parametrize("crop", [224, 128, 64])
def test_preprocessing_equals_timm_s_transform(crop):
    import_torchvision()
    from timm.data import create_transform

    half = (0.5, 0.5, 0.5)
    mine = PicturePreprocessing(248, 224, "bicubic", half, half).scaled(crop)
    theirs = create_transform(
        crop, is_training=False, interpolation="bicubic", mean=half, std=half, crop_pct=0.9
    )
    for size in SIZES:
        assert torch.equal(mine(pixels(1, *size)), theirs(pixels(1, *size)))


def test_preprocessing_equals_that_of_torchvision_s_weights():
    weights = import_torchvision().models.get_model_weights("resnet18").IMAGENET1K_V1
    for size in SIZES:
        picture = pixels(1, *size)
        assert torch.equal(PicturePreprocessing()(picture), weights.transforms()(picture))


def test_bad_preprocessing():
    for arguments in ((100, 224), (10, 0), (256, 224, "nearest")):
        with pytest.raises(InputError):
            PicturePreprocessing(*arguments)
    with pytest.raises(InputError, match="positive"):
        PicturePreprocessing(std=(1.0, 0.0, 1.0))
    with pytest.raises(InputError, match="1 pixel"):
        SMALL.scaled(0)


def rgb(path):
    picture, sha256 = data.read_rgb(path)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert picture.mode == "RGB"
    return np.asarray(picture)


def test_every_kind_of_picture_becomes_rgb(tmp_path):
    colour = pixels(0)
    path = tmp_path / "picture.png"
    array = np.asarray(colour)

    colour.convert("L").save(path)
    gray = rgb(path)
    assert np.array_equal(gray, np.repeat(np.asarray(colour.convert("L"))[..., None], 3, axis=2))

    alpha = Image.fromarray(np.full(array.shape[:2], 7, np.uint8))
    transparent = colour.copy()
    transparent.putalpha(alpha)
    transparent.save(path)
    assert np.array_equal(rgb(path), array)  # dropped, not blended

    gray_alpha = colour.convert("LA")
    gray_alpha.putalpha(alpha)
    gray_alpha.save(path)
    assert np.array_equal(rgb(path), gray)

    palette = colour.quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    for options in ({}, {"transparency": bytes(range(16))}, {"transparency": 3}):
        palette.save(path, **options)
        assert np.array_equal(rgb(path), expected)

    colour.convert("1").save(path)
    assert set(np.unique(rgb(path))) == {0, 255}

    # cyan ink alone takes away red; JPEG is not exact
    inks = Image.new("CMYK", (32, 32), (255, 0, 0, 0))
    inks.save(tmp_path / "inks.jpg", quality=95)
    assert np.abs(rgb(tmp_path / "inks.jpg").astype(int) - [0, 255, 255]).max() < 8


def test_the_exif_orientation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = write(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(rgb(path), np.asarray(pixels(0)))


def test_more_than_8_bits_are_refused(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((20, 20), 40000, np.uint16)).save(path)
    with pytest.raises(InputError, match=r"deep\.png has more than 8 bits"):
        data.read_rgb(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tif"])
@pytest.mark.parametrize("damage", ["half", "empty", "text"])
def test_a_damaged_picture_is_named(tmp_path, suffix, damage):
    path = write(tmp_path / f"bad.{suffix}")
    content = path.read_bytes()
    damaged = {"half": content[: len(content) // 2], "empty": b"", "text": b"<html>not found"}
    path.write_bytes(damaged[damage])
    with pytest.raises(InputError, match=rf"bad\.{suffix} cannot be decoded"):
        data.read_rgb(path)


def test_a_missing_picture_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.png cannot be read"):
        data.read_rgb(tmp_path / "gone.png")


# batches


def test_batches_are_the_pictures_in_their_order(labelled):
    folder = labelled()
    pictures = data.read_pictures(folder)
    result = data.picture_batches(pictures, SMALL, 4)
    assert [len(y) for _, y in result.pairs] == [4, 2]
    assert torch.cat([y for _, y in result.pairs]).tolist() == [0, 100, 200, 300, 400, 500]
    x = torch.cat([x for x, _ in result.pairs])
    assert x.shape == (6, 3, 16, 16)
    assert x.dtype == torch.float32
    assert torch.equal(x, torch.stack([SMALL(pixels(index)) for index in range(6)]))
    assert result.files == pictures.files
    own = [hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in result.files]
    assert list(result.files_sha256) == own
    digest = hashlib.sha256()
    for pair in result.pairs:
        for tensor in pair:
            digest.update(tensor.numpy().tobytes())
    assert result.sha256 == digest.hexdigest()
    assert (result.pictures, result.preprocessing, result.skipped) == (pictures, SMALL, ())


def test_a_seed_draws_without_replacement_and_leaves_the_random_state(labelled):
    pictures = data.read_pictures(labelled())
    before = torch.get_rng_state()
    drawn = {s: data.picture_batches(pictures, SMALL, 2, 2, seed=s) for s in range(4)}
    assert torch.equal(torch.get_rng_state(), before)
    # torch's generator gives this order on every machine
    order = torch.randperm(6, generator=torch.Generator().manual_seed(3))[:4].tolist()
    assert drawn[3].files == tuple(f"{index}.png" for index in order)
    assert torch.cat([y for _, y in drawn[3].pairs]).tolist() == [100 * index for index in order]
    assert all(len(set(result.files)) == 4 for result in drawn.values())
    assert len({result.files for result in drawn.values()}) > 1
    again = data.picture_batches(pictures, SMALL, 2, 2, seed=3)
    assert again.sha256 == drawn[3].sha256 != drawn[2].sha256


def test_the_hash_tells_labels_and_sizes_apart(labelled):
    pictures = data.read_pictures(labelled())
    one = data.picture_batches(pictures, SMALL, 6)
    relabelled = replace(pictures, labels=pictures.labels + 1)
    assert data.picture_batches(relabelled, SMALL, 6).sha256 != one.sha256
    assert data.picture_batches(pictures, SMALL.scaled(17), 6).sha256 != one.sha256
    assert data.picture_batches(pictures, SMALL, 6, dtype=torch.float64).sha256 == one.sha256


def test_the_type_of_the_inputs(labelled):
    pictures = data.read_pictures(labelled())
    ((x, y),) = data.picture_batches(pictures, SMALL, 6, dtype=torch.float64, device="cpu").pairs
    assert (x.dtype, y.dtype) == (torch.float64, torch.int64)
    with pytest.raises(InputError, match="floating"):
        data.picture_batches(pictures, SMALL, 6, dtype=torch.int64)


def test_the_bundled_crops_make_batches_and_have_hashes_of_their_own():
    result = data.picture_batches(data.load_pictures("sample-crops"), SMALL, 32, 2, seed=0)
    assert len(set(result.files_sha256)) == 64
    assert len(set(result.files)) == 2
    assert all(bool(x.isfinite().all()) for x, _ in result.pairs)


def test_too_few_pictures_or_none_asked_for(labelled):
    pictures = data.read_pictures(labelled())
    with pytest.raises(InputError, match="has 6 pictures, but 2 batches of 4 need 8"):
        data.picture_batches(pictures, SMALL, 4, 2)
    for size, count in ((0, 1), (1, 0)):
        with pytest.raises(InputError, match="from 1"):
            data.picture_batches(pictures, SMALL, size, count)


def test_a_corrupt_picture_is_named_and_skipped_only_on_request(labelled):
    folder = labelled()
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:200])
    pictures = data.read_pictures(folder)
    with pytest.raises(InputError, match=r"2\.png cannot be decoded"):
        data.picture_batches(pictures, SMALL, 6)
    with pytest.warns(UserWarning, match=r"left out: .*2\.png cannot be decoded"):
        result = data.picture_batches(pictures, SMALL, 5, 1, skip_corrupt=True)
    assert result.skipped == ("2.png",)
    assert result.files == ("0.png", "1.png", "3.png", "4.png", "5.png")
    assert result.pairs[0][1].tolist() == [0, 100, 300, 400, 500]
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(InputError, match="only 5 pictures that can be decoded, but 6"),
    ):
        data.picture_batches(pictures, SMALL, 6, 1, skip_corrupt=True)
    with warnings.catch_warnings():  # what is not drawn is not read
        warnings.simplefilter("error")
        assert data.picture_batches(pictures, SMALL, 2, 1).files == ("0.png", "1.png")


def test_the_same_picture_twice_is_refused(labelled):
    folder = labelled()
    (folder / "5.png").write_bytes((folder / "1.png").read_bytes())
    with pytest.raises(InputError, match=r"5\.png and 1\.png of .* are the same picture"):
        data.picture_batches(data.read_pictures(folder), SMALL, 6)


# bad labels


BAD_LABELS = [
    (("0.png,1000",), "class '1000'"),
    (("0.png,-1",), "class '-1'"),
    (("0.png,cat",), "class 'cat'"),
    (("0.png,1.0",), "class '1.0'"),
    (("0.png,",), "class ''"),
    (("0.png",), "class ''"),
    (("1.png,1", "0.png,2", "gone.png,3"), "labels.csv line 4: gone.png does not exist"),
    (("0.png,1", "0.png,2"), "labels.csv line 3: 0.png is listed twice"),
    (("0.png,1", "./0.png,1"), "listed twice"),
    (("../secret.png,1",), "leads out of the folder"),
    ((",1",), "names no file"),
    ((f"n99999999/{TENCH}.png,1",), "not one of ImageNet's 1000 classes"),
]


@pytest.mark.parametrize(("rows", "message"), BAD_LABELS)
def test_bad_labels_are_named_with_their_line(labelled, rows, message):
    folder = labelled(*rows)
    with pytest.raises(InputError, match=r"labels\.csv line") as caught:
        data.load_pictures("ni", folder.parent)
    assert message in str(caught.value)


def test_a_table_without_the_columns_or_without_text(labelled):
    folder = labelled("0.png,1", header="name,label")
    with pytest.raises(InputError, match="its first line must name `file`"):
        data.read_pictures(folder)
    (folder / "labels.csv").write_bytes(b"file,class_index\n\xff\xfe\x00,1\n")
    with pytest.raises(InputError, match=r"labels\.csv is not a table"):
        data.read_pictures(folder)
    (folder / "labels.csv").write_bytes(b"")
    with pytest.raises(InputError, match="its first line must name"):
        data.read_pictures(folder)


def test_an_unknown_wnid(tmp_path):
    write(tmp_path / "imagenet" / "n00000001" / "a.jpg")
    with pytest.raises(InputError, match=r"n00000001/a\.jpg is in a folder that is not one of"):
        data.load_pictures("imagenet", tmp_path)


def test_nothing_there(tmp_path, monkeypatch):
    with pytest.raises(MissingDataError, match=r"put val/<wnid>.*looked in"):
        data.load_pictures("imagenet", tmp_path)
    monkeypatch.delenv("LLA_DATA", raising=False)
    with pytest.raises(MissingDataError, match="no data root is given"):
        data.load_pictures("ni")
    with pytest.raises(InputError, match="choose from imagenet, ni, sample-crops"):
        data.load_pictures("imagenette", tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        data.read_pictures(tmp_path / "nowhere")
    with pytest.raises(InputError, match="has no labelled pictures"):
        data.read_pictures(tmp_path)


def test_describe_says_what_is_here_and_what_is_wrong(labelled):
    folder = labelled()
    described = {item.name: item for item in data.describe_pictures(folder.parent)}
    assert set(described) == set(data.picture_names())
    assert (described["ni"].available, described["ni"].folder) == (True, folder)
    assert not described["imagenet"].available
    assert "put val/<wnid>" in described["imagenet"].note
    assert described["sample-crops"].source == "bundled"
    labelled("0.png,1000")
    (_, wrong, _) = data.describe_pictures(folder.parent)
    assert not wrong.available
    assert "class '1000'" in wrong.note


# the check of a folder


def said(folder, state):
    return {c.file: c.message for c in data.check_pictures(folder) if c.state == state}


def test_check_finds_everything_at_once(tmp_path):
    folder = tmp_path / "pictures"
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, size in (("good", (300, 240)), ("small", (300, 200)), ("long", (900, 250))):
        folder.mkdir(exist_ok=True)
        pixels(len(name), *size).save(folder / f"{name}.png")
    pixels(4, 300, 240).save(folder / "same.bmp")  # the pixels of good.png in another file
    pixels(9, 300, 240).convert("L").save(folder / "gray.png")
    pixels(10, 300, 240).save(folder / "turned.jpg", exif=exif)
    for name in ("unlabelled", "d"):  # the latter is a part of another name, good.png
        pixels(11 + len(name), 300, 240).save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    names = (
        "good.png",
        "same.bmp",
        "small.png",
        "long.png",
        "gray.png",
        "turned.jpg",
        "broken.png",
    )
    rows = [f"{name},5" for name in names]
    rows += ["gone.png,5", "good.png,6"]
    (folder / "labels.csv").write_text("\n".join(["file,class_index", *rows]) + "\n")

    wrong = said(folder, "wrong")
    assert set(wrong) == {"labels.csv line 9", "labels.csv line 10", "same.bmp", "broken.png"}
    assert wrong["same.bmp"] == "it is the same picture as good.png: take one out."
    assert str(tmp_path) not in " ".join(wrong.values())
    odd = said(folder, "odd")
    assert set(odd) == {
        "small.png",
        "long.png",
        "gray.png",
        "turned.jpg",
        "unlabelled.png",
        "d.png",
    }
    assert "300 x 200" in odd["small.png"]
    assert "central square" in odd["long.png"]
    assert "not RGB" in odd["gray.png"]
    assert "EXIF" in odd["turned.jpg"]
    assert "no label" in odd["unlabelled.png"]
    assert set(said(folder, "right")) == {"good.png"}

    result = CliRunner().invoke(app, ["data", "check-pictures", str(folder)])
    assert result.exit_code == 1
    assert "1 right, 6 odd, 4 wrong" in result.output
    assert "gone.png does not exist" in result.output


def test_check_of_a_good_folder_ends_well(tmp_path):
    for seed, wnid in enumerate((TENCH, LAST)):
        path = tmp_path / wnid / "a.png"
        path.parent.mkdir()
        pixels(seed, 260, 240).save(path)
    result = CliRunner().invoke(app, ["data", "check-pictures", str(tmp_path)])
    assert (result.exit_code, result.output) == (0, "2 right, 0 odd, 0 wrong\n")


def test_check_of_nothing(tmp_path):
    for folder, message in ((tmp_path, "has no pictures"), (tmp_path / "x", "there is no folder")):
        result = CliRunner().invoke(app, ["data", "check-pictures", str(folder)])
        assert result.exit_code == 2
        assert message in result.output


def test_the_list_on_the_command_line_has_the_pictures(labelled):
    result = CliRunner().invoke(app, ["data", "list", "--data-root", str(labelled().parent)])
    assert result.exit_code == 0, result.output
    assert all(name in result.output for name in data.picture_names())
    assert "6 photographs from outside ImageNet" in result.output


# the real pictures


@pytest.mark.parametrize(
    ("name", "count", "fidelity"), [("imagenet", 192, "reduced"), ("ni", 160, "substitute")]
)
def test_real_pictures(lla_data, name, count, fidelity):
    try:
        pictures = data.load_pictures(name, lla_data)
    except MissingDataError as error:
        pytest.skip(str(error))
    if pictures.split != "all" or len(pictures) != count:
        pytest.skip("the data root has another set")
    assert pictures.fidelity == fidelity
    if name == "imagenet":
        assert len(pictures.labels.unique()) == count
        assert all(f.startswith(w) for f, w in zip(pictures.files, pictures.wnids, strict=True))
    one, two = (data.picture_batches(pictures, SMALL, 16, 2, seed=0) for _ in range(2))
    assert one.sha256 == two.sha256
    assert len(set(one.files_sha256)) == 32
    if name == "imagenet":  # the batches of published records, of which these are the hash
        published = data.picture_batches(pictures, PicturePreprocessing(), 8, 2, seed=0)
        assert published.sha256.startswith("b1f5a1d802e3f61d")
