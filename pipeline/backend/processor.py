"""The processor of this machine: what speed and the last bits of a result depend on."""

import os
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# Those that fast kernels are chosen by, and what Linux calls them.
INSTRUCTION_SETS = {
    "AVX2": "avx2",
    "AVX-512": "avx512f",
    "AVX512_BF16": "avx512_bf16",
    "AMX": "amx_tile",
}


def name() -> str:
    """Returns the processor's name, or no more than its architecture where the system has none."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def instruction_sets() -> list[str]:
    """Returns which of INSTRUCTION_SETS the processor has, as far as Linux tells."""
    flags = _cpuinfo().get("flags", "").split()
    return [title for title, flag in INSTRUCTION_SETS.items() if flag in flags]


def cores() -> int:
    """Returns how many cores this process may use: where it is tied to some, not all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS


def _cpuinfo() -> dict[str, str]:
    try:
        text = CPUINFO.read_text()
    except OSError:  # not Linux
        return {}
    lines = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}
