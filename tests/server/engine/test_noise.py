import numpy as np

from hitree_server.engine import noise


def test_values_lie_strictly_between_0_and_1_and_look_uniform():
    values = noise.uniforms(np.arange(2000), 0, 3, 7, 5)
    assert values.shape == (2000, 5)
    assert values.dtype == np.float32
    assert values.min() > 0
    assert values.max() < 1
    assert abs(values.mean() - 0.5) < 0.01
    assert np.abs(np.corrcoef(values.T) - np.eye(5)).max() < 0.1


def test_the_extreme_bits_stay_inside_the_interval():
    top = np.float32(2**23 - 1) * np.float32(2**-23) + np.float32(2**-24)
    assert top < 1


def test_every_part_of_the_key_matters():
    base = noise.uniforms(1, 2, 3, 4, 5)
    for other in ((9, 2, 3, 4), (1, 9, 3, 4), (1, 2, 9, 4), (1, 2, 3, 9), (2, 1, 3, 4)):
        assert not np.isin(noise.uniforms(*other, 5), base).any()


def test_a_row_does_not_depend_on_the_others():
    seeds, steps = np.arange(50), np.arange(50) % 7
    together = noise.uniforms(seeds, 1, seeds, steps, 5)
    alone = [noise.uniforms(s, 1, s, t, 5)[0] for s, t in zip(seeds, steps, strict=True)]
    assert np.array_equal(together, alone)


def test_seeds_use_all_64_bits():
    high = noise.uniforms(2**64 - 1, 0, 0, 0, 5)
    assert not np.array_equal(high, noise.uniforms(2**63 - 1, 0, 0, 0, 5))


def test_values_never_change_between_releases():
    expected = [0.7452783, 0.80108017, 0.06470293]
    assert np.allclose(noise.uniforms(7, 0, 1, 0, 3)[0], expected, atol=1e-7)
