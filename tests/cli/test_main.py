import subprocess
import sys
from types import ModuleType

import pytest

from sonosynth.__main__ import main


@pytest.mark.long
def test_the_module_is_the_command():
    told = subprocess.run([sys.executable, "-m", "sonosynth", "data", "--help"], capture_output=True, text=True)
    assert told.returncode == 0 and "sonosynth data" in told.stdout and "audit" in told.stdout


@pytest.mark.long
def test_help_of_every_command_imports_nothing_that_computes():
    code = """
import sys
from typer.main import get_command
from sonosynth.cli.main import app

def asked(command, *names):
    app([*names, "--help"], standalone_mode=False)
    for name, below in getattr(command, "commands", {}).items():
        asked(below, *names, name)

asked(get_command(app))
heavy = ("torch", "numpy", "scipy", "pandas", "sklearn", "matplotlib", "PIL", "pydicom", "cv2", "monai", "joblib")
print([name for name in heavy if name in sys.modules])
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.stdout.endswith("\n[]\n"), told.stdout[-500:] + told.stderr
    assert "study run [OPTIONS]" in told.stdout


def test_an_interrupt_while_importing_is_no_traceback(monkeypatch):
    def pressed(name):
        raise KeyboardInterrupt

    half_imported = ModuleType("sonosynth.cli.main")
    half_imported.__getattr__ = pressed
    monkeypatch.setitem(sys.modules, "sonosynth.cli.main", half_imported)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
