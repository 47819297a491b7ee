"""Kinds of mistakes beyond one expression, on whole snippets; and what every proposal keeps to."""

from __future__ import annotations

import ast
import itertools

import pytest

from lathe.mend.operators.clues import Clues
from lathe.mend.operators.filewords import FileWords
from lathe.mend.operators.interfaces import interface_of, interfaces_of_method
from lathe.mend.operators.likelihood import COST
from lathe.mend.operators.propose import Proposer, propose
from lathe.mend.operators.registry import Edit, Site
from lathe.mend.operators.vocabulary import Scope, Vocabulary, module_of
from lathe.mend.source import SourceFile

# mistake: (the code, what the repaired code contains)
SNIPPETS = {
    "guard with a fitting answer": (
        "def f(a) -> str:\n    b = a.x\n    return b.y\n",
        '    b = a.x\n    if not b:\n        return ""\n    return b.y\n',
    ),
    "guard before the first statement": ("def f(n):\n    return f(n - 1)\n", "    if n == 0:\n        return 1\n"),
    "early return of a parameter": ("def f(a):\n    return f(a[1:])\n", "    if len(a) <= 1:\n        return a\n"),
    "raise for a bad argument": ("def f(n):\n    return g(n)\n", "    if n < 0:\n        raise ValueError\n"),
    "leave a loop early": (
        "def f(a, b):\n    for x in a:\n        g(x)\n    return b\n",
        "        if x in b:\n            continue\n        g(x)\n",
    ),
    "statement under a condition": ("def f(a, b):\n    g(a)\n    return b\n", "    if a is not None:\n        g(a)\n"),
    "conjunct dropped": ("def f(a, b, c):\n    if a and b and c:\n        g()\n", "if a and c:"),
    "conjunct from names": ("def f(a, i):\n    while a[i] > 0:\n        i += 1\n", "while a[i] > 0 and i < len(a):"),
    "missing else": (
        "def f(a):\n    if a:\n        b = 1\n    b = 2\n    return b\n",
        "    if a:\n        b = 1\n    else:\n        b = 2\n",
    ),
    "else with a return": ("def f(a):\n    if a:\n        return 1\n", "    else:\n        return 0\n"),
    "surplus else of a loop": (
        "def f(a):\n    for x in a:\n        if x:\n            return 1\n    else:\n        g()\n    return 2\n",
        "            return 1\n    g()\n    return 2\n",
    ),
    "else of the loop": (
        "def f(a):\n    for x in a:\n        if x:\n            return 1\n        else:\n            return 0\n",
        "            return 1\n    else:\n        return 0\n",
    ),
    "exception in a tuple": (
        "def f():\n    try:\n        g()\n    except KeyError:\n        h()\n",
        "except (KeyError, ValueError):",
    ),
    "exception of the project": (
        "class Missing(LookupError): ...\ndef f():\n    raise KeyError\n",
        "raise Missing",
    ),
    "returned for raised": ("def f():\n    return ValueError('a')\n", "raise ValueError('a')"),
    "missing handler": (
        "def f(a):\n    for x in a:\n        y = int(x)\n        g(y)\n",
        "        try:\n            y = int(x)\n        except ValueError:\n            continue\n        g(y)\n",
    ),
    "handler that swallows": (
        "def f():\n    try:\n        g()\n    except KeyError:\n        pass\n",
        "KeyError:\n        raise\n",
    ),
    "slice from a name": ("def f(a, n):\n    return a[:]\n", "a[n:]"),
    "slice the other way": ("def f(a, n):\n    return a[:n]\n", "a[n:]"),
    "range from one": ("def f(n):\n    return [i for i in range(n)]\n", "range(1, n + 1)"),
    "range backwards": ("def f(n):\n    for i in range(n):\n        g(i)\n", "range(n - 1, -1, -1)"),
    "range from a name": (
        "def f(n):\n    for i in range(n):\n        for j in range(n):\n            g(i, j)\n",
        "for j in range(i + 1, n):",
    ),
    "statement moved up": (
        "def f(a):\n    g(a)\n    h(a)\n    i(a)\n    a.x = 1\n",
        "def f(a):\n    a.x = 1\n    g(a)\n    h(a)\n    i(a)\n",
    ),
    "rest of a loop behind it": (
        "def f(a):\n    for x in a:\n        g(x)\n        h(x)\n        i(x)\n    return a\n",
        "        g(x)\n    h(x)\n    i(x)\n    return a\n",
    ),
    "first of a loop before it": (
        "def f(a):\n    for x in a:\n        t = 0\n        t += x\n    return t\n",
        "    t = 0\n    for x in a:\n        t += x\n",
    ),
    "into the next block": (
        "def f(a):\n    t = 0\n    for x in a:\n        t += x\n",
        "    for x in a:\n        t = 0\n        t += x\n",
    ),
    "return into the inner block": (
        "def f(a):\n    for x in a:\n        if x:\n            g(x)\n        return x\n",
        "            g(x)\n            return x\n",
    ),
    "statement with another name": (
        "def f(a, b):\n    out = []\n    out.append(a)\n    return out\n",
        "    out.append(a)\n    out.append(b)\n    return out\n",
    ),
    "method without self": ("class A:\n    def f(n):\n        return n\n", "def f(self, n):"),
    "static method": ("class A:\n    def f(n):\n        return n\n", "    @staticmethod\n    def f(n):\n"),
    "property": ("class A:\n    def n(self):\n        return 1\n", "    @property\n    def n(self):\n"),
    "misspelt init": ("class A:\n    def _init_(self):\n        self.a = 1\n", "def __init__(self):"),
    "missing super": (
        "class A(B):\n    def __init__(self, a):\n        self.a = a\n",
        "        super().__init__(a)\n        self.a = a\n",
    ),
    "self on an assignment": ("class A:\n    x = 0\n    def f(self, n):\n        x = n\n", "self.x = n"),
    "missing import of a module": ("import os\n\ndef f(a):\n    return json.dumps(a)\n", "import os\nimport json\n"),
    "missing import of a member": (
        '"""Doc."""\n\ndef f():\n    return defaultdict(list)\n',
        '"""Doc."""\nfrom collections import defaultdict\n',
    ),
    "missing import for an annotation": ("def f(a: List[int]):\n    return a\n", "from typing import List\ndef f"),
    "misspelt name": ("def f(values):\n    return sum(value)\n", "sum(values)"),
    "misspelt builtin": ("def f(a):\n    return sortd(a)\n", "sorted(a)"),
    "misspelt method": ("def f(a):\n    a.apend(1)\n", "a.append(1)"),
    "missing global": ("n = 0\ndef f():\n    n += 1\n", "    global n\n    n += 1\n"),
    "missing nonlocal": (
        "def f():\n    n = 0\n    def g():\n        n += 1\n    return g\n",
        "        nonlocal n\n        n += 1\n",
    ),
    "none for a mutable": (
        "def f(a=None):\n    a.append(1)\n    return a\n",
        "    if a is None:\n        a = []\n    a.append(1)\n",
    ),
    "default that is wrong": ("def f(a, n=0):\n    return a[n]\n", "def f(a, n=None):"),
    "late binding": ("def f():\n    return [lambda: i for i in range(3)]\n", "lambda i=i: i"),
    "f prefix with an attribute": ("def f(a):\n    return '{a.name}!'\n", "return f'{a.name}!'"),
    "surplus f prefix": ("def f(a):\n    return f'{a}'\n", "return '{a}'"),
    "field of an f-string": ("def f(a, b):\n    return f'<{a}>'\n", "f'<{b}>'"),
    "specification": ("def f(a):\n    return f'{a:.1f}'\n", "f'{a:.2f}'"),
    "fields exchanged": ("def f(a, b):\n    return f'{a}-{b}'\n", "f'{b}-{a}'"),
    "placeholder": ("def f(a):\n    return '%d' % a\n", "'%s' % a"),
    "order of placeholders": ("def f(a, b):\n    return '{} {}'.format(a, b)\n", "'{1} {0}'.format(a, b)"),
    "separator": ("def f(a):\n    return ' '.join(a)\n", "''.join(a)"),
    "missing strip": ("def f(a):\n    return a == 'x'\n", "a.strip() == 'x'"),
    "case on both sides": ("def f(a, b):\n    return a == b\n", "a.lower() == b.lower()"),
    "raw pattern": ("import re\ndef f(a):\n    return re.match('\\\\bx', a)\n", "re.match(r'\\\\bx', a)"),
    "anchor of a pattern": ("import re\ndef f(a):\n    return re.match('x+', a)\n", "re.match('x+$', a)"),
    "escape without its backslash": ("def f(a):\n    return a.split('n')\n", "a.split('\\n')"),
    "quotes inside": ("def f(a):\n    return '\"' + a\n", '"\'" + a'),
    "bytes for text": ("def f(a):\n    return a.startswith('x')\n", "startswith(b'x')"),
    "text for bytes": ("def f(a):\n    return a.encode()\n", "return a\n"),
    "decoded by str": ("def f(a):\n    return str(a)\n", "a.decode()"),
    "numbers joined": ("def f(a):\n    return ','.join(a)\n", "','.join(map(str, a))"),
    "index for get": ("def f(d, k):\n    return d[k]\n", "d.get(k, 0)"),
    "get for index": ("def f(d, k):\n    return d.get(k)\n", "d[k]"),
    "is for ==": ("def f(a, b):\n    return a is b\n", "a == b"),
    "integer division": ("def f(a, b):\n    return a / b\n", "a // b"),
    "augmented where it must not": ("def f(a, b):\n    a += b\n    return a\n", "a = a + b"),
    "=+ for +=": ("def f(a, b):\n    a =+ b\n    return a\n", "a += b"),
    "element of a comprehension": ("def f(a):\n    return [x for x in a]\n", "[x[0] for x in a]"),
    "filter of a comprehension": ("def f(a, b):\n    return [x for x in a]\n", "[x for x in a if x not in b]"),
    "clauses exchanged": ("def f(a):\n    return [y for y in x for x in a]\n", "[y for x in a for y in x]"),
    "generator for list": ("def f(a):\n    return (x for x in a)\n", "[x for x in a]"),
    "yield for return": ("def f(a):\n    return a\n", "yield a"),
    "yield for append": ("def f(a):\n    out = []\n    out.append(a)\n", "yield a"),
    "copy": ("def f(a):\n    b = a\n    b.append(1)\n", "b = a[:]"),
    "rows that are one": ("def f(n):\n    return [[0] * n] * n\n", "[[0] * n for _ in range(n)]"),
    "key of a sort": ("def f(a):\n    return sorted(a, key=lambda x: x[0])\n", "key=lambda x: x[1]"),
    "descending key": ("def f(a):\n    return sorted(a, key=lambda x: x[1])\n", "key=lambda x: -x[1]"),
    "start of enumerate": ("def f(a):\n    return list(enumerate(a))\n", "enumerate(a, 1)"),
    "order of zip": ("def f(a, b):\n    return dict(zip(a, b))\n", "zip(b, a)"),
    "unpacked in the wrong order": ("def f(d):\n    return [k for v, k in d.items()]\n", "for k, v in d.items()"),
    "recursion without a step": ("def f(n):\n    return n * f(n)\n", "f(n - 1)"),
    "recursion into a part": ("def f(node):\n    g(node.left)\n    return f(node)\n", "return f(node.left)"),
    "recursion that is missing": (
        "def f(n):\n    if n > 3:\n        return n\n    x = f(n - 1)\n    return 1\n",
        "return 1 + f(n - 1)",
    ),
    "one in brackets": ("def f(a):\n    return a\n", "return (a,)"),
    "two for one": ("def f(a, b):\n    return a\n", "return a, b"),
    "initial value": (
        "def f(a):\n    best = 0\n    for x in a:\n        best = max(best, x)\n    return best\n",
        'best = float("-inf")',
    ),
    "initial element": (
        "def f(a):\n    best = 0\n    for x in a:\n        best = max(best, x)\n    return best\n",
        "best = a[0]",
    ),
    "return for break": (
        "def f(a):\n    for x in a:\n        if x:\n            return None\n        g(x)\n",
        "            break\n",
    ),
    "sorted in place": ("def f(a):\n    return a.sort()\n", "return sorted(a)"),
    "result of append": ("def f(a):\n    a = a.append(1)\n    return a\n", "    a.append(1)\n"),
    "result thrown away": ("def f(a, b):\n    a + b\n    return a\n", "    a += b\n"),
    "called in a statement": ("def f(a):\n    a.close\n", "a.close()"),
    "star": ("def f(a):\n    return g(a)\n", "g(*a)"),
    "super for self": ("class A(B):\n    def f(self):\n        return self.f()\n", "return super().f()"),
    "or with a value": ("def f(a):\n    return a == 1 or 2\n", "a in (1, 2)"),
    "floating point": ("def f(a, b):\n    return a == b\n", "abs(a - b) < 1e-9"),
    "exchanged values": ("def f(a):\n    a.x = 1\n    a.y = 2\n", "    a.x = 2\n    a.y = 1\n"),
    "simultaneous": ("def f(a, b):\n    a = b\n    b = a\n", "a, b = b, a"),
    "the same everywhere": (
        "def f(a, i):\n    if a[i]:\n        return a[i] + 1\n    return 0\n",
        "    if a[i - 1]:\n        return a[i - 1] + 1\n",
    ),
    "keyword of a builtin": ("def f(a):\n    return sorted(a, revers=True)\n", "sorted(a, reverse=True)"),
    "keyword of the library": (
        "import json\ndef f(a):\n    return json.dumps(a, indents=2)\n",
        "json.dumps(a, indent=2)",
    ),
    "keyword of a method": ("def f(a):\n    return a.split(',', maxsplits=1)\n", "maxsplit=1"),
    "required argument": ("import math\ndef f(x, y):\n    return math.pow(x)\n", "math.pow(x, y)"),
    "argument by keyword": ("def f(a):\n    return sorted(a, len)\n", "sorted(a, key=len)"),
    "choice": ("def f(a, b):\n    return a if b else 0\n", "return a\n"),
    "either": ("def f(a, b):\n    return a or b\n", "a if a is not None else b"),
    "filter that is surplus": ("def f(a):\n    return [x for x in a if x]\n", "[x for x in a]"),
    "element that is surplus": ("def f(a, b):\n    return [a, b]\n", "return [a]"),
    "other attribute": ("def f(a, b):\n    return a.cost + b.tax\n", "a.tax + b.tax"),
    "order of branches": (
        "def f(a, b):\n    if a:\n        g()\n    elif b:\n        h()\n",
        "    if b:\n        h()\n    elif a:\n        g()\n",
    ),
    "the wrong way round": (
        "def f(a):\n    for x in a:\n        if x:\n            return True\n    return False\n",
        "            return False\n    return True\n",
    ),
    "exchanged in a statement": ("def f(a, b, i):\n    a[i] = b[i] + 1\n", "b[i] = a[i] + 1"),
    "part of a list": ("def f(a, b):\n    c = [b]\n    return [x for x in a]\n", "return c + [x for x in a]"),
    "extended": ("def f(a, b):\n    a.extend(b)\n    return a\n", "    a = b\n"),
    "bounds of an index": ("def f(a, i):\n    if a[i]:\n        g()\n", "if i < len(a) and a[i]:"),
    "misspelt text": (
        "def f(a):\n    return a.get('widht')\n\n\ndef g(width):\n    return width\n",
        "a.get('width')",
    ),
    "raised text": ("def f(a):\n    raise f'no {a}'\n", "raise ValueError(f'no {a}')"),
    "value for a place": (
        "def f(a, b):\n    return '%s of %s' % (b,)\n\n\ndef g(a):\n    return a.name.upper()\n",
        "% (a.name.upper(), b,)",
    ),
    "attribute of the file": (
        "import m\ndef f(a):\n    return m.new(a)\n\n\ndef g(a):\n    return m.Kind.old(a)\n",
        "m.Kind.new(a)",
    ),
    "method with its argument": (
        "class A:\n    def f(self, b):\n        return not self\n\n    def g(self, b):\n        return self.same(b)\n",
        "not self.same(b)",
    ),
    "argument of the class": (
        "class A:\n    def f(self, b):\n        return b.meet()\n\n    def g(self):\n        return len(self.all)\n",
        "b.meet(self.all)",
    ),
    "condition on what is in it": (
        "class A:\n    def f(self, b):\n        if self.all is not None:\n            g()\n",
        "if self.all is not None and b not in self.all:",
    ),
    "default of something": ("def f(a, b):\n    b[''] = 1\n", "b[a or '']"),
    "nested helper": (
        "def f(a):\n    def safe(b):\n        return b or '-'\n\n    return [a[0], safe(a[1])]\n",
        "[safe(a[0]), safe(a[1])]",
    ),
    "the same on both sides": (
        "class A:\n    def f(self, b):\n        return b == b\n\n    def g(self):\n        return self.a + 1\n",
        "return self.a == b",
    ),
    "base class of the file": (
        "import m\nclass A(m.B):\n    def f(self):\n        m.f(self)\n",
        "m.B.f(self)",
    ),
    "default against its annotation": ("def f(a: str | None = True):\n    return a\n", "a: str | None = None"),
    "text with one side": ("def f(a):\n    return '_of'.join(a)\n", "'_of_'.join(a)"),
    "self for another": ("class A:\n    def f(self, b):\n        return b.x\n", "return self.x"),
    "async for": ("async def f(a):\n    for x in a:\n        g(x)\n", "async for x in a:"),
    "unread parameter as an argument": (
        "def f(a, sep):\n    return g(a)\ndef g(a, sep=None):\n    return a\n",
        "return g(a, sep=sep)",
    ),
    "unread parameter in a condition": ("def f(a, strict):\n    if a:\n        g(a)\n", "if a and strict:"),
    "unread parameter stored": ("class A:\n    def __init__(self, size):\n        self.a = []\n", "self.size = size"),
    "unread parameter returned early": (
        "def f(a, raw):\n    b = g(a)\n    return b\n",
        "    if raw:\n        return a\n    return b\n",
    ),
    "unread parameter in a choice": (
        "class A:\n    def f(self, key):\n        return self.key\n",
        "return self.key if key is None else key",
    ),
    "keyword of its own name": ("def f(a, size):\n    return g(size=a, b=size)\n", "g(size=size, b=size)"),
    "attribute of its own name": (
        "class A:\n    def __init__(self, a, size):\n        self.a = size\n",
        "self.a = a",
    ),
    "iterator of the class": ("class A:\n    def __iter__(self):\n        return self.x.y\n", "return iter(self.x.y)"),
    "type beside a type": ("def f(a):\n    return a is str and a.x\n", "return type(a) is str and a.x"),
    "step of the class": (
        "class A:\n    def reset(self):\n        self.n = 0\n    def f(self, a):\n        return a\n",
        "        self.reset()\n        return a\n",
    ),
    "number of a placeholder": ("def f(a, b):\n    return '{!r} {1!s}'.format(a, b)\n", "'{0!r} {1!s}'"),
    "unfinished placeholder": ("def f(a, b):\n    return 'over %s > %' % (a, b)\n", "'over %s > %s'"),
    "attribute that may be missing": (
        "class A:\n    def f(self, a):\n        if a not in self.known:\n            return a\n",
        "if self.known is not None and a not in self.known:",
    ),
    "member that is called elsewhere": (
        "import itertools\ndef f(a):\n    return itertools.chain.from_iterable(a)\n"
        "def g(b):\n    return itertools.chain\n",
        "return itertools.chain.from_iterable(b)",
    ),
    "unread import called": ("from html import escape\ndef f(a):\n    return '<b>' + a\n", "'<b>' + escape(a)"),
    "unread helper of the class": (
        "class A:\n    def _clean(self, a):\n        return a\n    def f(self, a):\n        return a.b\n",
        "return self._clean(a.b)",
    ),
    "call by the names of parameters": (
        "class A:\n    def g(self, key, value):\n        return key\n"
        "    def f(self, key, value):\n        return self\n",
        "return self.g(key, value)",
    ),
    "call with the value for the parameter that is left": (
        "def wrap(text, width):\n    return text\ndef f(a, width):\n    return a.b\n",
        "return wrap(a.b, width)",
    ),
    "module for its member": ("import io\ndef f(a):\n    return isinstance(a, io)\n", "isinstance(a, io.IOBase)"),
    "constant of the module": (
        "LIMIT = 3\ndef f(a, b):\n    return a.size > b\n",
        "return a.size > LIMIT",
    ),
    "call that stands elsewhere in the file": (
        "import re\ndef f(a):\n    return re.escape(a)\ndef g(b):\n    return b.x or b.y\n",
        "return re.escape(b.x or b.y)",
    ),
    "truth where presence is meant": ("def f(a):\n    if not a.step:\n        return 1\n", "if a.step is None:"),
    "truth where absence is meant": ("def f(a, b):\n    if a and b.x:\n        return 1\n", "b.x is not None"),
    "kind of a value": (
        "def f(a):\n    return isinstance(a, dict)\ndef g(b):\n    if b:\n        h(b)\n",
        "if not isinstance(b, dict) and b:",
    ),
    "block without a deed": (
        "def f(a, out):\n    for x in a:\n        if x:\n            pass\n        else:\n            out.append(a)\n",
        "        if x:\n            out.append(x)\n",
    ),
    "value that is not passed on": (
        "def f(path):\n    if path.x:\n        pass\n    return path\n",
        "        path = path[2:]\n",
    ),
    "state of the class": (
        "class A:\n    def __init__(self):\n        self.done = False\n    def f(self, a):\n        return a\n",
        "        self.done = True\n        return a\n",
    ),
    "attribute that nobody sets": (
        "class A:\n    def __init__(self):\n        self.a = 1\n    def f(self):\n        return self.b\n",
        "        self.a = 1\n        self.b = None\n",
    ),
    "answer by two parameters": ("def power(a, b):\n    return\n", "return a ** b"),
    "answer of the class": (
        "class A:\n    def f(self):\n        return list(self.x)\n    def g(self):\n        return\n",
        "def g(self):\n        return list(self.x)",
    ),
    "what is there already": (
        "def f(a, b):\n    c = g(a)\n    return c\n",
        "    if b is not None:\n        return b\n    return c\n",
    ),
    "await of asyncio": ("import asyncio\nasync def f():\n    asyncio.sleep(1)\n", "await asyncio.sleep(1)"),
}


# mistake: (the code, messages of failing tests, texts in them, what the repaired code contains)
TOLD = {
    "argument by its name": (
        "def g(a, b):\n    return a\ndef f(a, b):\n    return g(a)\n",
        ["TypeError: g() missing 1 required positional argument: 'b'"],
        [],
        "return g(a, b)",
    ),
    "argument before keywords": (
        "def f(obj, **more):\n    return dumps(**more)\n",
        ["TypeError: dumps() missing 1 required positional argument: 'o'"],
        [],
        "return dumps(obj, **more)",
    ),
    "argument of a constructor": (
        "class A:\n    def __init__(self, a, b):\n        self.b = b\ndef f(x, b):\n    return A(x)\n",
        ["TypeError: A.__init__() missing 1 required positional argument: 'b'"],
        [],
        "return A(x, b)",
    ),
    "argument of the language": (
        "def g(b):\n    return b.tokens\ndef f(b):\n    return len() > 1\n",
        ["TypeError: len() takes exactly one argument (0 given)"],
        [],
        "return len(b.tokens) > 1",
    ),
    "kind that is asked": (
        "def f(a):\n    return isinstance(a)\n",
        ["TypeError: isinstance expected 2 arguments, got 1"],
        [],
        "isinstance(a, dict)",
    ),
    "error that nobody raises": (
        "def f(a, b):\n    c = g(a)\n    return c\n",
        ["Failed: DID NOT RAISE <class 'TypeError'>"],
        [],
        "    if a is None:\n        raise TypeError\n    c = g(a)\n",
    ),
    "error of the project that nobody raises": (
        "class Bad(ValueError): ...\ndef h(x):\n    raise Bad('no')\ndef f(a):\n    pass\n",
        ["AssertionError: Bad not raised"],
        [],
        "def f(a):\n    raise Bad('no')\n",
    ),
    "error that is not caught": (
        "def f(a):\n    try:\n        g(a)\n    except KeyError:\n        return 1\n",
        ["IndexError: list index out of range"],
        [],
        "except (KeyError, IndexError):",
    ),
    "error that should be another": (
        "def f(a):\n    raise OSError(a)\n",
        ["OSError: 1"],
        [],
        "raise ValueError(a)",
    ),
    "attribute by the message": (
        "class A:\n    def __init__(self, limit):\n        self.a = 1\n    def f(self):\n        return self.limit\n",
        ["AttributeError: 'A' object has no attribute 'limit'"],
        [],
        "self.limit = limit",
    ),
    "key by the message": ("def f():\n    return {'a': 0}\n", ["KeyError: 'b'"], [], "{'a': 0, 'b': 0}"),
    "text of a test": (
        "def f():\n    raise ValueError('mpty query')\n",
        [],
        ["Empty query was asked"],
        "'Empty query'",
    ),
    "text of a test in other case": ("def f():\n    return 'sORRY, nO'\n", [], ["Sorry, No"], "'Sorry, No'"),
}


def _edits(text: str) -> list[Edit]:
    source = SourceFile("m.py", text)
    return list(propose(source, Vocabulary([source]), lambda node: True))


def _told(text: str, errors: list[str], texts: list[str]) -> list[Edit]:
    source = SourceFile("m.py", text)
    return list(propose(source, Vocabulary([source], Clues.of(errors, texts)), lambda node: True))


def _repairs(text: str) -> list[str]:
    return [text[: edit.start] + edit.text + text[edit.end :] for edit in _edits(text)]


@pytest.mark.parametrize("name", SNIPPETS)
def test_a_mistake_has_its_repair_among_the_edits(name: str) -> None:
    text, wanted = SNIPPETS[name]
    assert wanted not in text
    found = [repaired for repaired in _repairs(text) if wanted in repaired]
    assert found, f"{wanted!r} is not proposed"
    ast.parse(found[0])


@pytest.mark.parametrize("name", TOLD)
def test_what_a_failing_test_asks_for_is_among_the_first_edits(name: str) -> None:
    text, errors, texts, wanted = TOLD[name]
    assert wanted not in text
    edits = sorted(_told(text, errors, texts), key=lambda edit: edit.cost)
    repaired = [text[: edit.start] + edit.text + text[edit.end :] for edit in edits]
    found = [place for place, one in enumerate(repaired) if wanted in one]
    assert found, f"{wanted!r} is not proposed"
    assert found[0] < 200


def test_edits_of_a_statement_come_in_the_order_of_their_cost_and_each_once() -> None:
    text = "def f(a, b):\n    for x in a:\n        if x > b and x.y:\n            g(x, b)\n    return b\n"
    source = SourceFile("m.py", text)
    proposer = Proposer(source, Vocabulary([source]))
    for statement in (node for node in ast.walk(source.tree) if isinstance(node, ast.stmt)):
        edits = list(proposer.edits(statement))
        assert [edit.cost for edit in edits] == sorted(edit.cost for edit in edits)
        assert len({edit[:3] for edit in edits}) == len(edits)


def test_no_edit_is_cheaper_than_its_kind() -> None:
    edits = [edit for text, _ in SNIPPETS.values() for edit in _edits(text)]
    edits += [edit for text, errors, texts, _ in TOLD.values() for edit in _told(text, errors, texts)]
    assert all(edit.cost >= COST[edit.kind] for edit in edits)
    assert {edit.kind for edit in edits} <= COST.keys()


def test_every_kind_of_mistake_in_the_table_is_proposed_somewhere() -> None:
    seen = {edit.kind for text, _ in SNIPPETS.values() for edit in _edits(text)}
    seen |= {edit.kind for text, errors, texts, _ in TOLD.values() for edit in _told(text, errors, texts)}
    assert COST.keys() - seen <= {"donated statement", "wrong exception", "delegation", "grouping"}


def test_drawing_the_first_edit_does_not_make_the_unlikely_ones() -> None:
    text = "def f(a, b, c):\n    while a < b:\n        a += c\n    return a\n"
    source = SourceFile("m.py", text)
    proposer = Proposer(source, Vocabulary([source]))
    loop = source.tree.body[0].body[0]  # type: ignore[attr-defined]
    first = list(itertools.islice(proposer.edits(loop), 3))
    assert any(edit.text == "<=" for edit in first)
    assert all(edit.cost < COST["missing guard"] for edit in first)


def test_crlf_and_tabs_are_kept_in_what_is_put_in() -> None:
    text = "def f(a):\r\n\tfor x in a:\r\n\t\tg(x)\r\n\treturn f(a[1:])\r\n"
    repairs = _repairs(text)
    assert "def f(a):\r\n\tif not a:\r\n\t\treturn []\r\n\tfor x in a:\r\n\t\tg(x)\r\n\treturn f(a[1:])\r\n" in repairs
    assert "def f(a):\r\n\tfor x in a:\r\n\t\tg(x)\r\n\t\treturn f(a[1:])\r\n" in repairs
    for repaired in repairs:
        assert "\n" not in repaired.replace("\r\n", "")


def test_decorated_and_nested_functions_and_long_statements_are_edited_in_place() -> None:
    text = (
        "@cache  # once\n"
        "def outer(n):\n"
        "    def inner(m):\n"
        "        return g(\n"
        "            m,  # first\n"
        "            n,\n"
        "        )\n"
        "    return inner\n"
    )
    repairs = _repairs(text)
    assert text.replace("m,  # first\n            n,", "n,  # first\n            m,") in repairs
    assert text.replace("            n,\n", "            n - 1,\n") in repairs


def test_parentheses_are_put_only_where_they_are_needed() -> None:
    repairs = _repairs("def f(a, i):\n    while i < len(a):\n        i = 2 * i\n    return a\n")
    assert any("while i < len(a) - 1:" in repaired for repaired in repairs)
    assert any("i = 2 * (i + 1)" in repaired for repaired in repairs)


def test_a_donor_comes_from_another_function_of_the_project_with_names_that_are_known_here() -> None:
    other = SourceFile(
        "shop/other.py",
        "def total_prices(items):\n    total = 0\n    for item in items:\n"
        "        total += item.price * item.count\n    return total\n",
    )
    here = SourceFile(
        "shop/here.py", "def sum_prices(items):\n    total = 0\n    for one in items:\n        pass\n    return total\n"
    )
    edits = propose(here, Vocabulary([here, other]), lambda node: True)
    assert any(edit.text.strip() == "total += one.price * one.count" for edit in edits)


def test_a_symbol_of_the_project_is_imported_from_its_module() -> None:
    there = SourceFile("src/shop/prices.py", "def total(a):\n    return sum(a)\n")
    here = SourceFile("src/shop/cart.py", "from .other import x\n\n\ndef f(a):\n    return total(a)\n")
    texts = {edit.text for edit in propose(here, Vocabulary([here, there]), lambda node: True)}
    assert "from .prices import total\n" in texts
    assert module_of("src/shop/prices.py") == "shop.prices"
    assert module_of("shop/__init__.py") == "shop"


def test_names_that_only_a_comprehension_binds_are_not_offered_outside_it() -> None:
    source = SourceFile("m.py", "def f(a):\n    b = [x for x in a]\n    return b\n")
    function = source.tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    scope, vocabulary = Scope(source, function), Vocabulary([source])
    site = Site(source, function.body[1], scope, FileWords(source), vocabulary)
    assert site.names == ["a", "b"]


def test_f_strings_are_edited_where_the_tree_says_where_they_are_and_nowhere_else() -> None:
    text = "def f(a, b):\n    return (\n        f'{a + 1} and '\n        f'{b[0]}'\n    )\n"
    broken = 0
    for repaired in _repairs(text):
        try:
            ast.parse(repaired)
        except SyntaxError:
            broken += 1
    assert broken == 0


def test_nearly_every_edit_is_python() -> None:
    broken, edits = 0, 0
    for text, _ in SNIPPETS.values():
        for repaired in _repairs(text):
            edits += 1
            try:
                ast.parse(repaired)
            except SyntaxError:
                broken += 1
    assert edits > 20_000
    assert broken <= edits // 100


def test_interfaces_are_read_from_what_is_installed_and_never_from_modules_that_act_on_import() -> None:
    dumps = interface_of("json.dumps")
    assert dumps is not None
    assert "indent" in dumps.keywords
    assert dumps.required == 1
    assert interface_of("antigravity.fly") is None
    assert interface_of("no_such_module.f") is None
    assert any("maxsplit" in interface.keywords for interface in interfaces_of_method("split"))
