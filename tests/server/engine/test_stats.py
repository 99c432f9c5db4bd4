from hitree_server.engine import Histogram


def test_values_are_counted_under_the_first_bound_that_holds_them():
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    assert histogram.counts == [2, 1, 1]
    assert histogram.count == 4
    assert histogram.total == 12.0
    assert histogram.mean == 3.0


def test_a_value_can_be_counted_many_times_at_once():
    histogram = Histogram((1.0,))
    histogram.observe(0.5, times=8)
    assert (histogram.count, histogram.total) == (8, 4.0)


def test_an_empty_histogram_has_mean_0():
    assert Histogram((1.0,)).mean == 0
