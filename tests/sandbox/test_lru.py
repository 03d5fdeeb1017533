"""The memory with a limit in bytes."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from thyme.sandbox.lru import ByteLru

ACTIONS = st.lists(st.tuples(st.sampled_from(["put", "get", "drop"]), st.sampled_from("abcd"), st.integers(0, 6)))


@given(ACTIONS)
def test_it_is_the_naive_list_with_a_limit(actions: list[tuple[str, str, int]]) -> None:
    memory: ByteLru[int] = ByteLru(10)
    naive: list[tuple[str, int]] = []  # key and size, the most recently used last
    for action, key, size in actions:
        found = next((pair for pair in naive if pair[0] == key), None)
        if action == "get":
            assert memory.get(key) == (found[1] if found else None)
            naive = [pair for pair in naive if pair != found] + ([found] if found else [])
            continue
        naive = [pair for pair in naive if pair != found]
        if action == "put":
            memory.put(key, size, size)
            naive.append((key, size))
            while sum(size for _, size in naive) > 10:
                naive.pop(0)
        else:
            memory.drop(key)
        assert len(memory) == len(naive)


def test_what_is_larger_than_all_is_not_kept() -> None:
    memory: ByteLru[str] = ByteLru(10)
    memory.put("small", "s", 5)
    memory.put("large", "l", 11)
    assert memory.get("large") is None


def test_threads_that_remember_the_same_keep_the_books_right() -> None:
    memory: ByteLru[int] = ByteLru(100)

    def remember(_: int) -> None:
        for number in range(20_000):
            memory.put("abc"[number % 3], number, 30)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(remember, range(8)))
    finally:
        sys.setswitchinterval(before)
    memory.put("d", 0, 10)
    assert [memory.get(key) is None for key in "abcd"] == [False] * 4
