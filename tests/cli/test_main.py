import subprocess
import sys
from types import ModuleType

import pytest

from sonosynth.__main__ import main


@pytest.mark.long
def test_the_module_is_the_command():
    told = subprocess.run([sys.executable, "-m", "sonosynth", "data", "--help"], capture_output=True, text=True)
    assert told.returncode == 0 and "sonosynth data" in told.stdout and "audit" in told.stdout


def test_an_interrupt_while_importing_is_no_traceback(monkeypatch):
    def pressed(name):
        raise KeyboardInterrupt

    half_imported = ModuleType("sonosynth.cli.main")
    half_imported.__getattr__ = pressed
    monkeypatch.setitem(sys.modules, "sonosynth.cli.main", half_imported)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
