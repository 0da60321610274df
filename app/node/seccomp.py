"""A filter of system calls for bubblewrap, as the kernel reads it (seccomp(2), linux/filter.h).

Sockets other than Unix, IPv4 and IPv6 (as packet and netlink) and raw ones get EPERM, and so do
calls that a build never needs and that have opened kernels before. systemd has its own filter.
"""

from __future__ import annotations

import struct

_LOAD, _JUMP_EQUAL, _JUMP_SET, _AND, _RETURN = 0x20, 0x15, 0x45, 0x54, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | 1, 0x80000000  # 1: EPERM
_NUMBER, _ARCH, _FIRST, _SECOND = 0, 4, 16, 24  # offsets in struct seccomp_data
_X32 = 0x40000000
_FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6
_SOCK_RAW, _TYPE_MASK = 3, 0xF

# By machine: AUDIT_ARCH, number of socket(2), numbers that are refused.
_REFUSED_NAMES = (
    "add_key", "request_key", "keyctl", "bpf", "perf_event_open", "userfaultfd", "ptrace",
    "process_vm_readv", "process_vm_writev", "kexec_load", "init_module", "finit_module",
    "mount", "umount2", "pivot_root", "setns", "open_by_handle_at", "io_uring_setup",
)  # fmt: skip
_MACHINES: dict[str, tuple[int, int, tuple[int, ...]]] = {
    "x86_64": (
        0xC000003E,
        41,
        (248, 249, 250, 321, 298, 323, 101, 310, 311, 246, 175, 313, 165, 166, 155, 308, 304, 425),
    ),
    "aarch64": (
        0xC00000B7,
        198,
        (217, 218, 219, 280, 241, 282, 117, 270, 271, 104, 105, 273, 40, 39, 41, 268, 265, 425),
    ),
}


def socket_filter(machine: str) -> bytes:
    """Return the filter for a machine (`uname -m`); no bytes for a machine that is not known."""
    if machine not in _MACHINES:
        return b""
    arch, socket, refused = _MACHINES[machine]
    program: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _ARCH),
        (_JUMP_EQUAL, 1, 0, arch),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        # x32 calls have numbers of their own, which would pass the list below.
        program += [(_JUMP_SET, 0, 1, _X32), (_RETURN, 0, 0, _REFUSE)]
    for number in refused:
        program += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    program += [(_JUMP_EQUAL, 1, 0, socket), (_RETURN, 0, 0, _ALLOW), (_LOAD, 0, 0, _FIRST)]
    for place, family in enumerate(_FAMILIES):
        program.append((_JUMP_EQUAL, len(_FAMILIES) - place, 0, family))
    program += [
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _SECOND),
        (_AND, 0, 0, _TYPE_MASK),
        (_JUMP_EQUAL, 0, 1, _SOCK_RAW),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in program)
