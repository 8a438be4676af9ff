"""Signatures with the user's own key."""

import shutil
import subprocess
from pathlib import Path

import pytest

from sonosynth.core.errors import ReleaseError
from sonosynth.release.signature import check_key, sign
from sonosynth.release.verify import verify

pytestmark = pytest.mark.long


def ssh_key(folder: Path, name: str) -> tuple[Path, Path]:
    private = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me", "-f", private], check=True)
    return private, private.with_name(f"{name}.pub")


def minisign_key(folder: Path, name: str) -> tuple[Path, Path]:
    private, public = folder / name, folder / f"{name}.pub"
    subprocess.run(["minisign", "-G", "-W", "-s", private, "-p", public], check=True, capture_output=True)
    return private, public


@pytest.mark.parametrize(("program", "make"), [("ssh-keygen", ssh_key), ("minisign", minisign_key)])
def test_a_signature_is_of_its_owner_and_of_these_files(program, make, copied, tmp_path):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    (mine, my_public), (_, their_public) = make(tmp_path, "mine"), make(tmp_path, "theirs")
    assert any("is missing" in problem for problem in verify(copied, signed_by=my_public).problems)
    check_key(mine)
    signature = sign(copied / "SHA256SUMS", mine)
    assert verify(copied, signed_by=my_public).problems == ()
    assert "was not checked" in verify(copied).notes[0] and verify(copied).problems == ()
    assert verify(copied, signed_by=their_public).problems == (
        f"{signature.name} is not a signature of SHA256SUMS by theirs.pub",
    )
    with (copied / "SHA256SUMS").open("a") as file:
        file.write(f"{'0' * 64}  more.png\n")
    assert (
        f"{signature.name} is not a signature of SHA256SUMS by mine.pub" in verify(copied, signed_by=my_public).problems
    )


def test_what_is_no_key_is_told(copied, tmp_path):
    (tmp_path / "key").write_text("hello")
    with pytest.raises(ReleaseError, match="no public key of OpenSSH or minisign"):
        verify(copied, signed_by=tmp_path / "key")
    with pytest.raises(ReleaseError, match="cannot be read as a private key"):
        check_key(tmp_path / "none")
    with pytest.raises(ReleaseError, match="not a file but a folder"):
        check_key(tmp_path)


def test_a_program_that_is_missing_is_told(tmp_path, monkeypatch):
    (tmp_path / "key").write_text("untrusted comment: minisign encrypted secret key\n")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ReleaseError, match="needs the program minisign, which is not installed"):
        check_key(tmp_path / "key")
