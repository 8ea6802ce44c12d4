"""Which system calls a program in the sandbox may make: a seccomp filter, and a session keyring that nobody else has.

Runs inside the sandbox alone, in the supervisor before it forks, so that every process there inherits both for good.
Calls that are not named here do not exist for a program (ENOSYS): new namespaces, mounts, key rings, System V and POSIX
queues and shared memory, memory files, ptrace, other processes' memory and descriptors, bpf, perf, io_uring, kernel
modules, personalities, swap, clocks, and what kernels will learn later. Of eleven calls arguments decide, of three
for the sake of memory that no process is seen to hold: shared memory without a file, pages put to swap, larger buffers
of sockets. Calls of another machine, of 32 bits and of x32 kill the process. Bindings of libseccomp are no help here:
the sandbox has no packages, and the filter is a hundred instructions.
Source: seccomp(2), keyctl(2); numbers after asm/unistd_64.h (x86-64) and asm-generic/unistd.h (arm64) of Linux 6.1.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from itertools import pairwise

ALLOWED = """
    accept 43 202, accept4 288 242, access 21 -, alarm 37 -, arch_prctl 158 -, bind 49 200, brk 12 214,
    capget 125 90, chdir 80 49, chmod 90 -, chown 92 -, clock_getres 229 114, clock_gettime 228 113,
    clock_nanosleep 230 115, close 3 57, close_range 436 436, connect 42 203, copy_file_range 326 285, creat 85 -,
    dup 32 23, dup2 33 -, dup3 292 24, epoll_create 213 -, epoll_create1 291 20, epoll_ctl 233 21,
    epoll_pwait 281 22, epoll_pwait2 441 441, epoll_wait 232 -, eventfd 284 -, eventfd2 290 19, execve 59 221,
    execveat 322 281, exit 60 93, exit_group 231 94, faccessat 269 48, faccessat2 439 439, fadvise64 221 223,
    fallocate 285 47, fchdir 81 50, fchmod 91 52, fchmodat 268 53, fchmodat2 452 452, fchown 93 55,
    fchownat 260 54, fdatasync 75 83, fgetxattr 193 10, flistxattr 196 13, flock 73 32, fork 57 -, fstat 5 80,
    fstatfs 138 44, fsync 74 82, ftruncate 77 46, futex 202 98, futex_waitv 449 449, futimesat 261 -,
    get_robust_list 274 100, getcpu 309 168, getcwd 79 17, getdents 78 -, getdents64 217 61, getegid 108 177,
    geteuid 107 175, getgid 104 176, getgroups 115 158, getitimer 36 102, getpeername 52 205, getpgid 121 155,
    getpgrp 111 -, getpid 39 172, getppid 110 173, getpriority 140 141, getrandom 318 278, getresgid 120 150,
    getresuid 118 148, getrlimit 97 163, getrusage 98 165, getsid 124 156, getsockname 51 204, getsockopt 55 209,
    gettid 186 178, gettimeofday 96 169, getuid 102 174, getxattr 191 8, inotify_add_watch 254 27,
    inotify_init 253 -, inotify_init1 294 26, inotify_rm_watch 255 28, lchown 94 -, lgetxattr 192 9,
    link 86 -, linkat 265 37, listen 50 201, listxattr 194 11, llistxattr 195 12, lseek 8 62, lstat 6 -,
    membarrier 324 283, mincore 27 232, mkdir 83 -, mkdirat 258 34, mknod 133 -, mknodat 259 33,
    mprotect 10 226, mremap 25 216, msync 26 227, munmap 11 215, nanosleep 35 101, newfstatat 262 79,
    open 2 -, openat 257 56, openat2 437 437, pause 34 -, pidfd_open 434 434, pidfd_send_signal 424 424, pipe 22 -,
    pipe2 293 59, poll 7 -, ppoll 271 73, prctl 157 167, pread64 17 67, preadv 295 69, preadv2 327 286,
    pselect6 270 72, pwrite64 18 68, pwritev 296 70, pwritev2 328 287, read 0 63, readlink 89 -, readlinkat 267 78,
    readv 19 65, recvfrom 45 207, recvmmsg 299 243, recvmsg 47 212, rename 82 -, renameat 264 38,
    renameat2 316 276, restart_syscall 219 128, rmdir 84 -, rseq 334 293, rt_sigaction 13 134,
    rt_sigpending 127 136, rt_sigprocmask 14 135, rt_sigqueueinfo 129 138, rt_sigreturn 15 139,
    rt_sigsuspend 130 133, rt_sigtimedwait 128 137, sched_get_priority_max 146 125, sched_get_priority_min 147 126,
    sched_getaffinity 204 123, sched_getparam 143 121, sched_getscheduler 145 120, sched_rr_get_interval 148 127,
    sched_yield 24 124, select 23 -, sendfile 40 71, sendmmsg 307 269, sendmsg 46 211, sendto 44 206,
    set_robust_list 273 99, set_tid_address 218 96, setitimer 38 103, setpgid 109 154, setrlimit 160 164,
    setsid 112 157, shutdown 48 210, sigaltstack 131 132, signalfd 282 -, signalfd4 289 74,
    splice 275 76, stat 4 -, statfs 137 43, statx 332 291, symlink 88 -, symlinkat 266 36, sysinfo 99 179,
    tee 276 77, tgkill 234 131, time 201 -, timer_create 222 107, timer_delete 226 111, timer_getoverrun 225 109,
    timer_gettime 224 108, timer_settime 223 110, timerfd_create 283 85, timerfd_gettime 287 87,
    timerfd_settime 286 86, times 100 153, tkill 200 130, truncate 76 45, umask 95 166, uname 63 160, unlink 87 -,
    unlinkat 263 35, utime 132 -, utimensat 280 88, utimes 235 -, vfork 58 -, wait4 61 260, waitid 247 95,
    write 1 64, writev 20 66
"""
"""Calls by name with their numbers on x86-64 and arm64; a dash where a machine has none."""
ARGUED = {
    "ioctl": (16, 29), "fcntl": (72, 25), "socket": (41, 198), "socketpair": (53, 199), "clone": (56, 220),
    "clone3": (435, 435), "prlimit64": (302, 261), "kill": (62, 129), "mmap": (9, 222), "madvise": (28, 233),
    "setsockopt": (54, 208),
}  # fmt: skip
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # place in the tables, AUDIT_ARCH of linux/audit.h
X32 = 0x40000000  # __X32_SYSCALL_BIT of asm/unistd.h
KEYCTL = {"x86_64": 250, "aarch64": 219}
JOIN_SESSION_KEYRING = 1  # linux/keyctl.h
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2  # linux/prctl.h, linux/seccomp.h
ALLOW, ERRNO, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000  # SECCOMP_RET_ of linux/seccomp.h
LOAD, EQUAL, GREATER, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x25, 0x35, 0x45, 0x06  # BPF_ of linux/bpf_common.h
NEW_NAMESPACE = 0x7E020000  # CLONE_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID and _NEWNET of linux/sched.h
F_SETPIPE_SZ = 1031  # linux/fcntl.h
TERMINAL_CALLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS TIOCGWINSZ FIONREAD FIONBIO FIO(N)CLEX
AF_UNIX = 1
MAP_SHARED, MAP_ANONYMOUS, MADV_PAGEOUT = 1, 0x20, 21  # linux/mman.h, asm-generic/mman-common.h
SOCKET_BUFFERS = (7, 8, 32, 33)  # SO_SNDBUF SO_RCVBUF SO_SNDBUFFORCE SO_RCVBUFFORCE of asm-generic/socket.h
EVERYONE = 0xFFFFFFFF  # -1

Instruction = tuple[int, int, int, int]
"""(code, lines to skip where it holds, lines to skip where not, constant), as struct sock_filter."""


def machine() -> str:
    """The machine's name where there is a filter for it.

    Raises:
        OSError: another machine, or a Python of 32 bits.
    """
    name = os.uname().machine
    if name not in MACHINES or sys.maxsize < 1 << 32:
        raise OSError(errno.ENOSYS, f"there is no filter of system calls for {name}, only for {', '.join(MACHINES)}")
    return name


def allowed_numbers(name: str) -> list[int]:
    """Numbers of the calls that are allowed whatever their arguments, on a machine."""
    place = MACHINES[name][0]
    numbers = (entry.split()[1 + place] for entry in ALLOWED.split(","))
    return sorted(int(number) for number in numbers if number != "-")


def instructions(name: str) -> list[Instruction]:
    """The filter for a machine of `MACHINES`."""
    place, architecture = MACHINES[name]
    number_at, architecture_at, argument_at = 0, 4, 16  # of struct seccomp_data; 8 bytes an argument, low half first

    def argument(call: str, i: int, test: int, *constants: int, hit: int, miss: int) -> list[Instruction]:
        checks = [(test, len(constants) - k, 0, constant) for k, constant in enumerate(constants)]
        body = [(LOAD, 0, 0, argument_at + 8 * i), *checks, (RETURN, 0, 0, miss), (RETURN, 0, 0, hit)]
        return [(EQUAL, 0, len(body), ARGUED[call][place]), *body]

    refused = ERRNO | errno.EPERM
    lines = [
        (LOAD, 0, 0, architecture_at),
        (EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD, 0, 0, number_at),
    ]
    if name == "x86_64":
        lines += [(AT_LEAST, 0, 1, X32), (RETURN, 0, 0, KILL_PROCESS)]
    lines += argument("ioctl", 1, EQUAL, *TERMINAL_CALLS, hit=ALLOW, miss=ERRNO | errno.ENOTTY)
    lines += argument("fcntl", 1, EQUAL, F_SETPIPE_SZ, hit=refused, miss=ALLOW)
    lines += argument("socket", 0, EQUAL, AF_UNIX, hit=ALLOW, miss=ERRNO | errno.ENETUNREACH)
    lines += argument("socketpair", 0, EQUAL, AF_UNIX, hit=ALLOW, miss=ERRNO | errno.ENETUNREACH)
    lines += argument("clone", 0, ANY_BIT, NEW_NAMESPACE, hit=refused, miss=ALLOW)
    lines += argument("prlimit64", 0, EQUAL, 0, hit=ALLOW, miss=refused)  # of itself alone
    lines += argument("kill", 0, EQUAL, EVERYONE, hit=ERRNO | errno.ESRCH, miss=ALLOW)  # a program is alone
    lines += argument("madvise", 2, EQUAL, MADV_PAGEOUT, hit=refused, miss=ALLOW)
    lines += argument("setsockopt", 2, EQUAL, *SOCKET_BUFFERS, hit=refused, miss=ALLOW)
    both = [(ANY_BIT, 0, 1, MAP_ANONYMOUS), (ANY_BIT, 1, 0, MAP_SHARED), (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, refused)]
    lines += [(EQUAL, 0, 5, ARGUED["mmap"][place]), (LOAD, 0, 0, argument_at + 8 * 3), *both]
    # clone3 has its flags in memory, where no filter sees them: libraries fall back to clone.
    for first, last in _runs(allowed_numbers(name)):
        lines += [(AT_LEAST, 0, 2, first), (GREATER, 1, 0, last), (RETURN, 0, 0, ALLOW)]
    return [*lines, (RETURN, 0, 0, ERRNO | errno.ENOSYS)]


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Sorted numbers as (first, last) of each stretch without a gap."""
    breaks = [i for i, (a, b) in enumerate(pairwise(numbers), 1) if b != a + 1]
    return [(numbers[a], numbers[b - 1]) for a, b in pairwise([0, *breaks, len(numbers)])]


def close_in() -> None:
    """Leave the user's session keyring, and allow this process and its children nothing but the calls above.

    Raises:
        OSError: the kernel has no such filter, or no_new_privs is not set.
    """
    name = machine()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(KEYCTL[name], JOIN_SESSION_KEYRING, None)  # where it fails the filter still keeps every key ring away
    lines = instructions(name)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))

    class KernelFilter(ctypes.Structure):  # struct sock_fprog of Linux
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    kernel_filter = KernelFilter(len(lines), ctypes.addressof(code))
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(kernel_filter), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel takes no filter of system calls (seccomp)")
