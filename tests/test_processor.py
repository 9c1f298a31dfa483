import platform

import pytest

from pipeline.backend import processor

CORE = """processor\t: {number}
model name\t: Example Processor 9 @ 2.00GHz
flags\t\t: fpu sse4_2 {flags}
power management:

"""


@pytest.fixture
def cpuinfo(tmp_path, monkeypatch):
    """What Linux tells of the processor: `cpuinfo("...")`."""
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    return processor.CPUINFO.write_text


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ("avx2 fma", ["AVX2"]),
        ("avx avx512_vnni avx2 avx512f", ["AVX2", "AVX-512"]),
        (
            "avx512f avx2 avx512_bf16 amx_bf16 amx_tile amx_int8",
            ["AVX2", "AVX-512", "AVX512_BF16", "AMX"],
        ),
        ("", []),
    ],
)
def test_it_has_a_name_and_the_instruction_sets_that_matter(cpuinfo, flags, names):
    cpuinfo("".join(CORE.format(number=number, flags=flags) for number in range(2)))
    assert processor.name() == "Example Processor 9 @ 2.00GHz"
    assert processor.instruction_sets() == names


@pytest.mark.parametrize(("told", "name"), [("Example 9", "Example 9"), ("", "riscv64")])
def test_without_linuxs_words_python_names_it(cpuinfo, told, name, monkeypatch):
    monkeypatch.setattr(platform, "processor", lambda: told)
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert processor.name() == name
    assert processor.instruction_sets() == []
    cpuinfo("processor\t: 0\nBogoMIPS\t: 50.00\n")
    assert processor.name() == name
