import time

from labkit.polling import until


def test_it_looks_until_an_answer_is_good() -> None:
    answers = iter([1, 2, 3, 4])
    assert until(lambda: next(answers), lambda n: n == 3, seconds=60, every=0) == 3
    assert next(answers) == 4


def test_the_last_answer_is_returned_when_time_is_over() -> None:
    began = time.monotonic()
    assert until(lambda: "no", lambda answer: False, seconds=0.2, every=0.05) == "no"
    assert time.monotonic() - began >= 0.2


def test_no_time_is_one_look() -> None:
    looks: list[int] = []
    until(lambda: looks.append(1), seconds=0)
    assert len(looks) == 1
