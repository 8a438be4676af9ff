"""The audit: planted faults are found and told, and clean images are not accused."""

import csv
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import planting
from sonosynth.audit import audit as audit_module
from sonosynth.audit import shortcuts
from sonosynth.audit.audit import audit, find_problems
from sonosynth.audit.findings import write_tables
from sonosynth.audit.quality import knn_outlier_scores, measure_quality, robust_outliers
from sonosynth.audit.shortcuts import associations, shortcut_classifier
from sonosynth.cli.data import app
from sonosynth.core.errors import OutputError, SonosynthError
from sonosynth.data.prepared_folder import source_fingerprint
from sonosynth.data.scan import read_source
from sonosynth.phantoms.phantom import phantom

pytestmark = pytest.mark.long

PER_CLASS = 12


@pytest.fixture(scope="module", autouse=True)
def few_forests():
    """Learn what chance is from fewer forests: they take most of the time of an audit this small."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shortcuts, "_CHANCE_RUNS", 8)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """36 phantoms and four copies: two in their own class, one flipped in another class, one exact; words on benign."""
    root = tmp_path_factory.mktemp("audited") / "breasts"
    data = phantom(PER_CLASS, 160, seed=3)
    rng = np.random.default_rng(0)
    pictures = {name: list(data.of_class(name).images) for name in data.classes}
    pictures["benign"] += [planting.crop(pictures["benign"][0], rng), planting.gain(pictures["benign"][1], rng)]
    pictures["malignant"] += [planting.flip(pictures["benign"][2], rng), pictures["malignant"][3]]
    for name, images in pictures.items():
        (root / name).mkdir(parents=True)
        for k, grey in enumerate(images):
            drawn = planting.words(grey, "RT BREAST", (0.2, 0.8)) if name == "benign" and k < PER_CLASS else grey
            Image.fromarray(drawn).save(root / name / f"{name[0]}{k:02d}.png")
    return root


@pytest.fixture(scope="module")
def found(folder):
    return find_problems(read_source(folder), sizes=(12, 400))


def ids(found, members) -> set[str]:
    return {found.report.images[i].item.id for i in members}


@pytest.mark.long
def test_clusters_and_conflicts(found):
    assert [ids(found, c) for c in found.clusters] == [{"b00", "b12"}, {"b01", "b13"}, {"b02", "m12"}, {"m03", "m13"}]
    assert [ids(found, c) for c in found.conflicts] == [{"b02", "m12"}]
    assert {pair.kind for pair in found.duplicates} == {"exact", "partial", "near", "flipped"}
    assert len(np.unique(found.groups)) == 36


def test_words_are_a_shortcut(found):
    strongest = found.associations[0]
    assert strongest.name == "burned-in words" and strongest.p < 0.01 and strongest.effect > 0.8
    assert strongest.values["benign"] > 0.7 and strongest.values["normal"] == 0
    assert found.shortcut is not None and found.shortcut.above_chance and found.shortcut.f1 > 0.5


def test_sizes_that_cannot_be_are_told(found):
    text = " | ".join(found.notes)
    assert "size 400 is more than the 40 images" in text
    assert "size 12 holds fewer than 5 images of a class: benign 4.2, malignant 4.2, normal 3.6" in text


def test_command_writes_once_and_never_over_an_edited_table(folder, found, tmp_path, monkeypatch):
    audited = []

    def look(images, *_):
        audited.append(source_fingerprint(images))
        return found

    monkeypatch.setattr(audit_module, "find_problems", look)
    runner, out = CliRunner(), tmp_path / "audit"
    command = ["audit", str(folder), "--out", str(out)]
    first = runner.invoke(app, command)
    assert first.exit_code == 0, first.output
    assert "duplicates  4 clusters of 8 images" in first.output
    assert "conflicts   1 cluster with two labels" in first.output
    assert "--drop-conflicts" in first.output
    page = (out / "audit.html").read_text(encoding="utf-8")
    assert page.count('class="cluster wrong"') == 1 and page.count('class="cluster"') == 3
    assert "http" not in page.replace("http-equiv", "")
    told = re.sub(r'base64,[^"]+', "", "".join(path.read_text(encoding="utf-8") for path in out.iterdir()))
    assert any("BREAST" in word for overlays in found.overlays for word in overlays.words)
    assert "BREAST" not in told and re.search(r"<br>\d words?</figcaption>", told)
    with (out / "duplicates.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == ("path_a", "path_b", "kind", "similarity", "labels")
    assert {row["labels"] for row in rows} == {"benign", "malignant", "benign|malignant"}
    groups = (out / "groups.csv").read_text()
    assert groups.count("\n") == 41
    (out / "groups.csv").write_text(groups + " ")
    again = runner.invoke(app, [*command, "--json"])
    assert again.exit_code == 0 and len(json.loads(again.stdout)["conflicts"]) == 1
    assert (out / "groups.csv").read_text() == groups + " "
    other = runner.invoke(app, [*command, "--size", "12"])
    assert isinstance(other.exception, OutputError)
    assert audited == [source_fingerprint(read_source(folder))]


def test_without_out_nothing_is_written_and_the_summary_prints_itself(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for k in range(3):
            pixels = rng.integers(0, 255, (24, 24), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{name}{k}.png")
    shutil.copy(tmp_path / "set" / "a" / "a0.png", tmp_path / "set" / "b" / "copy.png")
    summary = audit(tmp_path / "set", sizes=[8])
    assert (summary.images, summary.groups, summary.new) == (7, 6, True)
    assert summary.clusters == summary.conflicts == [["a/a0", "b/copy"]]
    assert "conflicts   1 cluster with two labels" in str(summary) and "size 8 is more than" in str(summary)
    assert str(summary).endswith(f"next: sonosynth data prepare {tmp_path / 'set'} --out DIR --size 128")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    with pytest.raises(SonosynthError, match="sizes: 3 images make no data set"):
        audit(tmp_path / "set", sizes=[3])


def test_a_second_call_reads_what_the_first_wrote(tmp_path):
    (tmp_path / "set" / "a").mkdir(parents=True)
    Image.fromarray(np.eye(24, dtype=np.uint8) * 200).save(tmp_path / "set" / "a" / "x.png")
    first = audit(tmp_path / "set", tmp_path / "out")
    again = audit(str(tmp_path / "set"), str(tmp_path / "out"))
    assert first.new and not again.new and again.model_dump() == first.model_dump()
    (tmp_path / "out" / "audit.json").write_text("{}")
    with pytest.raises(OutputError, match=r"audit\.json is damaged"):
        audit(tmp_path / "set", tmp_path / "out")


def test_names_with_terminal_codes_are_shown_as_escapes(tmp_path):
    root = tmp_path / "red\x1b[31m"
    (root / "a").mkdir(parents=True)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(root / "a" / "x.png")
    told = CliRunner().invoke(app, ["audit", str(root), "--out", str(tmp_path / "audit\x1b")])
    assert told.exit_code == 0 and "\x1b" not in told.output and "red\\x1b[31m" in told.output


@pytest.mark.long
def test_an_audit_may_lie_beside_a_file_of_arrays_and_not_among_images(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", images=rng.integers(0, 255, (4, 24, 24), dtype=np.uint8), labels=[0, 0, 1, 1])
    (tmp_path / "a").mkdir()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a" / "x.png")
    audited = ["--out", str(tmp_path / "audit")]
    inside = CliRunner().invoke(app, ["audit", str(tmp_path), *audited]).exception
    assert isinstance(inside, OutputError) and "lies inside the images" in str(inside)
    assert CliRunner().invoke(app, ["audit", str(tmp_path / "x.npz"), *audited]).exit_code == 0
    assert (tmp_path / "audit" / "groups.csv").is_file()


def test_prepare_takes_groups_and_drops_conflicts(folder, tmp_path, found):
    write_tables(found, tmp_path)
    command = ["prepare", str(folder), "--out", str(tmp_path / "out"), "--size", "32"]
    done = CliRunner().invoke(app, [*command, "--groups", str(tmp_path / "groups.csv"), "--drop-conflicts"])
    assert done.exit_code == 0, done.output
    assert "38 (benign 13, malignant 13, normal 12)" in done.output
    assert "35" in next(line for line in done.output.splitlines() if line.startswith("groups"))


@pytest.mark.long
def test_what_an_audit_left_out_needs_no_row(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for k in range(2):
            pixels = rng.integers(0, 255, (24, 24), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{k}.png")
    (tmp_path / "data" / "a" / "bad.png").write_text("text")
    audited = ["audit", str(tmp_path / "data"), "--out", str(tmp_path / "audit"), "--skip-unreadable"]
    told = CliRunner().invoke(app, audited)
    assert told.exit_code == 0, told.output
    command = shlex.split(next(line for line in told.output.splitlines() if line.startswith("next: ")))[3:]
    command[command.index("DIR")] = str(tmp_path / "out")
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "4 groups of 4 images" in done.output and "1 unreadable file left out" in done.output
    Image.fromarray(np.zeros((24, 24), np.uint8)).save(tmp_path / "data" / "a" / "new.png")
    command[command.index(str(tmp_path / "out"))] = str(tmp_path / "other")
    assert "no row for 1 of 6 images" in str(CliRunner().invoke(app, command).exception)


@pytest.mark.slow
def test_overlays_can_be_filled_while_preparing(folder, tmp_path):
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["prepare", str(folder), "--out", str(out), "--size", "64", "--mask-overlays"])
    assert done.exit_code == 0, done.output
    with (out / "manifest.csv").open(newline="") as file:
        filled = {row["id"]: int(row["overlay_pixels"]) for row in csv.DictReader(file)}
    assert sum(filled[f"b{k:02d}"] > 0 for k in range(PER_CLASS)) >= PER_CLASS - 2
    assert not any(filled[f"n{k:02d}"] for k in range(PER_CLASS))
    for path in ("benign/b00.png", "benign/b01.png", "normal/n00.png"):
        (tmp_path / "few" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / path, tmp_path / "few" / path)
    few, plain, again = str(tmp_path / "few"), str(tmp_path / "plain"), tmp_path / "again"
    assert CliRunner().invoke(app, ["prepare", few, "--out", plain, "--size", "64"]).exit_code == 0
    done = CliRunner().invoke(app, ["prepare", plain, "--out", str(again), "--size", "64", "--mask-overlays"])
    assert done.exit_code == 0, done.output
    with (again / "manifest.csv").open(newline="") as file:
        assert all(row["overlay_pixels"].isdigit() for row in csv.DictReader(file))
    command = ["prepare", str(out), "--out", str(tmp_path / "b"), "--size", "64", "--mask-overlays"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    with (tmp_path / "b" / "manifest.csv").open(newline="") as file:
        assert {row["id"]: int(row["overlay_pixels"]) for row in csv.DictReader(file)} == filled


# ---------------------------------------------------------------------------------------------------- the parts


@pytest.mark.long
def test_no_association_is_found_where_there_is_none():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 40)
    p = []
    for _ in range(40):
        properties = {"drawn": rng.random(120) < 0.3, "number": rng.normal(size=120)}
        p += [row.p for row in associations(properties, labels, np.arange(120), "abc")]
    assert np.mean(np.array(p) < 0.05) < 0.08


def test_copies_do_not_count_twice():
    labels = np.repeat([0, 1], 50)
    has = np.arange(100) < 10
    apart = associations({"drawn": has}, labels, np.arange(100), "ab")[0]
    copies = associations({"drawn": has}, labels, np.r_[np.zeros(10), np.arange(1, 91)], "ab")[0]
    assert apart.p < 0.01 and copies.n == 91 and copies.p > 0.2


@pytest.mark.slow
def test_the_shortcut_classifier_knows_chance():
    rng = np.random.default_rng(1)
    labels, groups = np.repeat([0, 1], 60), np.arange(120)
    blind = shortcut_classifier({"noise": rng.normal(size=120)}, labels, groups)
    seeing = shortcut_classifier({"label": labels + rng.normal(0, 0.3, 120)}, labels, groups)
    assert blind is not None and seeing is not None
    assert blind.f1 < 0.65 and abs(blind.chance - 0.5) < 0.08
    assert seeing.f1 > 0.85 and seeing.above_chance
    assert shortcut_classifier({"noise": labels * 1.0}, labels, np.repeat([0, 1], 60)) is None


@pytest.mark.slow
def test_patients_with_images_of_both_classes_hide_no_shortcut():
    rng = np.random.default_rng(2)
    labels, groups = np.tile([0, 1], 60), np.repeat(np.arange(60), 2)
    blind = shortcut_classifier({"noise": rng.normal(size=120)}, labels, groups)
    seeing = shortcut_classifier({"label": labels + rng.normal(0, 0.3, 120)}, labels, groups)
    assert blind is not None and abs(blind.chance - 0.5) < 0.08 and not blind.above_chance
    assert seeing is not None and seeing.f1 > 0.85 and abs(seeing.chance - 0.5) < 0.08 and seeing.above_chance
    drawn = associations({"drawn": labels == 1, "noise": rng.normal(size=120)}, labels, groups, "ab")
    assert drawn[0].name == "drawn" and drawn[0].p < 0.01 and drawn[0].n == 60 and drawn[1].p > 0.05


def test_quality_numbers():
    grey = phantom(1, 128, seed=0).images[0].copy()
    sharp = measure_quality(grey)
    from scipy.ndimage import gaussian_filter

    assert measure_quality(gaussian_filter(grey, 2)).sharpness < 0.6 * sharp.sharpness
    grey[:10] = 255
    grey[40:60] = 7
    changed = measure_quality(grey)
    assert changed.saturated >= 10 / 128 and changed.constant_rows == pytest.approx(20 / 128)
    flat = measure_quality(np.full((4, 8), 9, np.uint8))
    assert flat.sharpness == 0 and flat.aspect == 2 and flat.constant_rows == 0


def test_outliers_are_far_from_other_groups():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 8))
    features[7] += 12
    features[8] = features[7] + 0.01  # its copy does not make it ordinary
    groups = np.arange(60)
    groups[8] = 7
    far = knn_outlier_scores(features, groups)
    assert set(np.argsort(-far)[:2]) == {7, 8} and far[7] > 2
    assert np.median(far) == pytest.approx(1)
    with pytest.raises(ValueError, match="two groups"):
        knn_outlier_scores(features, np.zeros(60, int))
    assert robust_outliers(np.r_[np.linspace(0, 1, 50), 9]).tolist() == [False] * 50 + [True]
