"""The commands of reader studies, and what they say of mistakes."""

import pytest
from typer.testing import CliRunner

from reader_studies import save_sets
from sonosynth.cli.main import app

pytestmark = pytest.mark.long


def run(*words, status=0):
    done = CliRunner().invoke(app, ["readers", *map(str, words)])
    assert done.exit_code == status, done.output
    return done.output


def test_a_study_is_drawn_readers_are_invited_and_nobody_has_finished(tmp_path):
    training, real, synthetic = save_sets(tmp_path)
    out = tmp_path / "study"
    told = run("new", training, "--real", real, "--synthetic", synthetic, "--per-class", 4, "--out", out)
    assert "8 real and 8 synthetic images" in told
    invited = [line.split() for line in run("invite", out, "--readers", 2, "--url", "https://x.example/").splitlines()]
    assert [name for name, _ in invited] == ["R01", "R02"]
    assert all(link.startswith("https://x.example/join/") for _, link in invited)
    again = run("invite", out, "--reader", "R01").split()
    assert again[0] == "R01" and again[1] != invited[0][1]
    assert "no reader 'R09'" in run("invite", out, "--reader", "R09", status=2)
    assert "no reader has finished" in run("analyse", out, "--out", tmp_path / "result", status=2)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("serve", "nowhere"), "holds no reader study"),
        (("serve", "nowhere", "--host", "0.0.0.0"), "--tls-cert"),
        (("serve", "nowhere", "--tls-cert", "cert.pem"), "needs both"),
        (("analyse", "nowhere", "--out", "result"), "holds no reader study"),
        (("invite", "nowhere"), "holds no reader study"),
        (("new", "nowhere", "--synthetic", "run", "--out", "study"), "nowhere"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, monkeypatch, words, what):
    monkeypatch.chdir(tmp_path)
    told = run(*words, status=2)
    assert what in told and told.count("\n") == 1 and told.startswith("error: ")


def test_the_plan_gives_power_for_readers_and_images():
    assert "95%" in run("plan", "--auc", 0.65)
