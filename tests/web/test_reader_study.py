"""Drawing a reader study: nothing but the picture tells, and nothing of the training images is in it."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from image_sets import blobs
from reader_studies import pixels, save_sets, small_study
from sonosynth.core.errors import LeakageError, ReaderStudyError
from sonosynth.data.imageset import ImageSet
from sonosynth.web.reader_study import new_reader_study, read_reader_study

pytestmark = pytest.mark.long


def shown(frozen):
    return [np.asarray(Image.open(io.BytesIO(picture))) for picture in frozen.pictures]


def test_as_many_real_and_synthetic_images_of_each_class_and_practice_apart(tmp_path):
    study = small_study(tmp_path).study
    rated = [study.items[i] for i in study.rated]
    for label in study.classes:
        for synthetic in (False, True):
            assert sum(i.label == label and i.synthetic == synthetic for i in rated) == 4
    practice = [item for item in study.items if item.practice]
    assert sorted(item.synthetic for item in practice) == [False, True]
    assert not {i.source for i in practice if i.synthetic} & {i.source for i in rated if i.synthetic}


def test_files_tell_nothing_by_length_kind_name_or_order(tmp_path):
    frozen = small_study(tmp_path)
    assert len({len(picture) for picture in frozen.pictures}) == 1
    opened = [Image.open(io.BytesIO(picture)) for picture in frozen.pictures]
    assert {(one.mode, one.size, tuple(one.info)) for one in opened} == {("L", (32, 32), ())}
    names = [item.name for item in frozen.study.items]
    assert names == sorted(names)  # the order of random names
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in names)


def test_images_are_those_that_they_are_said_to_be(tmp_path):
    frozen = small_study(tmp_path)
    sources = {False: ImageSet.load(tmp_path / "real"), True: ImageSet.load(tmp_path / "synthetic")}
    for image, item in zip(shown(frozen), frozen.study.items, strict=True):
        of = sources[item.synthetic]
        k = of.ids.index(item.source)
        assert (image == of.images[k]).all()
        assert of.classes[of.labels[k]] == item.label
    assert not {i.tobytes() for i in shown(frozen)} & pixels(ImageSet.load(tmp_path / "training"))


def test_a_training_image_among_the_held_out_ones_is_refused(tmp_path):
    training, _, synthetic = save_sets(tmp_path)
    with pytest.raises(LeakageError, match="training image too"):
        new_reader_study(training, synthetic, tmp_path / "study", real=training, per_class=4)
    assert not (tmp_path / "study").exists()


def test_near_copies_are_left_out(tmp_path):
    training, real, synthetic = save_sets(tmp_path)
    known, made = ImageSet.load(training), ImageSet.load(synthetic)
    images = made.images.copy()
    images[:6] = np.clip(known.images[:6, :, ::-1].astype(int) + 3, 0, 255)  # mirrored and brighter
    replace(made, images=images).save(tmp_path / "copying")
    study = new_reader_study(training, tmp_path / "copying", tmp_path / "study", real=real, per_class=4, practice=2)
    copied = {made.ids[i] for i in range(6)}
    assert not copied & {item.source for item in study.items if item.synthetic}
    assert any("left out as near-copies" in note for note in study.notes)


def test_of_a_patient_there_is_one_image_while_there_are_others(tmp_path):
    training, real, synthetic = save_sets(tmp_path, per_class=16)
    held_out = ImageSet.load(real)
    replace(held_out, groups=np.arange(len(held_out)) // 4).save(tmp_path / "grouped")
    study = new_reader_study(training, synthetic, tmp_path / "a", real=tmp_path / "grouped", per_class=4, practice=0)
    for label in study.classes:
        sources = [i.source for i in study.items if not i.synthetic and i.label == label]
        assert len({held_out.ids.index(s) // 4 for s in sources}) == 4


def test_images_that_are_not_marked_as_synthetic_are_refused(tmp_path):
    training, real, _ = save_sets(tmp_path)
    blobs(12, seed=9).save(tmp_path / "unmarked")
    with pytest.raises(LeakageError, match="not marked as synthetic"):
        new_reader_study(training, tmp_path / "unmarked", tmp_path / "study", real=real, per_class=4)


def test_too_few_images_are_told_in_a_line(tmp_path):
    training, real, synthetic = save_sets(tmp_path)
    with pytest.raises(ReaderStudyError, match="are needed; lower --per-class"):
        new_reader_study(training, synthetic, tmp_path / "study", real=real, per_class=40)
    with pytest.raises(ReaderStudyError, match="give them with --real"):
        new_reader_study(training, synthetic, tmp_path / "study")


def test_equal_seeds_draw_equal_studies(tmp_path):
    training, real, synthetic = save_sets(tmp_path)
    a, b, c = (
        new_reader_study(training, synthetic, tmp_path / str(k), real=real, per_class=4, seed=seed)
        for k, seed in enumerate((0, 0, 1))
    )
    assert a == b
    assert a.images_sha256 != c.images_sha256


def test_every_reader_has_an_order_of_their_own_that_stays(tmp_path):
    study = small_study(tmp_path, repeats=4).study
    orders = [study.order(f"R{i:02d}") for i in range(1, 6)]
    assert len({tuple(order) for order in orders}) == 5
    assert orders[0] == study.order("R01")
    for order in orders:
        assert sorted(set(order)) == study.rated and len(order) == len(study.rated) + 4
        for item in (i for i in order if order.count(i) == 2):
            first = order.index(item)
            assert len(order) - 1 - order[::-1].index(item) - first > len(study.rated) // 3


@pytest.mark.parametrize("what", ["study", "image", "hash", "missing", "no json"])
def test_a_study_that_was_changed_is_not_read(tmp_path, what):
    frozen = small_study(tmp_path)
    path = frozen.directory / "readers.json"
    picture = frozen.directory / "images" / f"{frozen.study.items[0].name}.png"
    content = json.loads(path.read_text())
    if what == "study":
        content["study"]["items"][0]["synthetic"] ^= True
        path.write_text(json.dumps(content))
    elif what == "hash":
        del content["sha256"]
        path.write_text(json.dumps(content))
    elif what == "no json":
        path.write_text("{")
    elif what == "missing":
        picture.unlink()
    else:
        picture.write_bytes(picture.read_bytes()[:-1] + b"x")
    with pytest.raises(ReaderStudyError, match="restore it from a copy"):
        read_reader_study(frozen.directory)


def test_a_run_makes_the_images_and_its_training_images_are_known(tmp_path):
    from sonosynth.gan.train import train

    training, real, _ = save_sets(tmp_path)
    run = train(training, "fastgan", tmp_path / "run", kimg=0.02, settings={"ngf": 4, "ndf": 4})
    study = new_reader_study(training, run.directory, tmp_path / "study", real=real, per_class=4, practice=2)
    assert sum(item.synthetic for item in study.items) == 9
    assert not any("other images" in note for note in study.notes)
    elsewhere = new_reader_study(real, run.directory, tmp_path / "other", real=training, per_class=4, practice=2)
    assert any("the run was trained on other images" in note for note in elsewhere.notes)
