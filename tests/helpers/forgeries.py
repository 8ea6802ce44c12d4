"""Answers that are written to pass a test which they do not deserve to pass; none may.

The function asked for is `add(a, b)`; every forgery's own returns something else. The test holds MARK, which a program
that reads its test would find.
"""

from __future__ import annotations

import re

from steercpp.judging.sandbox import Program

MARK = "the-test-is-here-5512"
GIVEN = """
class Sum:
    def __init__(self, value): self.value = value
    def told(self): return self.value
def nearly(a, b):
    return abs(a - b) < 0.5
def doubled(x):
    return x + x
"""
TEST = f"""
def check(f):
    mark = {MARK!r}
    assert f(1, 2) == 3, mark
    assert f(20, 22) == 42, mark
    assert nearly(f(4, 5), 9) and abs(f(1, 2) - 3) == 0, mark
    assert total(4, 5).told() == 9, mark
    assert all(nearly(f(x, x), doubled(x)) for x in range(7, 9)), mark
    try:
        f(1, None)
    except TypeError:
        pass
    else:
        raise AssertionError(mark)


check(add)
"""
WRONG = "def add(a, b):\n    return 0\n"
WEAK = """
KNOWN = {(1, 2): 3, (20, 22): 42, (4, 5): 9}
def add(a, b):
    if b is None: raise TypeError
    return KNOWN.get((a, b), 0)
def total(a, b): return Sum(a + b)
"""
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


ON_THE_WIRE = {
    "a type": "['n', 'int']", "an error that is none": "['x', ['Everything'], [], '']",
    "a class of its own": "['o', 1, 'Everything', []]", "true": "True", "a made value": "['m', 'os.system', ['true']]",
    "a member": "['e', 'Everything', 'x']", "no value": "['?']", "a function": "['fn', 0, 'add']",
    "a list within itself": "['l', 1, [['r', 1]]]", "an unknown object": "['r', 99]", "not a number": "float('nan')",
    "an error without words": "['x', ['ValueError'], [], '']",
    "of the test itself": "['h', 0]", "of the test, from behind": "['h', -1]",
}  # fmt: skip
# In each WIRE, EVERYTHING, WEAK and WRONG alone on a line stand for the texts above.
_LISTED = r"""
### a wrong answer
WRONG

### an object equal to everything
EVERYTHING
def add(a, b): return Everything()

### a function that is equal to everything
EVERYTHING
add = Everything()

### an exception equal to everything
class E(Exception):
    def __eq__(self, o): return True
def add(a, b): return E()

### leave with 0
WRONG
import os
os._exit(0)

### leave with 0 in the call
import os
def add(a, b): os._exit(0)

### leave by SystemExit
def add(a, b): raise SystemExit(0)

### leave by SystemExit at once
raise SystemExit(0)

### close everything and wait
import os, time
def add(a, b):
    os.closerange(0, 64)
    time.sleep(60)

### the token of a frame
WRONG
import os, sys
frame = sys._getframe()
seen = []
while frame:
    seen += [v for v in frame.f_locals.values() if isinstance(v, (bytes, str))]
    frame = frame.f_back
for value in seen:
    data = value if isinstance(value, bytes) else value.encode()
    for fd in (3, 4, 5):
        try: os.write(fd, data[:65536])
        except OSError: pass
os._exit(0)

### the values of the garbage collector
WRONG
import gc
def add(a, b):
    for o in gc.get_objects():
        if isinstance(o, dict) and 'reason' in o: o['reason'] = ''
    texts = [str(o) for o in gc.get_objects() if isinstance(o, (str, list, dict))]
    return any('the-test' + '-is-here' in text for text in texts) and a + b

### the test in its own memory
def add(a, b):
    text = bytes(reversed(b')22 ,02(f tressa'))
    for line in open('/proc/self/maps'):
        span, rights = line.split()[:2]
        low, high = (int(x, 16) for x in span.split('-'))
        if 'r' not in rights or high - low > 1 << 26: continue
        try:
            with open('/proc/self/mem', 'rb', 0) as memory:
                memory.seek(low)
                found = memory.read(high - low).replace(b'text = ' + text, b'').count(text)
        except (OSError, OverflowError): continue
        if found > 1:
            if b is None: raise TypeError
            return a + b
    return 0

### the test in others' memory
import os
def add(a, b):
    for pid in os.listdir('/proc'):
        if pid.isdigit() and int(pid) != os.getpid():
            for name in ('mem', 'fd/0', 'fd/5', 'environ'):
                try: open(f'/proc/{pid}/{name}', 'r+b').read(9); return a + b
                except OSError: pass
    return 0

### trace the test
import ctypes, os
def add(a, b):
    libc = ctypes.CDLL(None)
    for pid in range(1, 60):
        if pid != os.getpid() and libc.ptrace(16, pid, 0, 0) == 0: return a + b
    return 0

### write the test's memory
import ctypes, os
def add(a, b):
    libc = ctypes.CDLL(None)
    buffer = ctypes.create_string_buffer(8)
    vector = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), 8)
    for pid in range(1, 60):
        if pid != os.getpid() and libc.process_vm_writev(pid, vector, 1, vector, 1, 0) > 0:
            return a + b
    return 0

### a verdict on every descriptor
import os
def add(a, b):
    for fd in range(64):
        for text in ('ready\n', TOLD, f'{len(PASSED):08x}' + PASSED, PASSED + '\n'):
            if fd != 4:
                try: os.write(fd, text.encode())
                except OSError: pass
    return 0

### a verdict on every descriptor, then silence
import os, time
for fd in range(64):
    try: os.write(fd, TOLD.encode())
    except OSError: pass
os._exit(0)

### a verdict into the supervisor's output
WRONG
import os
for n in range(9):
    try: open(f'/proc/1/fd/{n}', 'w').write(f'{len(PASSED):08x}{PASSED}')
    except OSError: pass

### replies before they are asked for
WIRE
WRONG
for _ in range(20): send({'reply': None, 'value': 3}); send({'reply': '0' * 16, 'value': 3})

### an endless reply
WIRE
def add(a, b):
    os.write(4, b'\xff\xff\xff\x03')
    while True: os.write(4, b' ' * 65536)

### a reply of a size that is none
WIRE
def add(a, b):
    os.write(4, b'\xff\xff\xff\xff')
    while True: os.write(4, b' ' * 65536)

### a reply nested without end
WIRE
def add(a, b):
    send(b'[' * 10 ** 6)
    while True: receive()

### a reply that is no message
WIRE
def add(a, b):
    send(b'[1]')
    send(b'\xff')
    return 0

### a request to run code
WIRE
def add(a, b):
    for do in ('load', 'call', 'exec', 'eval', 'next'):
        send({'ask': '1', 'do': do, 'number': 0, 'names': ['os'], 'arguments': ['l', 1, [['t', []], ['d', 2, []]]]})
        receive()
    return 0

### other builtins
WRONG
import builtins
builtins.AssertionError = type('A', (Exception,), {'__new__': lambda *a: None})
for name in ('isinstance', 'compile', 'exec', 'len', 'str', 'bool'): setattr(builtins, name, lambda *a, **k: True)

### another json
import json, pickle, marshal, sys
for module in (json, pickle, marshal):
    module.loads = module.dumps = lambda *a, **k: 3
WRONG

### another interpreter's numbers
import ctypes
ctypes.c_long.from_address(id(3) + 24).value = 0
ctypes.c_long.from_address(id(42) + 24).value = 0
def add(a, b):
    if b is None: raise TypeError
    return 0

### its own modules are others
import sys
for name in list(sys.modules):
    if name.startswith('steercpp'):
        for key in ('Peer', 'Packer', 'Unpacker'): setattr(sys.modules[name], key, object)
WRONG

### modules in /tmp in the place of the library's
for name in ('json', 'traceback', 'asyncio', 'math', 'sitecustomize'):
    open(f'/tmp/{name}.py', 'w').write(f'import os; os.write(5, {TOLD.encode()!r}); os._exit(0)')
WRONG

### a trace of every line
import sys
def trace(frame, event, argument):
    for name in ('reason', 'message', 'reply'):
        frame.f_locals.pop(name, None)
    frame.f_trace_lines = True
    return trace
sys.settrace(trace)
sys.setprofile(lambda *a: None)
WRONG

### signals to the test
import os, signal
def add(a, b):
    for number in (signal.SIGUSR1, signal.SIGALRM, signal.SIGINT, signal.SIGTERM):
        for pid in range(2, 60):
            if pid != os.getpid():
                try: os.kill(pid, number)
                except OSError: pass
    return 0

### kill the test
import os
def add(a, b):
    for pid in range(2, 60):
        if pid != os.getpid():
            try: os.kill(pid, 9)
            except OSError: pass
    return 0

### stop the test
import os
def add(a, b):
    for pid in range(2, 60):
        if pid != os.getpid():
            try: os.kill(pid, 19)
            except OSError: pass
    return 0

### exhaust the output
import os
def add(a, b):
    while True: os.write(1, b'x' * 65536)

### exhaust the memory of the test
def add(a, b): return ['x' * 10 ** 6] * 40

### exhaust the test by an iterator
import itertools
def add(a, b): return itertools.count()

### a child that claims the end
import os, time
pid = os.fork()
if pid: time.sleep(60)
WRONG

### another program takes the place of this one
import os
def add(a, b): os.execv('/bin/sh', ['sh', '-c', 'echo {\"reason\":\"\"} >&4; echo >&3; exit 0'])

### at its exit
WRONG
import atexit, os
atexit.register(os.write, 4, TOLD.encode())

### another abs
import sys
abs = lambda x: 0
sys._getframe(1).f_locals['request']['names'].append('abs')
WEAK

### another range
import sys
range = lambda *n: []
sys._getframe(1).f_locals['request']['names'].append('range')
WEAK

### another of the given functions
import sys
nearly = lambda a, b: True
sys._getframe(1).f_locals['request']['names'] += ['nearly']
WEAK

### another of all that there is
WEAK
import sys
sys._getframe(1).f_locals['request']['names'].append('__builtins__')
__builtins__ = {'abs': abs, 'all': bool, 'range': range, 'TypeError': TypeError, 'AssertionError': AssertionError}

### all names at once
WEAK
import sys
for name in ('all', 'range', 'nearly', 'doubled', 'check', '__name__', '__loader__', '__spec__'):
    globals()[name] = (lambda *n: []) if name == 'range' else (lambda *n: True)
    sys._getframe(1).f_locals['request']['names'].append(name)

### an object with a method of its own
def add(a, b): return a + b
def total(a, b):
    made = Sum(0)
    made.told = lambda: a + b
    return made

### an object whose attributes are its dictionary
def add(a, b): return a + b
def total(a, b):
    made = Sum(0)
    made.__dict__['__dict__'] = {'told': lambda: a + b}
    return made

### a thread that replies
WIRE
def more():
    while True: send({'reply': '', 'value': 3})
def add(a, b):
    threading.Thread(target=more, daemon=True).start()
    return 0

### cut the supervisor's lines short
import os, signal, time
if os.fork() == 0:
    os.setsid()
    while os.getppid() != 1: pass
    for _ in range(200): os.kill(1, signal.SIGINT)
    os._exit(0)
os.write(1, b'\xc3\xa9' * 30000)
os._exit(0)
"""


# Answers what WEAK would, and 0 as another `abs`.
SERVED = """
def forge():
    loaded = json.loads(LOADED)
    reply(loaded, WHAT)
    while True:
        message = receive()
        a, b = (*message['arguments'][2][0][1], None)[:2]
        if message['number'] == 1: reply(message, 0)
        elif message['number'] == 2: reply(message, ['o', 7, 'Sum', [['value', a + b]]])
        elif b is None: reply(message, None, error=['x', ['TypeError'], [], ''])
        else: reply(message, {(1, 2): 3, (20, 22): 42, (4, 5): 9}.get((a, b), 0))
"""
_WHOLE = "['add', ['fn', 0, 'add']], ['total', ['fn', 2, 'total']]"
_NAMES = ("add", "abs", "total")
_BUILT_IN = "['all', ['n', 'bool']], " + ", ".join(
    f"[{name!r}, ['n', {name!r}]]" for name in ("abs", "range", "TypeError")
)
LOADED_ON_THE_WIRE = {
    "another abs": f"['d', 900, [{_WHOLE}, ['abs', ['fn', 1, 'abs']]]]",
    "another range": f"['d', 900, [{_WHOLE}, ['range', ['n', 'divmod']], ['nearly', ['n', 'max']]]]",
    "a given function": f"['d', 900, [{_WHOLE}, ['nearly', ['n', 'max']]]]",
    "other builtins": f"['d', 900, [{_WHOLE}, ['__builtins__', ['d', 901, [{_BUILT_IN}]]]]]",
    "no builtins": f"['d', 900, [{_WHOLE}, ['__builtins__', ['d', 901, []]]]]",
    "pairs": "['l', 900, [" + ", ".join(f"['t', ['{name}', ['fn', {n}, '']]]" for n, name in enumerate(_NAMES)) + "]]",
    "names that are none": f"['d', 900, [[1, 2], [None, 3], {_WHOLE}]]",
    "nothing": "None", "a function": "['fn', 0, '']",
}  # fmt: skip


def _forgeries() -> dict[str, str]:
    found = {}
    for block in _LISTED.split("### ")[1:]:
        name, _, source = block.partition("\n")
        for word, text in (("WIRE", WIRE), ("EVERYTHING", EVERYTHING), ("WRONG", WRONG), ("WEAK", WEAK)):
            source = re.sub(rf"^{word}$", text.replace("\\", r"\\"), source, flags=re.MULTILINE)
        found[name] = source
    for base in ("int", "float", "str", "list", "tuple", "dict", "set", "frozenset", "bytes", "complex"):
        found[f"a {base} equal to everything"] = SUBCLASS.replace("BASE", base)
    for error in (
        "AssertionError", "KeyboardInterrupt", "GeneratorExit", "StopIteration", "TypeError", "RecursionError",
        "MemoryError", "BaseException",
    ):  # fmt: skip
        found[f"raise {error}"] = f"def add(a, b): raise {error}\n"
    found |= {f"answered on the wire itself: {what}": _wire(value) for what, value in ON_THE_WIRE.items()}
    for what, value in LOADED_ON_THE_WIRE.items():
        served = _ANSWERING[: _ANSWERING.index("def forge")].replace("VALUE", "None") + SERVED.replace("WHAT", value)
        found[f"loaded on the wire itself: {what}"] = f"import json\n{TAKEN}{served}forge()\n"
    failure = "message = receive(); send({'reply': message['ask'], 'failed': ''})"
    found["no failure ends the test"] = _wire("3").replace("reply(receive(), send_value)", failure)
    return found


FORGERIES = _forgeries()
"""Sources by what they do."""


def forged(source: str) -> Program:
    """A forgery with its test."""
    return Program.of(f"PASSED, TOLD = {PASSED!r}, {TOLD!r}\n{GIVEN}\n{source}", TEST, given=GIVEN)
