"""What is read of the machine, however much it tells."""

import pytest
import torch

from noisewright.samplers import machine

LINUX = "processor\t: 0\nmodel name\t: A Processor\nflags\t\t: fpu {flag} avx2\n"


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Sets what ``/proc/cpuinfo`` says, and what torch does; None: it does not know."""

    def tell(linux, capabilities=None):
        file = tmp_path / "cpuinfo"
        if linux is not None:
            file.write_text(linux)
        monkeypatch.setattr(machine, "Path", lambda name: file)
        ask = None if capabilities is None else lambda: capabilities
        monkeypatch.setattr(torch.cpu, "get_capabilities", ask, raising=False)
        machine.flags.cache_clear()

    yield tell
    machine.flags.cache_clear()


@pytest.mark.parametrize(
    ("linux", "capabilities", "expected"),
    [
        (LINUX.format(flag="avx512_bf16"), None, "AVX512-BF16"),
        (LINUX.format(flag="amx_bf16 avx512_bf16"), None, "AMX"),
        (LINUX.format(flag="avx512f"), None, None),
        ("Features\t: fp asimd bf16\n", None, None),  # ARM's was not measured
        (LINUX.format(flag="avx512f"), {"avx512_bf16": True}, "AVX512-BF16"),
        (LINUX.format(flag="avx512_bf16"), {"avx512_bf16": False, "avx2": True}, None),  # torch asks the processor
        ("", None, None),
        (None, None, None),
    ],
)
def test_instructions_are_known_by_their_flags(told, linux, capabilities, expected):
    told(linux, capabilities)
    assert machine.bfloat16_instructions() == expected


def test_torch_that_fails_is_not_asked(told, monkeypatch):
    told(LINUX.format(flag="avx512_bf16"))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: 1 / 0, raising=False)
    machine.flags.cache_clear()
    assert machine.bfloat16_instructions() == "AVX512-BF16"


def test_a_machine_is_told_by_its_processor_and_threads(told):
    told(LINUX.format(flag="avx512_bf16"))
    found = machine.machine("cpu")
    assert found == {"processor": "A Processor", "can": ["avx512_bf16"], "threads": torch.get_num_threads()}
    assert machine.machine("mps")["accelerator"] == "mps"
