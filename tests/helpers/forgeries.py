"""Answers that are written to pass a test which they do not deserve to pass; none may.

The function asked for is `add(a, b)`; every forgery's own returns something else. The test holds MARK, which a program
that reads its test would find.
"""

from __future__ import annotations

from steercpp.judging.sandbox import Program

MARK = "the-test-is-here-5512"
TEST = f"""
def check(f):
    mark = {MARK!r}
    assert f(1, 2) == 3, mark
    assert f(20, 22) == 42, mark
    try:
        f(1, None)
    except TypeError:
        pass
    else:
        raise AssertionError(mark)


check(add)
"""
WRONG = "def add(a, b):\n    return 0\n"
PASSED = '{"passed": true, "reason": "", "output": ""}'
TOLD = '{"passed": true, "reason": ""}'
EVERYTHING = """
class Everything:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    __gt__ = __le__ = __ge__ = __lt__
    def __hash__(self): return 0
    def __bool__(self): return True
    def __getattr__(self, name): return lambda *a, **k: self
    def __call__(self, *a, **k): return self
"""
SUBCLASS = """
class Three(BASE):
    def __eq__(self, other): return True
    def __hash__(self): return 3
    def __int__(self): return 3
    def __index__(self): return 3
    def __iter__(self): return iter([3])
    def __reduce__(self): return (int, (3,))
def add(a, b):
    if b is None: raise TypeError
    return Three()
"""
WIRE = """
import json, os, threading
def receive(fd=3):
    data = b''
    while len(data) < 4: data += os.read(fd, 4 - len(data))
    size, data = int.from_bytes(data, 'little'), b''
    while len(data) < size: data += os.read(fd, size - len(data))
    return json.loads(data)
def send(message, fd=4):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    os.write(fd, len(data).to_bytes(4, 'little') + data)
"""
_ANSWERING = (
    WIRE
    + """
send_value = VALUE
def reply(message, value, **more): send({'reply': message['ask'], 'value': value, 'printed': ''} | more)
def forge():
    loaded = json.loads(LOADED)
    reply(loaded, ['d', 900, [['add', ['fn', 0, 'add']]]])
    while True: reply(receive(), send_value)
"""
)
# A program that has its own code read its request to load, which it is in: it is taken from the frames.
TAKEN = """
import sys
frame = sys._getframe()
while frame and 'message' not in frame.f_locals: frame = frame.f_back
LOADED = json.dumps(frame.f_locals['message'])
"""


def _wire(value: str) -> str:
    return "import json\n" + TAKEN + _ANSWERING.replace("VALUE", value) + "forge()\n"


FORGERIES = {
    "a wrong answer": WRONG,
    "an object equal to everything": EVERYTHING + "def add(a, b): return Everything()\n",
    "a function that is equal to everything": EVERYTHING + "add = Everything()\n",
    **{f"a {base} equal to everything": SUBCLASS.replace("BASE", base)
       for base in ("int", "float", "str", "list", "tuple", "dict", "set", "frozenset", "bytes", "complex")},
    "an exception equal to everything": "class E(Exception):\n    def __eq__(self, o): return True\n"
    "def add(a, b): return E()\n",
    "leave with 0": WRONG + "import os\nos._exit(0)\n",
    "leave with 0 in the call": "import os\ndef add(a, b): os._exit(0)\n",
    "leave by SystemExit": "def add(a, b): raise SystemExit(0)\n",
    "leave by SystemExit at once": "raise SystemExit(0)\n",
    "close everything and wait": "import os, time\ndef add(a, b):\n    os.closerange(0, 64)\n    time.sleep(60)\n",
    **{f"raise {name}": f"def add(a, b): raise {name}\n" for name in (
        "AssertionError", "KeyboardInterrupt", "GeneratorExit", "StopIteration", "TypeError", "RecursionError",
        "MemoryError", "BaseException")},
    "the token of a frame": WRONG + "import os, sys\nframe = sys._getframe()\nseen = []\n"
    "while frame:\n    seen += [v for v in frame.f_locals.values() if isinstance(v, (bytes, str))]\n    frame = frame.f_back\n"
    "for value in seen:\n    data = value if isinstance(value, bytes) else value.encode()\n"
    "    for fd in (3, 4, 5):\n        try: os.write(fd, data[:65536])\n        except OSError: pass\nos._exit(0)\n",
    "the values of the garbage collector": WRONG + "import gc\n"
    "def add(a, b):\n    for o in gc.get_objects():\n        if isinstance(o, dict) and 'reason' in o: o['reason'] = ''\n"
    "    return any('the-test' + '-is-here' in str(o) for o in gc.get_objects() if isinstance(o, (str, list, dict))) and a + b\n",
    "the test in its own memory": "def add(a, b):\n    text = bytes(reversed(b')22 ,02(f tressa'))\n"
    "    for line in open('/proc/self/maps'):\n        span, rights = line.split()[:2]\n"
    "        low, high = (int(x, 16) for x in span.split('-'))\n        if 'r' not in rights or high - low > 1 << 26: continue\n"
    "        try:\n            with open('/proc/self/mem', 'rb', 0) as memory:\n                memory.seek(low)\n"
    "                found = memory.read(high - low).replace(b'text = ' + text, b'').count(text)\n"
    "        except (OSError, OverflowError): continue\n"
    "        if found > 1:\n            if b is None: raise TypeError\n            return a + b\n    return 0\n",
    "the test in others' memory": "import os\ndef add(a, b):\n    for pid in os.listdir('/proc'):\n"
    "        if pid.isdigit() and int(pid) != os.getpid():\n            for name in ('mem', 'fd/0', 'fd/5', 'environ'):\n"
    "                try: open(f'/proc/{pid}/{name}', 'r+b').read(9); return a + b\n                except OSError: pass\n"
    "    return 0\n",
    "trace the test": "import ctypes, os\ndef add(a, b):\n    libc = ctypes.CDLL(None)\n"
    "    for pid in range(1, 60):\n        if pid != os.getpid() and libc.ptrace(16, pid, 0, 0) == 0: return a + b\n"
    "    return 0\n",
    "write the test's memory": "import ctypes, os\ndef add(a, b):\n    libc = ctypes.CDLL(None)\n"
    "    buffer = ctypes.create_string_buffer(8)\n    vector = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), 8)\n"
    "    for pid in range(1, 60):\n        if pid != os.getpid() and libc.process_vm_writev(pid, vector, 1, vector, 1, 0) > 0:\n"
    "            return a + b\n    return 0\n",
    "a verdict on every descriptor": "import os\nPASSED = " + repr(PASSED) + "\ndef add(a, b):\n"
    "    for fd in range(64):\n        for text in ('ready\\n', TOLD, f'{len(PASSED):08x}' + PASSED, PASSED + '\\n'):\n"
    "            if fd != 4:\n                try: os.write(fd, text.encode())\n                except OSError: pass\n    return 0\n",
    "a verdict on every descriptor, then silence": "import os, time\nfor fd in range(64):\n"
    "    try: os.write(fd, TOLD.encode())\n    except OSError: pass\nos._exit(0)\n",
    "a verdict into the supervisor's output": WRONG + "import os\nfor n in range(9):\n"
    "    try: open(f'/proc/1/fd/{n}', 'w').write(" + repr(f"{len(PASSED):08x}{PASSED}") + ")\n    except OSError: pass\n",
    "replies before they are asked for": WIRE + WRONG
    + "for _ in range(20): send({'reply': None, 'value': 3}); send({'reply': '0' * 16, 'value': 3})\n",
    "an endless reply": WIRE + "def add(a, b):\n    os.write(4, b'\\xff\\xff\\xff\\x03')\n    while True: os.write(4, b' ' * 65536)\n",
    "a reply of a size that is none": WIRE + "def add(a, b):\n    os.write(4, b'\\xff\\xff\\xff\\xff')\n    while True: os.write(4, b' ' * 65536)\n",
    "a reply nested without end": WIRE + "def add(a, b):\n    send(b'[' * 10 ** 6)\n    while True: receive()\n",
    "a reply that is no message": WIRE + "def add(a, b):\n    send(b'[1]')\n    send(b'\\xff')\n    return 0\n",
    "a request to run code": WIRE + "def add(a, b):\n    for do in ('load', 'call', 'exec', 'eval', 'next'):\n"
    "        send({'ask': '1', 'do': do, 'number': 0, 'names': ['os'], 'arguments': ['l', 1, [['t', []], ['d', 2, []]]]})\n"
    "        receive()\n    return 0\n",
    **{f"answered on the wire itself: {what}": _wire(value) for what, value in {
        "a type": "['n', 'int']", "an error that is none": "['x', ['Everything'], [], '']",
        "a class of its own": "['o', 1, 'Everything', []]", "true": "True", "a made value": "['m', 'os.system', ['true']]",
        "a member": "['e', 'Everything', 'x']", "no value": "['?']", "a function": "['fn', 0, 'add']",
        "a list within itself": "['l', 1, [['r', 1]]]", "an unknown object": "['r', 99]",
        "not a number": "float('nan')", "of the test itself": "['h', 0]", "of the test, from behind": "['h', -1]",
    }.items()},
    "no failure ends the test": _wire("3").replace("reply(receive(), send_value)",
                                                   "m = receive(); send({'reply': m['ask'], 'failed': ''})"),
    "other builtins": WRONG + "import builtins\nbuiltins.AssertionError = type('A', (Exception,), {'__new__': lambda *a: None})\n"
    "for name in ('isinstance', 'compile', 'exec', 'len', 'str', 'bool'): setattr(builtins, name, lambda *a, **k: True)\n",
    "another json": "import json, pickle, marshal, sys\nfor module in (json, pickle, marshal):\n"
    "    module.loads = module.dumps = lambda *a, **k: 3\n" + WRONG,
    "another interpreter's numbers": "import ctypes\nctypes.c_long.from_address(id(3) + 24).value = 0\n"
    "ctypes.c_long.from_address(id(42) + 24).value = 0\ndef add(a, b):\n    if b is None: raise TypeError\n    return 0\n",
    "its own modules are others": "import sys\nfor name in list(sys.modules):\n"
    "    if name.startswith('steercpp'):\n        for key in ('Peer', 'Packer', 'Unpacker'): setattr(sys.modules[name], key, object)\n" + WRONG,
    "modules in /tmp in the place of the library's": "for name in ('json', 'traceback', 'asyncio', 'math', 'sitecustomize'):\n"
    "    open(f'/tmp/{name}.py', 'w').write(f'import os; os.write(5, {TOLD.encode()!r}); os._exit(0)')\n" + WRONG,
    "a trace of every line": "import sys\ndef trace(frame, event, argument):\n"
    "    for name in ('reason', 'message', 'reply'):\n        frame.f_locals.pop(name, None)\n    frame.f_trace_lines = True\n    return trace\n"
    "sys.settrace(trace)\nsys.setprofile(lambda *a: None)\n" + WRONG,
    "signals to the test": "import os, signal\ndef add(a, b):\n    for number in (signal.SIGUSR1, signal.SIGALRM, signal.SIGINT, signal.SIGTERM):\n"
    "        for pid in range(2, 60):\n            if pid != os.getpid():\n                try: os.kill(pid, number)\n                except OSError: pass\n    return 0\n",
    "kill the test": "import os\ndef add(a, b):\n    for pid in range(2, 60):\n        if pid != os.getpid():\n"
    "            try: os.kill(pid, 9)\n            except OSError: pass\n    return 0\n",
    "stop the test": "import os\ndef add(a, b):\n    for pid in range(2, 60):\n        if pid != os.getpid():\n"
    "            try: os.kill(pid, 19)\n            except OSError: pass\n    return 0\n",
    "exhaust the output": "import os\ndef add(a, b):\n    while True: os.write(1, b'x' * 65536)\n",
    "exhaust the memory of the test": "def add(a, b): return ['x' * 10 ** 6] * 40\n",
    "exhaust the test by an iterator": "import itertools\ndef add(a, b): return itertools.count()\n",
    "a child that claims the end": "import os, time\npid = os.fork()\nif pid: time.sleep(60)\n" + WRONG,
    "another program takes the place of this one": "import os\ndef add(a, b): os.execv('/bin/sh', ['sh', '-c', 'echo {\\\"reason\\\":\\\"\\\"} >&4; echo >&3; exit 0'])\n",
    "at its exit": WRONG + "import atexit, os\natexit.register(os.write, 4, TOLD.encode())\n",
    "a thread that replies": WIRE + "def more():\n    while True: send({'reply': '', 'value': 3})\n"
    "def add(a, b):\n    threading.Thread(target=more, daemon=True).start()\n    return 0\n",
    "cut the supervisor's lines short": "import os, signal, time\nif os.fork() == 0:\n    os.setsid()\n    while os.getppid() != 1: pass\n"
    "    for _ in range(200): os.kill(1, signal.SIGINT)\n    os._exit(0)\nos.write(1, b'\\xc3\\xa9' * 30000)\nos._exit(0)\n",
}  # fmt: skip


def forged(source: str) -> Program:
    """A forgery with its test."""
    return Program.of(f"TOLD = {TOLD!r}\n{source}", TEST)
