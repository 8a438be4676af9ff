"""Signatures of checksums with the user's own key: OpenSSH (``ssh-keygen -Y``) or minisign."""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

from sonosynth.core.errors import ReleaseError
from sonosynth.core.files import unreadable_reason

NAMESPACE = "sonosynth-release"
_IDENTITY = "publisher"
_MOST = 1 << 16  # bytes of a key
_PROGRAMS = {"ssh": "ssh-keygen", "minisign": "minisign"}
_SECONDS = 120  # to type a passphrase


def check_key(key: Path) -> None:
    """Raise ReleaseError unless `key` is a private key of OpenSSH or minisign whose program is installed."""
    _require(_kind(key, private=True))


def sign(sums: Path, key: Path) -> Path:
    """Sign the file `sums` with the private `key`, and return the signature: ``.sig`` or ``.minisig`` beside it.

    A passphrase is asked for by the program. Raises ReleaseError: the key cannot be used.
    """
    kind = _kind(key, private=True)
    program = _require(kind)
    made = sums.with_name(f"{sums.name}.{'sig' if kind == 'ssh' else 'minisig'}")
    if kind == "ssh":
        _run([program, "-Y", "sign", "-f", str(key), "-n", NAMESPACE, str(sums)], f"{key} cannot sign")
    else:
        _run([program, "-S", "-s", str(key), "-m", str(sums), "-x", str(made)], f"{key} cannot sign")
    return made


def signature_problem(sums: Path, public_key: Path) -> str:
    """Return what is wrong with the signature of `sums` by the owner of `public_key`; empty if nothing is.

    Raises ReleaseError: `public_key` is none, or its program is not installed.
    """
    kind = _kind(public_key, private=False)
    program = _require(kind)
    made = sums.with_name(f"{sums.name}.{'sig' if kind == 'ssh' else 'minisig'}")
    if not made.is_file():
        return f"{made.name} is missing: the release is not signed with such a key"
    if kind == "minisign":
        command, given = [program, "-V", "-q", "-p", str(public_key), "-m", str(sums), "-x", str(made)], b""
        done = subprocess.run(command, input=given, capture_output=True, timeout=_SECONDS, check=False)
    else:
        with tempfile.TemporaryDirectory() as folder:
            allowed = Path(folder) / "allowed_signers"
            allowed.write_text(f"{_IDENTITY} {public_key.read_text(encoding='utf-8').strip()}\n", encoding="utf-8")
            command = [program, "-Y", "verify", "-f", str(allowed), "-I", _IDENTITY, "-n", NAMESPACE, "-s", str(made)]
            given = sums.read_bytes()
            done = subprocess.run(command, input=given, capture_output=True, timeout=_SECONDS, check=False)
    return "" if done.returncode == 0 else f"{made.name} is not a signature of {sums.name} by {public_key.name}"


def _kind(key: Path, *, private: bool) -> Literal["ssh", "minisign"]:
    """Return whose key lies at `key`, by its content. Raises ReleaseError."""
    what = "private" if private else "public"
    try:
        reason = unreadable_reason(key, _MOST)
        text = "" if reason else key.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ReleaseError(f"{key} cannot be read as a {what} key ({error})") from error
    if text.startswith("-----BEGIN OPENSSH PRIVATE KEY-----") and private:
        return "ssh"
    if text.startswith(("ssh-", "ecdsa-", "sk-")) and not private:
        return "ssh"
    if text.startswith("untrusted comment:") and ("secret key" in text.splitlines()[0]) == private:
        return "minisign"
    raise ReleaseError(
        f"{key} is {reason or f'no {what} key of OpenSSH or minisign'}; make one with 'ssh-keygen -t ed25519', or give "
        f"the {what} half of the key"
    )


def _require(kind: Literal["ssh", "minisign"]) -> str:
    program = shutil.which(_PROGRAMS[kind])
    if program is None:
        raise ReleaseError(f"the key needs the program {_PROGRAMS[kind]}, which is not installed; install it")
    return program


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, timeout=_SECONDS, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ReleaseError(f"{what}: {said[-1] if said else f'exit status {done.returncode}'}")
