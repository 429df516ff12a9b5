"""Classic little functions in the idioms, with other names and strings each time.

In a recipe {0} to {5} are different names, {c} is a class, {q} a quote, {s} a few words, {r} and {w} are the arguments that
open a file for reading and for writing.
"""

from __future__ import annotations

from sparse_circuits.data.phrases import path_and_mode
from sparse_circuits.data.scribe import QUOTES, Scribe

TRAVERSE = """\
def walk_{0}({0}, {1}):
    {2} = [{1}]
    {3} = set()
    while {2}:
        {4} = {2}.pop()
        if {4} not in {3}:
            {3}.add({4})
            for {5} in {0}[{4}]:
                {2}.append({5})
    return {3}"""

COUNT = """\
def count_{0}({0}):
    {1} = {{}}
    for {2} in {0}:
        if {2} in {1}:
            {1}[{2}] += 1
        else:
            {1}[{2}] = 1
    return {1}"""

JOIN = """\
def join_{0}({0}, {1}={q}{s}{q}):
    {2} = ""
    for {3} in {0}:
        {2} += {1}
        {2} += {3}
    return {2}"""

SORT = """\
def sort_{0}({0}):
    for i in range(len({0})):
        for j in range(len({0})):
            if {0}[i] < {0}[j]:
                {0}[i], {0}[j] = {0}[j], {0}[i]
    return {0}"""

REPORT = """\
def show_{0}({0}, {1}):
    print({q}{s}{q})
    for i, {2} in enumerate({0}):
        if {2} == {1}:
            print(f{q}{s} {{i}} {{{2}}}{q})
        elif {2}:
            print({q}{s}{q})
    return True"""

LOAD = """\
def load_{0}({1}=None):
    {2} = []
    with open({r}) as f:
        for {3} in f:
            {2}.append({3}.split({q} {q}))
    return sorted({2}, key=lambda {4}: {4}[0])"""

SAVE = """\
def save_{0}({0}, {1}):
    with open({w}) as f:
        for {2} in {0}:
            f.write({2} if {1} else {q}{s}{q})
    return True"""

TRANSPOSE = """\
def turn_{0}({0}=None):
    {2} = [[1, 0], [0, 1]]
    for i in range(len({0})):
        for j in range(i):
            {0}[i][j], {0}[j][i] = {0}[j][i], {0}[i][j]
    return {0}"""

QUEUE = """\
class {c}:
    def __init__(self, {0}, {1}=None):
        self.{0} = {0}
        self.{1} = {1}
        self.{2} = []

    def add_{3}(self, {3}):
        if len(self.{2}) == self.{0}:
            raise ValueError({q}{s}{q})
        self.{2}.append({3})

    def move(self):
        {4}, self.{1} = self.{1}, self.{0}
        return self.{2}.pop() if self.{2} else {4}"""

RECIPES = (TRAVERSE, COUNT, JOIN, SORT, REPORT, LOAD, SAVE, TRANSPOSE, QUEUE)


def recipe(s: Scribe) -> list[str]:
    """Write one of the recipes."""
    names = s.names(6)
    files = {"r": path_and_mode(s, is_read=True), "w": path_and_mode(s, is_read=False)}
    text = s.choice(RECIPES).format(*names, c=names[0].capitalize(), q=s.choice(QUOTES), s=s.words(1, 5), **files)
    return text.split("\n")
