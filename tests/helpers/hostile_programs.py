"""Programs that attack their sandbox, each with what it tries and what must come of it.

Each comes to its end without an error only where its attack has worked, so a pass is an escape. `reason` is a pattern
of the reason for which it must fail, where more than failing is asked. What a program must know of the machine outside
stands in capitals and is filled in by `filled`: HOME, a file there; PORT, where somebody listens; ABSTRACT, a socket's
name; HOLDER, a process with SECRET in its environment; KERNEL, the kernel's command line; NODE, the machine's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PRELUDE = """
import ctypes, errno, os, resource, signal, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
ARM = os.uname().machine == "aarch64"
def call(x86, arm, *arguments):
    if x86 is None or ARM and arm is None: raise OSError(errno.ENOSYS, "no such call on this machine")
    ctypes.set_errno(0)
    result = libc.syscall(arm if ARM else x86, *arguments)
    if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def libcall(name, *arguments):
    ctypes.set_errno(0)
    result = getattr(libc, name)(*arguments)
    if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
"""
GONE = r"(FileNotFoundError|PermissionError|NotADirectoryError|OSError|ProcessLookupError)"
NO_CALL = r"(OSError: \[Errno 38\]|PermissionError)"
STOPPED = r"stopped after"


@dataclass(frozen=True)
class Hostile:
    """One program."""

    tries: str
    source: str
    reason: str = ""

    def filled(self, facts: dict[str, str]) -> str:
        """Its text with facts in the place of their names."""
        source = re.sub(r"\b(HOME|PORT|ABSTRACT|HOLDER|SECRET|KERNEL|NODE)\b", lambda m: facts[m[0]], self.source)
        return PRELUDE + source


def _writes(path: str) -> str:
    return f"with open({path!r}, 'w') as file: file.write('x')"


def _reads(path: str) -> str:
    return f"assert open({path!r}, 'rb').read(1)"


def _both(x86: int | None, arm: int | None, *arguments: object) -> str:
    return f"call({x86}, {arm}, {', '.join(map(str, arguments))})"


PROGRAMS = (
    # files
    Hostile("write to home", "with open('HOME', 'w') as file: file.write('x')", GONE),
    Hostile("read a file of home", "open('HOME').read()", GONE),
    Hostile("write to /", _writes("/escaped"), GONE),
    Hostile("write to /usr", _writes("/usr/escaped"), GONE),
    Hostile("write to /bin", _writes("/bin/escaped"), GONE),
    Hostile("write to /etc", _writes("/etc/escaped"), GONE),
    Hostile("write to /dev", _writes("/dev/escaped"), GONE),
    Hostile("write to /dev/shm", _writes("/dev/shm/escaped"), GONE),
    Hostile("change the standard library", "with open(os.__file__, 'a') as file: file.write('x')", GONE),
    Hostile("plant compiled code beside the standard library",
            "os.makedirs(os.path.dirname(os.__file__) + '/__pycache__', exist_ok=True)\n"
            "with open(os.path.dirname(os.__file__) + '/__pycache__/x.pyc', 'w') as file: file.write('x')", GONE),
    Hostile("read the users", _reads("/etc/passwd"), GONE),
    Hostile("follow a link to home", "os.symlink('HOME', 'link')\nopen('link').read()", GONE),
    Hostile("climb by ..", "open('../' * 30 + 'HOME'[1:]).read()", GONE),
    Hostile("reach the root of process 1", "open('/proc/1/root' + 'HOME').read()", GONE),
    Hostile("reach the folder of process 1", "assert os.listdir('/proc/1/cwd')", GONE),
    Hostile("reach the root before pivot_root", "os.listdir('/old')", GONE),
    Hostile("open by handle", _both(304, 265, -100, "struct.pack('IIQ', 8, 1, 2)", 0), NO_CALL),
    Hostile("chroot", "os.mkdir('jail')\nos.chroot('jail')", NO_CALL),
    Hostile("make a device", "os.mknod('disk', 0o60600, os.makedev(8, 0))", GONE),
    Hostile("open a device of the machine",
            "names = [n for n in ('mem', 'kmsg', 'sda', 'vda', 'kvm', 'fuse', 'net/tun', 'loop0', 'tty', 'vsock')\n"
            "         if os.path.exists('/dev/' + n)]\nassert names", "AssertionError"),
    Hostile("unmount", "libcall('umount2', b'/usr', 2)", NO_CALL),
    Hostile("remount the root", "libcall('mount', b'none', b'/', None, 32 | 4096, None)", NO_CALL),
    Hostile("mount /proc anew", "os.mkdir('p')\nlibcall('mount', b'proc', b'p', b'proc', 0, None)", NO_CALL),
    Hostile("bind a folder", "os.mkdir('b')\nlibcall('mount', b'/usr', b'b', None, 4096, None)", NO_CALL),
    Hostile("mount by fsopen", _both(430, 430, "b'tmpfs'", 0), NO_CALL),
    Hostile("clone a mount by open_tree", _both(428, 428, -100, "b'/'", 1), NO_CALL),
    Hostile("pivot_root", _both(155, 41, "b'/tmp'", "b'/tmp'"), NO_CALL),
    Hostile("link the interpreter into /tmp", "os.link(os.path.realpath(sys.executable), 'copy')", GONE),
    Hostile("give a program to another user", "open('s', 'w').close()\nos.chown('s', 1, 1)\nos.chmod('s', 0o4755)",
            r"(PermissionError|OSError)"),
    Hostile("use packages", "import numpy", "ModuleNotFoundError"),
    # network
    Hostile("connect by TCP", "socket.create_connection(('127.0.0.1', PORT), 2)", r"(OSError|ConnectionRefused)"),
    Hostile("send by UDP", "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))",
            "OSError"),
    Hostile("connect by IPv6", "socket.socket(socket.AF_INET6).connect(('::1', PORT))", "OSError"),
    Hostile("listen", "socket.create_server(('127.0.0.1', 0))", "OSError"),
    Hostile("talk to the kernel by netlink", "socket.socket(16, socket.SOCK_RAW, 0)", "OSError"),
    Hostile("reach the host by vsock", "socket.socket(40, socket.SOCK_STREAM)", "OSError"),
    Hostile("raw packets", "socket.socket(17, socket.SOCK_RAW)", "(OSError|PermissionError)"),
    Hostile("the kernel's cryptography", "socket.socket(38, socket.SOCK_SEQPACKET)", "OSError"),
    Hostile("other families of sockets",
            "made = []\nfor family in range(2, 46):\n    for kind in (1, 2, 3, 5):\n"
            "        try: made.append(socket.socket(family, kind))\n        except OSError: pass\nassert made",
            "AssertionError"),
    Hostile("other families of socket pairs",
            "made = []\nfor family in range(2, 46):\n    try: made.append(socket.socketpair(family))\n"
            "    except OSError: pass\nassert made", "AssertionError"),
    Hostile("an abstract socket of the machine", "socket.socket(socket.AF_UNIX).connect('\\0' + 'ABSTRACT')",
            r"(ConnectionRefusedError|OSError)"),
    Hostile("a socket of the machine's services",
            "found = False\nfor path in ('/run/docker.sock', '/var/run/docker.sock', '/run/dbus/system_bus_socket',\n"
            "             '/run/systemd/private', '/tmp/.X11-unix/X0'):\n"
            "    found |= os.path.exists(path)\nassert found",
            "AssertionError"),
    # processes
    Hostile("kill a process of the machine", "os.kill(HOLDER, 9)", "ProcessLookupError"),
    Hostile("kill everyone", "os.kill(-1, 9)", "ProcessLookupError"),
    Hostile("kill the supervisor", "for n in range(1, 65):\n    if n not in (32, 33): os.kill(1, n)\ntime.sleep(0.2)\n"
            "assert os.getppid() != 1", "AssertionError"),
    Hostile("stop its test", "for pid in range(2, 60):\n    if pid != os.getpid():\n"
            "        try: os.kill(pid, signal.SIGSTOP)\n        except OSError: pass", STOPPED),
    Hostile("kill its test", "for pid in range(2, 60):\n    if pid != os.getpid():\n"
            "        try: os.kill(pid, signal.SIGKILL)\n        except OSError: pass", "its test was killed"),
    Hostile("trace the supervisor", _both(101, 117, 16, 1, 0, 0), NO_CALL),
    Hostile("trace its test", "for pid in range(2, 60):\n    try: call(101, 117, 16, pid, 0, 0); break\n"
            "    except OSError: pass\nelse: raise OSError('none')", "OSError: none"),
    Hostile("let itself be traced", _both(101, 117, 0, 0, 0, 0), NO_CALL),
    Hostile("read the supervisor's memory by call", "b = ctypes.create_string_buffer(16)\n"
            "v = (ctypes.c_uint64 * 2)(ctypes.addressof(b), 16)\ncall(310, 270, 1, v, 1, v, 1, 0)", NO_CALL),
    Hostile("write another's memory by call", "b = ctypes.create_string_buffer(16)\n"
            "v = (ctypes.c_uint64 * 2)(ctypes.addressof(b), 16)\nfor pid in range(1, 60):\n"
            "    if pid == os.getpid(): continue\n    try: call(311, 271, pid, v, 1, v, 1, 0); break\n"
            "    except OSError: pass\nelse: raise OSError('none')", "OSError: none"),
    Hostile("open the supervisor's memory", "open('/proc/1/mem', 'r+b')", GONE),
    Hostile("open others' memory, files and environment",
            "found = []\nfor pid in os.listdir('/proc'):\n    if pid.isdigit() and int(pid) != os.getpid():\n"
            "        for name in ('mem', 'environ', 'fd/0', 'fd/1', 'maps', 'syscall', 'stack', 'auxv'):\n"
            "            try: found.append(open(f'/proc/{pid}/{name}', 'rb').read(1))\n"
            "            except OSError: pass\nassert any(found)", "AssertionError"),
    Hostile("take a descriptor of the supervisor", "call(438, 438, os.pidfd_open(1), 1, 0)", NO_CALL),
    Hostile("limit the supervisor", "resource.prlimit(1, resource.RLIMIT_NOFILE, (1, 1))", NO_CALL),
    Hostile("compare with the supervisor", _both(312, 272, "os.getpid()", 1, 0, 0, 0), NO_CALL),
    Hostile("see processes of the machine", "os.kill(HOLDER, 0)", "ProcessLookupError"),
    Hostile("find a secret in /proc",
            "import glob\ntext = b''\nfor path in glob.glob('/proc/[0-9]*/*'):\n"
            "    try: text += open(path, 'rb').read()\n    except OSError: pass\n"
            "assert 'SECRET'[::-1].encode() in text", "AssertionError"),
    Hostile("fork without end, counted", "for _ in range(64):\n    if not os.fork(): time.sleep(30)",
            "BlockingIOError"),
    Hostile("threads without end, counted", "import threading\nfor _ in range(64):\n"
            "    threading.Thread(target=time.sleep, args=(30,), daemon=True).start()", "RuntimeError"),
    Hostile("leave a process behind and the output open",
            "if not os.fork():\n    os.setsid()\n    while True: time.sleep(1)\nos._exit(0)", "left before its end"),
    Hostile("run in real time", "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))", NO_CALL),
    Hostile("run before others", "os.setpriority(os.PRIO_PROCESS, 0, -20)", NO_CALL),
    Hostile("never be the one that is killed for memory",
            "with open('/proc/self/oom_score_adj', 'w') as file: file.write('-1000')", r"(PermissionError|OSError)"),
    # rights
    Hostile("become root", "os.setuid(0)", NO_CALL),
    Hostile("become another group", "os.setgroups([0])", NO_CALL),
    Hostile("hold a capability",
            "text = open('/proc/self/status').read()\n"
            "assert any(int(l.split()[1], 16) for l in text.splitlines() if l.startswith('Cap'))", "AssertionError"),
    Hostile("gain rights by execve", "assert 'NoNewPrivs:\\t0' in open('/proc/self/status').read()", "AssertionError"),
    Hostile("run without a filter", "assert 'Seccomp:\\t0' in open('/proc/self/status').read()", "AssertionError"),
    Hostile("a program of root's",
            "import subprocess\nout = [subprocess.run([p, *w], stdin=-3, capture_output=True, text=True).stdout\n"
            "       for p, *w in (('/usr/bin/su', '-c', 'id'), ('/usr/bin/sudo', '-n', 'id')) if os.path.exists(p)]\n"
            "assert 'uid=0' in ''.join(out)", "AssertionError"),
    Hostile("a user namespace by unshare", _both(272, 97, 0x10000000), NO_CALL),
    *(Hostile(f"{name} namespace by unshare", _both(272, 97, flag), NO_CALL) for name, flag in (
        ("a mount", 0x20000), ("a network", 0x40000000), ("a process", 0x20000000), ("an ipc", 0x8000000),
        ("a name", 0x4000000), ("a cgroup", 0x2000000), ("a time", 0x80))),
    Hostile("a user namespace by clone", "if call(56, 220, 0x10000000 | 17, 0, 0, 0, 0) == 0: os._exit(0)", NO_CALL),
    Hostile("a user namespace by clone3",
            "a = (ctypes.c_uint64 * 8)(0x10000000, 0, 0, 0, 17)\nif call(435, 435, a, 64) == 0: os._exit(0)", NO_CALL),
    Hostile("enter the supervisor's namespaces", "call(308, 268, os.pidfd_open(1), 0x20000000)", NO_CALL),
    Hostile("another personality", _both(135, 92, 0x0040000), NO_CALL),
    Hostile("read the user's keys", "call(250, 219, 11, call(249, 218, b'user', b'steercpp-secret', 0, 0), 0, 0)",
            NO_CALL),
    Hostile("plant a key", "for ring in (-1, -2, -3, -4, -5):\n"
            "    call(248, 217, b'user', b'steercpp-planted', b'x', 1, ring)", NO_CALL),
    Hostile("see the user's keys", "assert open('/proc/keys').read() + open('/proc/key-users').read()",
            rf"(AssertionError|{GONE})"),
    # the kernel
    *(Hostile(tries, _both(x86, arm, *arguments), NO_CALL) for tries, x86, arm, arguments in (
        ("load a program into the kernel", 321, 280, (5, "bytes(128)", 128)),
        ("count events of the machine", 298, 241, ("bytes(128)", 0, -1, -1, 0)),
        ("handle page faults", 323, 282, (1,)),
        ("queue calls by io_uring", 425, 425, (4, "ctypes.create_string_buffer(256)")),
        ("load another kernel", 246, 104, (0, 0, 0, 0)),
        ("load a module", 175, 105, ("b''", 0, "b''")),
        ("ports of the machine", 173, None, (0, 1, 1)),
        ("halt the machine", 169, 142, (0, 0, 0, 0)),
        ("swap to a file", 167, 224, ("b'/tmp/s'", 0)),
        ("set the clock", 227, 112, (0, "bytes(16)")),
        ("name the machine", 170, 161, ("b'x'", 1)),
        ("read the kernel's log", 103, 116, (3, "ctypes.create_string_buffer(99)", 99)),
        ("account for processes", 163, 89, ("b'/tmp/a'",)),
        ("watch all files", 300, 262, (0, 0)),
        ("another filter that others answer", 317, 277, (1, 8, 0)),
        ("move another's pages", 279, 239, (1, 1, "(ctypes.c_uint64 * 1)()", 0, 0, 0)),
        ("write back the machine's disks", 162, 81, ()),
        ("tables of 16-bit code", 154, None, (0, "bytes(16)", 16)),
    )),
    Hostile("numbers of the x32 interface", "call(0x40000000 + 39, None)", r"(killed by SIGSYS|OSError)"),
    Hostile("calls of a 32-bit machine",
            "import mmap\nif ARM: raise OSError('arm')\n"
            "m = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 7)\n"
            "m.write(b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3')\n"
            "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()",
            r"(killed by SIGSYS|OSError|killed by SIGSEGV)"),
    Hostile("type into a terminal", "import fcntl\nfcntl.ioctl(0, 0x5412, b'x')", "OSError"),
    Hostile("settings of the kernel", _writes("/proc/sys/kernel/core_pattern"), GONE),
    Hostile("keys of the kernel", _writes("/proc/sysrq-trigger"), GONE),
    Hostile("the machine's name", "assert os.uname().nodename == 'NODE'", "AssertionError"),
    Hostile("the kernel's command line", "assert open('/proc/cmdline').read()", rf"(AssertionError|{GONE})"),
    # memory
    Hostile("10 GB", "bytearray(10 ** 10)", "MemoryError"),
    Hostile("memory of System V", "call(29, 194, 0, 1 << 20, 0o1600)", NO_CALL),
    Hostile("messages of System V", "call(68, 186, 0, 0o1600)", NO_CALL),
    Hostile("semaphores of System V", "call(64, 190, 0, 8, 0o1600)", NO_CALL),
    Hostile("queues of POSIX", "call(240, 180, b'q', 0o102, 0o600, 0)", NO_CALL),
    Hostile("files in memory", "os.memfd_create('x')", NO_CALL),
    Hostile("secret files in memory", "call(447, 447, 0)", NO_CALL),
    Hostile("locked memory", "call(149, 228, ctypes.create_string_buffer(4096), 4096)", NO_CALL),
    Hostile("attributes of files", "open('a', 'w').close()\nos.setxattr('a', 'user.x', b'x' * 60000)", NO_CALL),
    Hostile("shared memory without a file", "import mmap\nmmap.mmap(-1, 4096)", NO_CALL),
    Hostile("shared memory of a device", "import mmap\nmmap.mmap(os.open('/dev/zero', os.O_RDWR), 4096)", GONE),
    Hostile("pages put to swap", "call(28, 233, None, 4096, 21)", NO_CALL),
    Hostile("large buffers of sockets",
            "for s in socket.socketpair():\n    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)", NO_CALL),
    Hostile("buffers of sockets, all that there are",
            "kept, n = [], 0\ntry:\n    while True:\n        kept.extend(socket.socketpair())\n"
            "except OSError: pass\nfor s in kept:\n    s.setblocking(False)\n    try:\n"
            "        while True: n += s.send(bytes(4096))\n    except OSError: pass\nassert n > 48 << 20",
            "AssertionError"),
    Hostile("large pipes", "import fcntl\nfcntl.fcntl(os.pipe()[1], 1031, 1 << 20)", NO_CALL),
    Hostile("a full /tmp", "for i in range(70):\n    with open(f'f{i}', 'wb') as file: file.write(bytes(1 << 20))",
            r"OSError: \[Errno 28\]"),
    Hostile("a file past its limit", "with open('f', 'wb') as file: file.write(bytes(17 << 20))", "OSError"),
    Hostile("files without end", "for i in range(10 ** 7): open(f'f{i}', 'w').close()",
            r"(OSError: \[Errno 28\]|made more than 4096 files)"),
    Hostile("many processes with memory each",
            "for _ in range(4):\n    if not os.fork():\n        block = bytearray(400 << 20)\n        time.sleep(30)\n"
            "block = bytearray(300 << 20)\ntime.sleep(30)",
            r"(took more than|killed by|its test was killed|the sandbox ended)"),
    # output and time
    Hostile("output without end", "while True: print('x' * 10 ** 6)", "printed more than"),
    Hostile("errors without end", "while True: sys.stderr.write('x' * 10 ** 6)", "printed more than"),
    Hostile("an endless loop", "while True: pass", STOPPED),
    Hostile("no signal ends it", "for n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
            "    except (OSError, ValueError): pass\nwhile True: pass", STOPPED),
    Hostile("stopped for ever", "os.kill(os.getpid(), signal.SIGSTOP)", STOPPED),
    # what is known of the machine
    Hostile("the environment", "assert 'SECRET'[::-1] in ''.join(os.environ.values())", "AssertionError"),
    Hostile("more environment than Python's own", "assert set(os.environ) - {'LC_CTYPE'}", "AssertionError"),
    Hostile("something to read", "assert sys.stdin.read()", "AssertionError"),
    Hostile("descriptors of others",
            "links = [os.readlink(f'/proc/self/fd/{n}') for n in (*range(3), *range(5, 64))\n"
            "         if os.path.lexists(f'/proc/self/fd/{n}')]\n"
            "assert any(not l.startswith(('pipe:', '/dev/null', '/proc/')) for l in links)", "AssertionError"),
)  # fmt: skip
