"""layout(): trees drawn so that nothing lies on anything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from specvlm.explain.explanation import Tree
from specvlm.explain.layout import layout

SHAPES = st.lists(st.integers(0, 23), max_size=23)
"""What becomes the parents of nodes 1, 2, ..., each before its child."""


def tree_of(shape: list[int], end: int) -> Tree:
    """Any tree, of which the path to any node is accepted: to a leaf, or to somewhere before it."""
    parents = [-1, *(number % (node + 1) for node, number in enumerate(shape))]
    depths = [0]
    for parent in parents[1:]:
        depths.append(depths[parent] + 1)
    node, accepted = end % len(parents), set()
    while node >= 0:
        accepted.add(node)
        node = parents[node]
    texts = tuple(str(number) for number in range(len(parents)))
    return Tree(texts, tuple(parents), tuple(depths), frozenset(accepted), "own", 1)


@given(SHAPES, st.integers(0, 23))
def test_nothing_lies_on_anything_and_what_was_accepted_is_on_top(shape: list[int], end: int):
    tree = tree_of(shape, end)
    made = layout(tree)
    last = max(tree.accepted, key=lambda node: tree.depths[node])
    taken = [*zip(tree.depths, made.rows, strict=True), (tree.depths[last] + 1, made.own_row)]
    assert len(set(taken)) == len(taken)
    assert {made.rows[node] for node in tree.accepted} | {made.own_row} == {0}
    assert {row for _, row in taken} == set(range(made.num_rows))


@given(SHAPES, st.integers(0, 23))
def test_branches_never_cross(shape: list[int], end: int):
    """Drawn from a parent's right to its child's left, two edges between the same depths keep their order."""
    tree = tree_of(shape, end)
    rows, edges = layout(tree).rows, [(node, parent) for node, parent in enumerate(tree.parents) if parent >= 0]
    for node, parent in edges:
        for other, other_parent in edges:
            if tree.depths[node] == tree.depths[other] and rows[parent] < rows[other_parent]:
                assert rows[node] < rows[other]


def test_a_chain_is_a_straight_line():
    made = layout(Tree(tuple("abc"), (-1, 0, 1), (0, 1, 2), frozenset({0, 1, 2}), "own", 1))
    assert made.rows == (0, 0, 0)
    assert made.num_rows == 1
