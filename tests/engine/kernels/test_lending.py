"""Lending: one thread, one block, and then nothing is left of it."""

from __future__ import annotations

import threading
from types import ModuleType, SimpleNamespace

import pytest

from specvlm.engine.kernels.lending import Borrower


def library() -> ModuleType:
    module = ModuleType("library")
    module.add = lambda x, y=1: x + y  # type: ignore[attr-defined]
    return module


class Registry:
    def find(self, name: str) -> str:
        return f"own {name}"


def test_inside_the_block_the_library_calls_what_was_lent():
    module = library()
    own = module.add
    with Borrower(module, "add").lend(lambda x, y=1: x * y):
        assert (module.add(3), module.add(3, y=4), module.add(3, 5)) == (3, 12, 15)
    assert module.add is own


def test_a_method_that_was_inherited_is_uncovered_again():
    registry = Registry()
    with Borrower(registry, "find").lend(lambda name: f"lent {name}"):
        assert registry.find("x") == "lent x"
        assert Registry().find("x") == "own x"
    assert (registry.find("x"), vars(registry)) == ("own x", {})


def test_blocks_may_be_nested_and_errors_end_them():
    module = library()
    borrower, own = Borrower(module, "add"), module.add
    with borrower.lend(lambda x: "outer"):
        with pytest.raises(ZeroDivisionError), borrower.lend(lambda x: 1 // x):
            module.add(0)
        assert module.add(1) == "outer"
    assert module.add is own


def test_each_thread_has_what_it_was_lent_and_others_the_librarys_own():
    module, found = library(), {}
    borrower, own, inside = Borrower(module, "add"), module.add, threading.Barrier(3)

    def work(name: str, lent: bool) -> None:
        if lent:
            with borrower.lend(lambda x: name):
                inside.wait(10)
                found[name] = module.add(1)
                inside.wait(10)
        else:
            inside.wait(10)
            found[name] = module.add(1)
            inside.wait(10)

    threads = [threading.Thread(target=work, args=each) for each in (("a", True), ("b", True), ("c", False))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"a": "a", "b": "b", "c": 2}
    assert module.add is own


def test_what_somebody_else_put_there_meanwhile_stays():
    module = SimpleNamespace(add=lambda x: x + 1)
    theirs = lambda x: "theirs"  # noqa: E731
    with Borrower(module, "add").lend(lambda x: "lent"):
        module.add = theirs
    assert module.add is theirs
