"""The filter of system calls: its numbers are the kernel's, and its instructions decide as they are meant to."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from steercpp.judging.sandbox_filter import (
    ALLOW,
    ALLOWED,
    ANY_BIT,
    ARGUED,
    AT_LEAST,
    EQUAL,
    ERRNO,
    GREATER,
    KILL_PROCESS,
    LOAD,
    MACHINES,
    RETURN,
    instructions,
)

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
NUMBERS = {words[0]: words[1:] for words in (entry.split() for entry in ALLOWED.split(","))}
FORBIDDEN = """
unshare setns mount umount2 pivot_root chroot ptrace process_vm_readv process_vm_writev bpf perf_event_open
userfaultfd io_uring_setup io_uring_enter kexec_load init_module finit_module delete_module pidfd_getfd
personality keyctl add_key request_key shmget shmat msgget semget mq_open memfd_create memfd_secret seccomp
mlock mlockall setxattr fsetxattr open_tree move_mount fsopen fsmount fspick mount_setattr open_by_handle_at
name_to_handle_at swapon reboot settimeofday clock_settime sethostname syslog acct fanotify_init quotactl
migrate_pages move_pages setuid setgid setgroups sched_setscheduler setpriority vmsplice kcmp process_madvise
landlock_create_ruleset iopl ioperm modify_ldt nfsservctl lookup_dcookie
""".split()  # noqa: SIM905


def decided(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the filter returns for a call, instruction by instruction."""
    numbers = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<iIQ6Q", number, architecture or MACHINES[machine][1], 0, *numbers)
    lines, at, value = instructions(machine), 0, 0
    while True:
        code, yes, no, constant = lines[at]
        at += 1
        if code == LOAD:
            value = struct.unpack_from("<I", data, constant)[0]
        elif code == RETURN:
            return constant
        else:
            tests = {EQUAL: value == constant, GREATER: value > constant, AT_LEAST: value >= constant}
            at += yes if (tests | {ANY_BIT: bool(value & constant)})[code] else no


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_the_kernels(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip(f"no {HEADERS[machine]}: the kernel's headers are not installed")
    text = HEADERS[machine].read_text()
    kernels = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
    kernels |= {"newfstatat": kernels.get("newfstatat", kernels.get("fstatat", -1))}
    place = MACHINES[machine][0]
    listed = {name: words[place] for name, words in NUMBERS.items()} | {
        name: str(numbers[place]) for name, numbers in ARGUED.items()
    }
    wrong = {
        name: number
        for name, number in listed.items()
        if number != "-" and int(number) != kernels.get(name, int(number))
    }
    assert wrong == {} and len(listed) > 200
    for name in FORBIDDEN:
        if name in kernels:
            assert decided(machine, kernels[name]) == ERRNO | errno.ENOSYS, name


@pytest.mark.parametrize("machine", MACHINES)
def test_every_call_is_decided(machine: str) -> None:
    place = MACHINES[machine][0]
    allowed = {int(words[place]) for words in NUMBERS.values() if words[place] != "-"}
    argued = {numbers[place] for numbers in ARGUED.values()}
    assert not allowed & argued and not set(NUMBERS) & (set(ARGUED) | set(FORBIDDEN))
    for number in range(1000):
        if number not in argued:
            assert decided(machine, number) == (ALLOW if number in allowed else ERRNO | errno.ENOSYS), number
    assert decided(machine, 1, architecture=0x40000003) == KILL_PROCESS, "of 32 bits"
    if machine == "x86_64":
        assert decided(machine, 0x40000000 + 1) == KILL_PROCESS, "x32"


@pytest.mark.parametrize("machine", MACHINES)
def test_arguments_decide(machine: str) -> None:
    def of(name: str, *arguments: int) -> int:
        return decided(machine, ARGUED[name][MACHINES[machine][0]], *arguments)

    refused, no_network = ERRNO | errno.EPERM, ERRNO | errno.ENETUNREACH
    assert of("clone", 17) == ALLOW and of("clone", 0x3D0F00) == ALLOW, "a process, a thread"
    for bit in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert of("clone", bit | 17) == refused
    assert of("clone3") == ERRNO | errno.ENOSYS
    assert of("socket", 1, 1) == ALLOW == of("socketpair", 1, 1)
    for family in (0, 2, 10, 16, 17, 38, 40, 1 + (1 << 31)):
        assert of("socket", family, 1) == no_network == of("socketpair", family, 1)
    assert of("prlimit64", 0, 7) == ALLOW and of("prlimit64", 1, 7) == refused
    assert of("fcntl", 1, 1031) == refused and of("fcntl", 1, 1030) == ALLOW
    assert of("ioctl", 1, 0x5401) == ALLOW == of("ioctl", 1, 0x5451) and of("ioctl", 1, 0x5412) == ERRNO | errno.ENOTTY
    assert of("mmap", 0, 4096, 3, 0x21) == refused == of("mmap", 0, 4096, 3, 0x23), "shared memory without a file"
    assert of("mmap", 0, 4096, 3, 0x22) == ALLOW == of("mmap", 0, 4096, 3, 1), "private memory, a file's"
    assert of("madvise", 0, 4096, 21) == refused and of("madvise", 0, 4096, 4) == ALLOW
    assert {of("setsockopt", 3, 1, name, 0, 4) for name in (7, 8, 32, 33)} == {refused}
    assert of("setsockopt", 3, 1, 2, 0, 4) == ALLOW
    assert of("kill", 0xFFFFFFFF, 9) == of("kill", 2**64 - 1, 9) == ERRNO | errno.ESRCH and of("kill", 5, 9) == ALLOW
