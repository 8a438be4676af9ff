import copy
import json
import signal
from collections import Counter

import numpy as np
import pytest
import torch
import yaml

from image_sets import blobs
from made_up_priors import made_up_prior
from sonosynth.core.errors import ClassError, DivergenceError, OutputError, RecipeError, RunError
from sonosynth.core.files import locked
from sonosynth.data.imageset import ImageSet
from sonosynth.gan.checkpoint import kept_settings, load_generator, run_config, run_of_class, save_generator
from sonosynth.gan.networks.layers import BatchNorm2d
from sonosynth.gan.registry import list_gans, make_recipe
from sonosynth.gan.sample import class_sequence, generate, image_grid, interpolate, synthesise
from sonosynth.gan.train import train_runs
from sonosynth.gan.training import loop as train_module
from sonosynth.gan.training import run_writer
from sonosynth.gan.training.early_stopping import DISTANCE_IMAGES
from sonosynth.gan.training.loop import train_run
from sonosynth.gan.training.trainer import Trainer, TrainingImages
from spoiled_steps import spoil_once

CPU = torch.device("cpu")
TINY = {
    "stylegan2": {"channel_base": 512, "channel_max": 16, "z_dim": 16, "w_dim": 16, "batch": 4},
    "fastgan": {"ngf": 8, "ndf": 8, "z_dim": 16, "batch": 4, "perceptual": "l1"},
    "projected": {"ngf": 8, "ndf": 8, "z_dim": 16, "batch": 4, "feature_px": 128},
    "r3gan": {"channel_base": 512, "channel_max": 16, "z_dim": 8, "batch": 4, "blocks": 1},
}


def tiny(name: str = "stylegan2-diffaug", **settings):
    """Return a narrow recipe; `ada_kimg` is fixed because it would otherwise depend on the length of the run."""
    short = {"ada_kimg": 0.1} if name == "stylegan2-ada" else {}
    short |= {"pretrain_kimg": 0.012, "pretrain_images": 2} if make_recipe(name).pretrain_kimg else {}
    return make_recipe(name, **(TINY[make_recipe(name).family] | short | settings))


LECAM = {"lecam_weight": 0.3, "lecam_decay": 0.9}  # once in every family


@pytest.mark.long
@pytest.mark.parametrize("conditional", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", list_gans())
def test_every_recipe_resumes_exactly(name, conditional, small_set, tmp_path):
    data = small_set if conditional else small_set.of_class("dark")
    with_lecam = conditional and name in ("stylegan2-ada", "fastgan", "projected", "r3gan")
    recipe = tiny(name, **(LECAM if with_lecam else {}))
    if recipe.prior:
        folder = made_up_prior(tmp_path / "prior", small_set, recipe.model_copy(update={"prior": None}))
        recipe = tiny(name, prior=str(folder))
    # A resumed StyleGAN2 meets R1 in its step 17, and path lengths in every fourth; other steps are all alike.
    cut, whole = (0.028, 0.072) if recipe.family == "stylegan2" else (0.012, 0.032)
    straight = train_run(data, recipe, tmp_path / "straight", kimg=whole, conditional=conditional)
    train_run(data, recipe, tmp_path / "cut", kimg=cut, conditional=conditional)
    resumed = train_run(data, recipe, tmp_path / "cut", kimg=whole, conditional=conditional)
    for file in ("generator.safetensors", "recipe.yaml"):
        assert (straight / file).read_bytes() == (resumed / file).read_bytes()
    a, b = (torch.load(run / "state.pt", weights_only=True) for run in (straight, resumed))
    for part in ("generator", "discriminator", "ema", "objective"):
        assert a[part].keys() == b[part].keys()
        assert all(torch.equal(a[part][k], b[part][k]) for k in a[part])
    last = json.loads((straight / "log.jsonl").read_text().splitlines()[-1])
    assert last["lecam"] > 0 if with_lecam else "lecam" not in last
    assert len(list((straight / "samples").glob("*.png"))) == train_module.GRIDS
    made = generate(resumed, 4)
    assert made.size == (32, 32) and set(made.classes) == (set(data.classes) if conditional else {"dark"})
    assert len({image.tobytes() for image in made.images}) == 4


@pytest.mark.long
@pytest.mark.parametrize("name", ["stylegan2-ada", "fastgan", "projected", "r3gan"])
def test_lecam_pulls_at_every_discriminator_and_is_absent_where_it_is_off(name, small_set):
    off, on = (
        Trainer(small_set, run_config(small_set, tiny(name, lecam_weight=weight), conditional=True, seed=0), CPU)
        for weight in (0.0, 0.3)
    )
    plain, regularised = off.step(), on.step()
    assert plain.keys() ^ regularised.keys() == {"lecam"}
    assert all(torch.equal(plain[key], regularised[key]) for key in ("loss_d", "logit_real", "logit_fake"))
    assert off.objective.state_dict().keys() ^ on.objective.state_dict().keys() == {"lecam"}
    means = torch.stack([regularised["logit_real"], regularised["logit_fake"], torch.tensor(1.0)])
    torch.testing.assert_close(on.objective.state_dict()["lecam"], 0.01 * means)
    penalties = []
    for _ in range(5):
        plain, regularised = off.step(), on.step()
        penalties.append(float(regularised["lecam"]))
    assert max(penalties) > 0
    assert not torch.equal(plain["loss_d"], regularised["loss_d"])


@pytest.mark.long
def test_interrupt_saves_the_state_and_the_same_call_goes_on(small_set, tmp_path):
    def press_after_the_third_step(done, total, latest):
        if round(done * 1000) == 12:
            signal.raise_signal(signal.SIGINT)

    arguments = {"kimg": 0.04, "conditional": True}
    with pytest.raises(KeyboardInterrupt):
        train_run(small_set, tiny(), tmp_path / "cut", progress=press_after_the_third_step, **arguments)
    assert torch.load(tmp_path / "cut" / "state.pt", weights_only=True)["step"] == 4
    resumed = train_run(small_set, tiny(), tmp_path / "cut", **arguments)
    straight = train_run(small_set, tiny(), tmp_path / "straight", **arguments)
    assert (resumed / "generator.safetensors").read_bytes() == (straight / "generator.safetensors").read_bytes()


def test_an_interrupt_that_is_ignored_stays_so(small_set, tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        told = []
        stop = {"progress": lambda *latest: told.append(signal.raise_signal(signal.SIGINT))}
        train_run(small_set, tiny(), tmp_path / "run", kimg=0.012, conditional=True, device=CPU, **stop)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(told) == 4, "before the first of three steps, and after each"


@pytest.mark.long
@pytest.mark.parametrize("last", ["save_state", "save_generator"])
def test_a_kill_between_the_files_of_a_save_loses_nothing(last, small_set, tmp_path, monkeypatch):
    straight = train_run(small_set, tiny(), tmp_path / "straight", kimg=0.02, conditional=True)
    train_run(small_set, tiny(), tmp_path / "cut", kimg=0.008, conditional=True)
    original = getattr(run_writer, last)

    def write_and_die(*arguments):
        original(*arguments)
        raise MemoryError

    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(run_writer, last, write_and_die)
        train_run(small_set, tiny(), tmp_path / "cut", kimg=0.02, conditional=True)
    resumed = train_run(small_set, tiny(), tmp_path / "cut", kimg=0.02, conditional=True)
    assert (resumed / "generator.safetensors").read_bytes() == (straight / "generator.safetensors").read_bytes()


@pytest.mark.long
def test_finished_run_is_left_alone(small_set, tmp_path):
    run = train_run(small_set, tiny(), tmp_path / "run", kimg=0.02, conditional=True)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.s*")}
    train_run(small_set, tiny(), run, kimg=0.02, conditional=True)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*.s*")} == before


@pytest.mark.long
def test_log_has_the_contract_keys_and_a_cut_line_does_not_hinder(small_set, tmp_path, monkeypatch):
    monkeypatch.setattr(train_module, "TICK_KIMG", 0.04)
    run = train_run(small_set, tiny(), tmp_path / "run", kimg=0.06, conditional=True)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    wanted = {"kimg", "seconds", "img_per_s", "loss_g", "loss_d", "r1", "augment_p", "kid_train", "event"}
    assert all(wanted <= set(line) for line in lines)
    assert [line["kimg"] for line in lines] == [0.04, 0.06]
    with (run / "log.jsonl").open("a") as log:
        log.write('{"kimg": 0.08, "sec')
    train_run(small_set, tiny(), run, kimg=0.1, conditional=True)
    kimgs = [json.loads(line)["kimg"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert kimgs == [0.04, 0.06, 0.08, 0.1]


def test_run_of_another_recipe_or_data_is_refused_and_named(small_set, tmp_path):
    run = train_run(small_set, tiny(), tmp_path / "run", kimg=0.004, conditional=True)
    with pytest.raises(RunError, match=r"recipe\.learning_rate is 0\.002, asked for 0\.001"):
        train_run(small_set, tiny(learning_rate=0.001), run, kimg=0.004, conditional=True)
    with pytest.raises(RunError, match="its data is"):
        train_run(blobs(10, seed=1), tiny(), run, kimg=0.004, conditional=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty and holds no run"):
        train_run(small_set, tiny(), tmp_path / "other", kimg=0.004, conditional=True)


@pytest.mark.long
def test_damaged_state_is_one_clear_line(small_set, tmp_path):
    run = train_run(small_set, tiny(), tmp_path / "run", kimg=0.004, conditional=True)
    (run / "state.pt").write_bytes(b"not a state")
    with pytest.raises(RunError, match=r"state\.pt is damaged .* remove it"):
        train_run(small_set, tiny(), run, kimg=0.008, conditional=True)


def test_weights_of_other_networks_are_one_clear_line(small_set, tmp_path):
    run = train_run(small_set, tiny(), tmp_path / "run", kimg=0.004, conditional=True)
    state = torch.load(run / "state.pt", weights_only=True)
    for changed in (state | {"course": {"colour": 1}}, {k: v for k, v in state.items() if k != "ema"}):
        torch.save(changed, run / "state.pt")
        with pytest.raises(RunError, match=r"state\.pt is no state of this run.* remove it"):
            train_run(small_set, tiny(), run, kimg=0.008, conditional=True)
    torch.save({"weights": torch.zeros(3)}, run / "state.pt")
    with pytest.raises(RunError, match=r"state\.pt is no state of a run; remove it"):
        train_run(small_set, tiny(), tmp_path / "next", kimg=0.004, conditional=True, start=run)
    _, config = load_generator(run / "generator.safetensors", CPU)
    save_generator(run / "generator.safetensors", torch.nn.Linear(2, 2), config, 0.004)
    with pytest.raises(RunError, match=r"generator\.safetensors does not hold the weights"):
        generate(run, 2)


def test_generators_of_one_class_each_draw_other_latents(small_set, tmp_path):
    run = tmp_path / "run"
    train_runs(small_set, tiny(), run, kimg=0.004, mode="per_class")
    network, _ = load_generator(run / "dark" / "generator.safetensors", CPU)
    _, other = load_generator(run / "light" / "generator.safetensors", CPU)
    save_generator(run / "light" / "generator.safetensors", network, other, 0.004)  # as two fine-tuned ones may be
    made = generate(run, 8)
    dark, light = (made.images[made.labels == label] for label in (0, 1))
    assert not any(np.array_equal(a, b) for a, b in zip(dark, light, strict=True))
    assert np.array_equal(dark, generate(run, 4, class_name="dark").images)
    assert np.array_equal(light, generate(run, 4, class_name="light").images)


def test_images_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(RunError, match="32, 64, 128, 256 or 512"):
        train_run(blobs(4, size=48), tiny(), tmp_path / "run", kimg=0.004, conditional=True)
    with pytest.raises(ClassError, match="at least two training images"):
        train_run(blobs(4).subset([0]), tiny(), tmp_path / "run", kimg=0.004, conditional=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_a_run_that_stays_non_finite_is_rolled_back_and_ends_with_what_to_change(small_set, tmp_path, monkeypatch):
    monkeypatch.setattr(train_module, "TICK_KIMG", 0.02)
    with pytest.raises(DivergenceError, match="for the 4th time; lower learning_rate"):
        train_run(small_set, tiny(learning_rate=1e18), tmp_path / "run", kimg=0.2, conditional=True)
    events = [json.loads(line)["event"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert len(events) == 3
    assert all("rolled back" in event for event in events)


@pytest.mark.long
def test_one_bad_gradient_is_rolled_back_with_new_draws(small_set, tmp_path, monkeypatch):
    monkeypatch.setattr(train_module, "TICK_KIMG", 0.02)
    clean = train_run(small_set, tiny(), tmp_path / "clean", kimg=0.08, conditional=True)
    spoil_once(monkeypatch)
    run = train_run(small_set, tiny(), tmp_path / "run", kimg=0.08, conditional=True)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["kimg"] for line in lines] == [0.02, 0.02, 0.04, 0.06, 0.08]
    assert "rolled back from 0.040 kimg" in lines[1]["event"]
    weights, _ = load_generator(run / "generator.safetensors", CPU)
    others, _ = load_generator(clean / "generator.safetensors", CPU)
    assert all(p.isfinite().all() for p in weights.parameters())
    assert not torch.equal(weights.constant, others.constant)


def spoil(monkeypatch, step, times):
    """Make gradients of the discriminator NaN at `step` until the run has been rolled back so often."""
    original = Trainer.step

    def spoiled(self, gradient_norms=False):
        statistics = original(self, gradient_norms)
        if self.step_count == step and self.rollbacks < times:
            for parameter in self.discriminator.parameters():
                parameter.grad = torch.full_like(parameter, torch.nan)
            self.optimizers["discriminator"].step()
        return statistics

    monkeypatch.setattr(Trainer, "step", spoiled)


@pytest.mark.long
def test_a_rollback_leaves_the_moments_of_the_optimiser_for_the_next(small_set, tmp_path, monkeypatch):
    monkeypatch.setattr(train_module, "TICK_KIMG", 0.02)
    spoil(monkeypatch, step=8, times=2)
    run = train_run(small_set, tiny(), tmp_path / "run", kimg=0.06, conditional=True)
    events = [json.loads(line)["event"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert [bool(event) for event in events] == [False, True, True, False, False]


@pytest.mark.long
def test_what_is_not_finite_is_not_kept_between_log_lines(small_set, tmp_path, monkeypatch):
    monkeypatch.setattr(train_module, "TICK_KIMG", 0.02)
    spoil(monkeypatch, step=7, times=1)

    def stop_at_8(done, total, latest):
        if done == pytest.approx(0.032):
            signal.raise_signal(signal.SIGINT)

    train_run(small_set, tiny(), tmp_path / "run", kimg=0.02, conditional=True)
    with pytest.raises(KeyboardInterrupt):
        train_run(small_set, tiny(), tmp_path / "run", kimg=0.06, conditional=True, progress=stop_at_8)
    run = train_run(small_set, tiny(), tmp_path / "run", kimg=0.06, conditional=True)
    weights, _ = load_generator(run / "generator.safetensors", CPU)
    assert all(p.isfinite().all() for p in weights.parameters())
    assert sum("rolled back" in line for line in (run / "log.jsonl").read_text().splitlines()) == 1


@pytest.mark.long
def test_a_run_that_began_with_earlier_defaults_keeps_them(small_set, tmp_path):
    earlier = {"class_layers": 2, "mirror": False, "path_length_weight": 2.0, "r1_gamma_256": None}
    earlier |= {"learning_rate": 0.0025, "ema_halflife_kimg": 5.0}
    run = train_run(small_set, tiny(**earlier), tmp_path / "run", kimg=0.02, conditional=True)
    begun = yaml.safe_load((run / "recipe.yaml").read_text())
    begun["recipe"] |= {"path_length_weight": 2.0, "learning_rate": 0.0025, "ema_halflife_kimg": 5.0}
    for name in ("class_layers", "cutout_ratio", "r1_gamma_256"):  # not recorded by versions where it was not to be set
        del begun["recipe"][name]
    (run / "recipe.yaml").write_text(yaml.safe_dump(begun))
    assert kept_settings(tiny(), 0.04, [run]) == [
        f"{name} = {kept} is kept, with which this run began; a new run of 0.04 kimg would have {fresh}"
        for name, kept, fresh in (
            ("mirror", "false", "true"),
            ("ema_halflife_kimg", "5", "10"),
            ("learning_rate", "0.0025", "0.002"),
            ("class_layers", "2", "8"),
            ("r1_gamma_256", "null", "10"),
            ("path_length_weight", "2", "0"),
        )
    ]
    train_run(small_set, tiny(), run, kimg=0.04, conditional=True)
    uncut = train_run(small_set, tiny(**earlier), tmp_path / "uncut", kimg=0.04, conditional=True)
    np.testing.assert_array_equal(generate(run, 2).images, generate(uncut, 2).images)
    with pytest.raises(RunError, match=r"its recipe\.mirror is False, asked for True"):
        train_run(small_set, tiny(mirror=True), run, kimg=0.06, conditional=True)


def averaged(name: str, data: ImageSet) -> Trainer:
    """Return the trainer of a few steps."""
    trainer = Trainer(data, run_config(data, tiny(name), conditional=True, seed=0), CPU)
    for _ in range(3):
        trainer.step()
    return trainer


@pytest.mark.long
@pytest.mark.parametrize("name", ["fastgan", "projected"])
def test_the_averaged_generator_has_batch_statistics_of_its_own(name, small_set):
    trainer = averaged(name, small_set)
    trainer.recompute_statistics()
    assert not any(module.training for module in trainer.ema.modules())
    norms = {key: norm for key, norm in trainer.ema.named_modules() if isinstance(norm, BatchNorm2d)}
    seen: dict[str, list[torch.Tensor]] = {key: [] for key in norms}
    for key, norm in norms.items():
        norm.register_forward_pre_hook(lambda _, given, key=key: seen[key].append(given[0].float()))
    labels = np.arange(256) % 2
    synthesise(trainer.ema, labels, conditional=True, seed=3)
    for key, norm in norms.items():
        values = torch.cat(seen[key])
        torch.testing.assert_close(norm.running_mean, values.mean(dim=(0, 2, 3)), atol=0.1, rtol=0.2)
    before = copy.deepcopy(trainer.ema.state_dict())
    trainer.recompute_statistics()
    assert all(torch.equal(before[key], tensor) or "batches" in key for key, tensor in trainer.ema.state_dict().items())


def test_every_class_is_checked_before_the_first_is_trained(small_set, tmp_path):
    one = small_set.subset([*range(0, 20, 2), 1])  # a single image of class "light", which comes last
    with pytest.raises(ClassError, match=r"there is 1 of class 'light'; add images, leave the class out, or .*--cond"):
        train_runs(one, tiny(), tmp_path / "run", kimg=0.004, mode="per_class")
    assert not list(tmp_path.iterdir())
    run = train_run(
        small_set.of_class("light"), tiny(), tmp_path / "run" / "light", kimg=0.004, conditional=False, seed=3
    )
    with pytest.raises(RunError, match=r"light belongs to another run \(its seed is 3"):
        train_runs(small_set, tiny(), tmp_path / "run", kimg=0.004, mode="per_class")
    assert [path.name for path in run.parent.iterdir()] == ["light"]


@pytest.mark.long
def test_what_a_longer_run_keeps_of_a_shorter_one_is_said(small_set, tmp_path):
    recipe = tiny("stylegan2-ada", ada_kimg=None)
    run = train_run(small_set, recipe, tmp_path / "run", kimg=0.008, conditional=True)
    (line,) = kept_settings(recipe, 0.016, [run, run])
    assert line.startswith("ada_kimg = 0.002 is kept") and line.endswith("a new run of 0.016 kimg would have 0.004")
    assert kept_settings(recipe, 0.008, [run]) == kept_settings(recipe, 1, [tmp_path / "new"]) == []
    fixed = tiny("stylegan2-ada", ada_kimg=0.1)
    assert (
        kept_settings(fixed, 0.016, [train_run(small_set, fixed, tmp_path / "b", kimg=0.008, conditional=True)]) == []
    )


@pytest.mark.long
def test_a_longer_run_goes_on_at_the_pace_of_its_augmentation(small_set, tmp_path):
    recipe = tiny("stylegan2-ada", ada_kimg=None)
    run = train_run(small_set, recipe, tmp_path / "run", kimg=0.008, conditional=True)
    recorded = (run / "recipe.yaml").read_bytes()
    train_run(small_set, recipe, run, kimg=0.016, conditional=True)
    assert (run / "recipe.yaml").read_bytes() == recorded and b"ada_kimg: 0.002" in recorded
    with pytest.raises(RunError, match=r"its recipe\.ada_kimg is 0\.002, asked for 3"):
        train_run(small_set, tiny("stylegan2-ada", ada_kimg=3.0), run, kimg=0.016, conditional=True)


@pytest.mark.long
@pytest.mark.parametrize("damaged", ["a: [", "- 1", "\udcff", "kimg: 2024-99-99"])
def test_a_damaged_recipe_is_named(small_set, tmp_path, damaged):
    run = train_run(small_set, tiny(), tmp_path / "run", kimg=0.004, conditional=True)
    (run / "recipe.yaml").write_text(damaged, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(RunError, match=r"recipe\.yaml is damaged"):
        train_run(small_set, tiny(), run, kimg=0.008, conditional=True)


@pytest.mark.long
def test_the_best_snapshot_is_kept_and_patience_ends_the_run(small_set, tmp_path, monkeypatch):
    monkeypatch.setattr(train_module, "TICK_KIMG", 0.02)
    values = iter([3.0, 1.0, 2.0, 2.5, 0.5])
    seen: list[tuple[int, ...]] = []

    def distance(images: np.ndarray) -> float:
        seen.append(images.shape)
        return next(values)

    arguments = {"kimg": 0.2, "conditional": True, "distance": distance, "patience_kimg": 0.04}
    run = train_run(small_set, tiny(), tmp_path / "run", **arguments)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["kid_train"] for line in lines] == [3.0, 1.0, 2.0, 2.5]
    assert lines[-1]["event"] == "ended: no improvement since 0.040 kimg"
    assert seen[0] == (DISTANCE_IMAGES, 32, 32)
    straight = train_run(small_set, tiny(), tmp_path / "straight", kimg=0.04, conditional=True)
    best, last = (
        load_generator(path, CPU)[0] for path in (run / "best.safetensors", straight / "generator.safetensors")
    )
    assert torch.equal(best.constant, last.constant)
    train_run(small_set, tiny(), run, **arguments)
    assert len(seen) == 4
    train_run(small_set, tiny(), run, **arguments | {"patience_kimg": None, "kimg": 0.1})
    assert len(seen) == 5 and len((run / "log.jsonl").read_text().splitlines()) == 5


@pytest.mark.slow
def test_a_short_run_learns_the_brightness_of_its_classes(tmp_path):
    data = blobs(32)
    train_run(data, tiny("stylegan2", learning_rate=0.005), tmp_path / "run", kimg=0.6, conditional=True)
    means = {name: generate(tmp_path / "run", 32, class_name=name).images.mean() for name in data.classes}
    real = {name: data.of_class(name).images.mean() for name in data.classes}
    assert means["light"] - means["dark"] > 0.5 * (real["light"] - real["dark"])


@pytest.mark.long
def test_per_class_runs_make_one_set_in_training_proportions(tmp_path):
    data = blobs(12).subset(range(0, 16))
    data = data.subset([*np.flatnonzero(data.labels == 0), *np.flatnonzero(data.labels == 1)[:4]])
    train_runs(data, tiny(), tmp_path / "run", kimg=0.008, mode="per_class")
    made = generate(tmp_path / "run", 30, seed=3)
    assert made.synthetic
    assert made.class_counts == {"dark": 20, "light": 10}
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["dark", "light"]


def test_the_same_seed_gives_the_same_image_however_many_are_asked_for(small_set, tmp_path):
    run = train_run(small_set, tiny(), tmp_path / "run", kimg=0.008, conditional=True)
    few, many = generate(run, 5, seed=7), generate(run, 50, seed=7)
    assert np.array_equal(few.images, many.images[:5])
    assert np.array_equal(few.labels, many.labels[:5])
    assert not np.array_equal(few.images, generate(run, 5, seed=8).images)
    assert len({image.tobytes() for image in many.images}) == 50
    assert set(generate(run, 4, class_name="light").class_counts.items()) == {("dark", 0), ("light", 4)}
    with pytest.raises(ClassError, match=r"did you mean 'light'.*known: dark, light"):
        generate(run, 4, class_name="lihgt")
    with pytest.raises(RunError, match="holds no generator"):
        generate(tmp_path / "nothing", 4)


def test_generator_file_carries_its_configuration_and_nothing_of_this_machine(small_set, tmp_path):
    run = train_run(small_set, tiny(), tmp_path / "run", kimg=0.004, conditional=True)
    _, config = load_generator(run / "generator.safetensors", CPU)
    assert config.classes == ("dark", "light")
    assert config.to_dict() == yaml.safe_load((run / "recipe.yaml").read_text())
    assert str(tmp_path).encode() not in (run / "generator.safetensors").read_bytes()


def test_class_sequence_is_proportional_and_a_prefix_of_itself():
    assert np.bincount(class_sequence([56, 27, 17], 100)).tolist() == [56, 27, 17]
    assert np.array_equal(class_sequence([3, 1], 7), class_sequence([3, 1], 20)[:7])


def test_tile_lays_images_row_by_row():
    images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1)
    assert image_grid(images, 4).tolist() == [[0, 1, 2, 3], [4, 5, 0, 0]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chanel_base": 2048}, "no setting 'chanel_base' .did you mean 'channel_base'"),
        ({"learning_rate": -1}, "'learning_rate' = -1"),
        ({"diffaugment": ("colour",)}, "unknown operation 'colour'"),
        ({"batch": 5}, "multiple of 2"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(RecipeError, match=message):
        make_recipe("stylegan2", **settings)


def test_unknown_recipe_names_the_nearest():
    with pytest.raises(RecipeError, match="did you mean 'stylegan2'"):
        make_recipe("stylegan3")


def test_r1_heuristic_is_that_of_the_ada_paper():
    assert make_recipe("stylegan2", batch=32).r1_gamma_at(256) == pytest.approx(0.4096)
    assert make_recipe("stylegan2", r1_gamma=10).r1_gamma_at(256) == 10


@pytest.mark.long
def test_transfer_takes_what_fits_and_lists_the_rest(small_set, tmp_path):
    first = train_run(small_set.of_class("dark"), tiny(), tmp_path / "first", kimg=0.012, conditional=False)
    second = train_run(small_set, tiny(), tmp_path / "second", kimg=0.004, conditional=True, start=first)
    told = json.loads((second / "transfer.json").read_text())
    assert "generator.layers.0.conv.weight" in told["taken"]
    assert "discriminator.blocks.0.conv0.weight" in told["taken"]
    assert {"generator.mapping.embed.weight", "generator.mapping.layers.0.weight"} <= set(told["left"])
    fresh = train_run(small_set, tiny(), tmp_path / "fresh", kimg=0.004, conditional=True)
    nets = [load_generator(run / "generator.safetensors", CPU)[0] for run in (first, second, fresh)]
    near, far = ((nets[0].constant - other.constant).abs().mean() for other in nets[1:])
    assert near < 0.2 * far
    with pytest.raises(RunError, match="its start is"):
        train_run(small_set, tiny(), second, kimg=0.004, conditional=True)


def test_balanced_classes_are_shown_equally_often():
    data = blobs(12).subset([*range(0, 24, 2), 1])  # twelve dark, one light
    for balanced, light in ((False, 4), (True, 26)):
        config = run_config(data, tiny(balanced_classes=balanced, mirror=False), conditional=True, seed=0)
        images = TrainingImages(data, config, CPU)
        batches = [images.batch(0, "generator", step, 4) for step in range(13)]
        assert sum(int(batch.real_labels.sum()) for batch in batches) == light
        assert sum(int(batch.fake_labels.sum()) for batch in batches) == light
        shown = torch.cat([batch.real for batch in batches])
        assert len({image.numpy().tobytes() for image in shown}) == 13


@pytest.mark.long
def test_interpolation_is_a_closed_smooth_path(small_set, tmp_path):
    run = train_run(small_set, tiny("stylegan2"), tmp_path / "run", kimg=0.04, conditional=True)
    path = interpolate(run, 40, class_name="light", seed=2).astype(float)
    steps = np.abs(np.diff(np.concatenate([path, path[:1]]), axis=0)).mean(axis=(1, 2))
    across = np.abs(path[0] - path[20]).mean()
    assert steps.max() < across
    assert np.array_equal(path, interpolate(run, 40, class_name="light", seed=2))
    with pytest.raises(ClassError, match="did you mean 'light'"):
        interpolate(run, 8, class_name="ligt")


@pytest.mark.long
def test_a_run_a_class_takes_any_class_name(tmp_path):
    data = blobs(6, classes=("a/b", "a_b", "..", "A_B"))
    runs = train_runs(data, tiny(), tmp_path / "run", kimg=0.004, mode="per_class")
    assert {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")} == {"run"}
    assert len({run.name.casefold() for run in runs}) == 4
    made = generate(tmp_path / "run", 8)
    assert made.class_counts == dict.fromkeys(made.classes, 2) and set(made.classes) == set(data.classes)
    assert generate(tmp_path / "run", 2, class_name="..").class_counts[".."] == 2
    first = run_of_class(tmp_path / "run", "a/b")
    assert load_generator(first / "generator.safetensors", CPU)[1].classes == ("a/b",)
    made.save(tmp_path / "made")
    assert ImageSet.load(tmp_path / "made").class_counts == dict.fromkeys(sorted(data.classes), 2)


def test_a_run_a_class_is_not_put_among_other_files(small_set, tmp_path):
    small_set.save(tmp_path / "images")
    (tmp_path / "letter.txt").write_text("mine")
    for folder in (tmp_path / "images", tmp_path, tmp_path / "letter.txt"):
        with pytest.raises(RunError, match="is not empty and holds"):
            train_runs(small_set, tiny(), folder, kimg=0.004, mode="per_class")
    conditional = train_run(small_set, tiny(), tmp_path / "run", kimg=0.004, conditional=True)
    with pytest.raises(RunError, match="is not empty and holds"):
        train_runs(small_set, tiny(), conditional, kimg=0.004, mode="per_class")


def test_a_run_takes_one_process_and_a_finite_length(small_set, tmp_path):
    run = train_run(small_set, tiny(), tmp_path / "run", kimg=0.004, conditional=True)
    with locked(run), pytest.raises(OutputError, match="another process is working in"):
        train_run(small_set, tiny(), run, kimg=0.008, conditional=True)
    for kimg in (float("inf"), float("nan"), 0.0):
        with pytest.raises(RunError, match="kimg must be a number above 0"):
            train_run(small_set, tiny(), tmp_path / "other", kimg=kimg, conditional=True)
    assert not (tmp_path / "other").exists()


def test_a_run_killed_while_it_claimed_its_directory_begins_again(small_set, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".recipe.yaml.0a1b2c3d.tmp").write_text("fam")
    train_run(small_set, tiny(), tmp_path / "run", kimg=0.004, conditional=True)


def test_a_run_without_a_distance_has_no_best_snapshot(small_set, tmp_path):
    run = train_run(small_set, tiny(), tmp_path / "run", kimg=0.004, conditional=True)
    with pytest.raises(RunError, match="because no distance"):
        generate(run, 2, snapshot="best")


def test_images_of_a_rectangular_source_come_back_in_its_shape(small_set, tmp_path):
    record = {"crop_width": "160", "crop_height": "120", "scale_x": "0.2", "scale_y": "0.2", "offset_x": "0"}
    columns = {name: (value,) * len(small_set) for name, value in (record | {"offset_y": "0"}).items()}
    padded = ImageSet(**{**vars(small_set), "extra": columns})
    run = train_run(padded, tiny(), tmp_path / "run", kimg=0.004, conditional=True)
    whole, cut = generate(run, 3), generate(run, 3, original_shape=True)
    assert cut.size == (24, 32) and np.array_equal(cut.images, whole.images[:, :24])
    other = train_run(small_set, tiny(), tmp_path / "other", kimg=0.004, conditional=True)
    with pytest.raises(RunError, match="several shapes, or none on record"):
        generate(other, 3, original_shape=True)


def test_a_step_is_timed_in_whole_rounds_where_the_device_runs_ahead(small_set, monkeypatch):
    trainer = Trainer(small_set, run_config(small_set, tiny("stylegan2"), conditional=True, seed=0), CPU)
    done: Counter[str] = Counter()
    monkeypatch.setattr(trainer, "run_phase", lambda phase, norm: done.update([phase.name]) or {})
    monkeypatch.setattr("sonosynth.gan.training.trainer.is_asynchronous", lambda device: True)
    assert trainer.seconds_per_step(repeats=2, warm_up=1) > 0
    assert done == {"generator": 48, "path_length": 12, "discriminator": 48, "r1": 3}
