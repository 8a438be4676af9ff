"""Tests of the precision a processor gets."""

import pytest
import torch

from sonosynth.core import device as engine
from sonosynth.core.device import autocast, bfloat16, has_bfloat16, precision

CPU = torch.device("cpu")


def product_type() -> torch.dtype:
    with autocast(CPU):
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


@pytest.mark.parametrize(
    ("amx", "avx512", "expected"), [(True, True, True), (False, True, True), (False, False, False)]
)
def test_a_cpu_computes_in_bfloat16_only_where_it_has_instructions_for_it(amx, avx512, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert has_bfloat16("cpu") == expected
    assert precision(CPU).startswith("bfloat16" if expected else "float32")
    assert product_type() == (torch.bfloat16 if expected else torch.float32)


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_computes_in_bfloat16_from_ampere_on(capability, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert has_bfloat16("cuda") == expected


def test_the_precision_can_be_chosen_for_a_block(monkeypatch):
    monkeypatch.setattr(engine, "has_bfloat16", lambda device_type: True)
    with bfloat16(False):
        assert product_type() == torch.float32
        with bfloat16(True):
            assert product_type() == torch.bfloat16
        assert product_type() == torch.float32
    assert product_type() == torch.bfloat16
