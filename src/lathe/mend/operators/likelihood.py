"""How likely each kind of mistake is, as the cost that the search adds up.

The counts are those of TSSB-3M (C. Richter and H. Wehrheim, "TSSB-3M: Mining single statement bugs at massive scale",
MSR 2022; the table of its repository): fixes, in thousands, of one statement in public Python projects. An operator
offers several edits where history has one, so what counts is the share of a kind divided by the edits it offers at a
typical statement: `cost = 1 + ln(R * choices / thousands) / 2`, with R such that a flipped flag, one edit for 37
thousand fixes, costs 1. ManySStuBs4J (R.-M. Karampatsis and C. Sutton, MSR 2020) has names, called functions, numbers
and missing arguments first in Java too. How a pattern divides among our finer kinds, and how many edits a kind offers,
are estimates. So is all that is more than a statement, which neither counts: ordered after V. Sobreira et al.,
"Dissection of a bug dataset" (SANER 2018), where added calls, conditionals and assignments are the most frequent
actions, and divided by the many choices. A mistake that can be seen in the text alone, as an unknown name or keyword,
has one choice.

None of the figures comes from a repair benchmark.
"""

from __future__ import annotations

import math

# Thousands of fixes in TSSB-3M by pattern.
IDENTIFIER, OPERAND, MORE_ARGS, FUNCTION_NAME, AROUND, ATTRIBUTE, NUMBER = 237, 174, 150, 134, 117, 104, 97
MORE_SPECIFIC_IF, METHOD_CALL, ELEMENTS, LESS_ARGS, FLAG, ACCESS, OPERATOR = 68, 60, 57, 50, 37, 32, 29
CALLER, LESS_SPECIFIC_IF, KEYWORD, UNARY, SWAPPED_ARGS, CONSTANT_TYPE = 25, 22, 20, 15, 8, 6
# Fixes of one token or one statement that fit no pattern, and the shares that texts and statements may have of them.
SINGLE_TOKEN, SINGLE_STATEMENT = 740, 1150
_TEXT, _STATEMENT = SINGLE_TOKEN / 10, SINGLE_STATEMENT / 40

# kind: (thousands of fixes, edits offered at a typical statement)
SHARES: dict[str, tuple[float, float]] = {
    # operators and operands
    "comparison": (OPERATOR, 2), "identity": (OPERATOR / 4, 1), "arithmetic": (OPERATOR, 3),
    "connective": (OPERATOR / 4, 1), "swapped operands": (OPERAND / 10, 3), "surplus operand": (OPERAND / 6, 5),
    "missing operand": (OPERAND / 2, 60), "grouping": (OPERATOR / 3, 4), "accumulation": (OPERATOR / 2, 4),
    "augmented form": (OPERATOR / 6, 3), "running extreme": (AROUND / 20, 2),
    # constants
    "flag": (FLAG, 1), "number": (NUMBER, 6), "off by one": (OPERAND / 2, 16), "sign": (UNARY / 2, 3),
    "constant type": (CONSTANT_TYPE, 4), "missing value": (CONSTANT_TYPE, 3), "initial value": (NUMBER / 5, 5),
    "name for a constant": (IDENTIFIER / 20, 20),
    # conditions
    "negation": (UNARY / 2, 1), "surplus condition": (LESS_SPECIFIC_IF, 3), "missing condition": (MORE_SPECIFIC_IF, 40),
    "surplus guard": (LESS_SPECIFIC_IF / 2, 3), "missing check": (MORE_SPECIFIC_IF, 16),
    "loosened condition": (LESS_SPECIFIC_IF, 30), "other condition": (MORE_SPECIFIC_IF / 6, 20),
    "constant condition": (MORE_SPECIFIC_IF / 30, 4), "swapped branches": (OPERATOR / 6, 1),
    "surplus choice": (LESS_SPECIFIC_IF / 3, 2), "missing choice": (MORE_SPECIFIC_IF / 4, 30),
    "truth for presence": (MORE_SPECIFIC_IF / 6, 2), "precedence": (OPERATOR / 4, 2),
    "type check": (OPERATOR / 4, 3), "inexact comparison": (OPERATOR / 6, 4),
    # names and attributes
    "wrong variable": (IDENTIFIER, 22), "wrong name": (IDENTIFIER / 4, 12), "wrong function": (FUNCTION_NAME, 8),
    "wrong attribute": (ATTRIBUTE, 20), "other attribute": (ATTRIBUTE / 4, 60), "surplus attribute": (ACCESS / 2, 4),
    "missing attribute": (ACCESS, 30), "missing self": (ACCESS / 2, 1), "unknown name": (IDENTIFIER / 10, 1),
    "other expression": (OPERAND / 2, 60), "same operands": (OPERAND / 12, 0.5), "wrong target": (IDENTIFIER / 8, 10),
    "exchanged names": (IDENTIFIER / 30, 4), "unread name": (IDENTIFIER / 4, 24), "known constant": (OPERAND / 4, 20),
    "own name": (IDENTIFIER / 10, 1),
    # calls
    "argument order": (SWAPPED_ARGS, 1), "surplus argument": (LESS_ARGS, 5), "missing argument": (MORE_ARGS, 8),
    "other argument": (MORE_ARGS / 2, 40), "wrong keyword": (KEYWORD, 3), "unknown keyword": (KEYWORD, 1),
    "wrong caller": (CALLER, 6), "surplus call": (AROUND / 5, 5), "missing call": (AROUND, 40),
    "missing method": (METHOD_CALL, 30), "call of a known name": (METHOD_CALL / 3, 1),
    "missing limit": (AROUND / 12, 12),
    "helper": (AROUND / 3, 12), "missing await": (SINGLE_STATEMENT / 100, 1), "order": (MORE_ARGS / 20, 4),
    "sort key": (MORE_ARGS / 20, 12), "lookup": (FUNCTION_NAME / 10, 3), "copy": (METHOD_CALL / 6, 6),
    "asked argument": (MORE_ARGS / 4, 3), "built call": (METHOD_CALL / 2, 30), "bare module": (ACCESS / 4, 2),
    "known call": (AROUND / 3, 40),
    "start of counting": (MORE_ARGS / 30, 2), "recursion": (OPERAND / 8, 6),
    # sequences, loops and results
    "swapped indices": (SWAPPED_ARGS, 2), "surplus index": (ACCESS / 3, 3), "missing index": (ACCESS, 30),
    "index for a slice": (NUMBER / 10, 4), "slice bounds": (NUMBER / 4, 10), "range": (NUMBER / 4, 10),
    "iteration": (AROUND / 10, 10), "missing element": (ELEMENTS, 20), "surplus element": (ELEMENTS / 3, 3),
    "unfilled place": (ELEMENTS / 4, 3),
    "brackets": (ELEMENTS / 6, 4), "other container": (CONSTANT_TYPE, 3), "surplus filter": (LESS_SPECIFIC_IF / 3, 1),
    "missing filter": (MORE_SPECIFIC_IF / 5, 12), "lazy or whole": (CONSTANT_TYPE, 2), "element": (OPERAND / 12, 20),
    "delegation": (OPERATOR / 6, 1), "yield for return": (OPERATOR / 6, 2), "unpacking": (ELEMENTS / 8, 2),
    # texts
    "missing f prefix": (_TEXT / 4, 1), "prefix": (_TEXT / 15, 2), "separator": (_TEXT / 4, 8),
    "wrong text": (_TEXT, 40), "format": (_TEXT / 4, 8), "placeholder": (_TEXT / 6, 4), "escape": (_TEXT / 12, 2),
    "bytes or text": (_TEXT / 8, 4), "misspelt text": (_TEXT / 3, 1), "raised text": (AROUND / 20, 0.3),
    # definitions
    "mutable default": (_STATEMENT, 1), "missing import": (_STATEMENT, 1), "missing global": (_STATEMENT / 3, 1),
    "wrong default": (NUMBER / 8, 8), "mistyped default": (NUMBER / 8, 1), "missing decorator": (_STATEMENT / 6, 3),
    "missing parameter": (MORE_ARGS / 20, 1),
    # statements
    "surplus statement": (_STATEMENT, 14), "statement order": (_STATEMENT / 6, 4),
    "moved statement": (_STATEMENT / 6, 8),
    "nesting": (_STATEMENT / 3, 5), "missing statement": (_STATEMENT * 3, 500), "donated statement": (_STATEMENT, 500),
    "missing step": (_STATEMENT, 60), "missing base case": (_STATEMENT, 90), "missing guard": (_STATEMENT * 2, 150),
    "missing return": (_STATEMENT / 2, 3), "lost result": (_STATEMENT / 4, 1), "wrong result": (IDENTIFIER / 4, 30),
    "missing else": (_STATEMENT / 4, 5), "branching": (_STATEMENT / 6, 3), "wrong jump": (OPERATOR / 4, 3),
    "unexpected exception": (IDENTIFIER / 8, 5),
    "wrong exception": (IDENTIFIER / 8, 12), "missing handler": (_STATEMENT, 120), "exception form": (OPERATOR / 4, 3),
    "unset attribute": (_STATEMENT, 6), "asked key": (ELEMENTS / 4, 6), "asked text": (_TEXT / 3, 2),
    "asked error": (_STATEMENT * 2, 12), "empty block": (_STATEMENT, 12), "missing state": (_STATEMENT, 60),
    "missing super call": (_STATEMENT / 8, 2),
}  # fmt: skip
_SCALE = 0.5
COST = {
    kind: round(max(1.0, 1 + _SCALE * math.log(FLAG * choices / thousands)), 2)
    for kind, (thousands, choices) in SHARES.items()
}
