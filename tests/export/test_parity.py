"""Parity: the checks pass on honest graphs and catch each kind of lie."""

import numpy as np
import pytest
import torch

from bundles import tiny_checkpoints
from hitree_export import graphs, networks, parity
from hitree_export.parity import ParityError


@pytest.fixture(scope="module")
def nets():
    return networks.load(**vars(tiny_checkpoints()))


@pytest.fixture(scope="module")
def exported(nets):
    return graphs.export_all(nets.decoder, nets.generator, nets.scorer, nets.classifier)


def test_honest_graphs_pass(nets, exported):
    report = parity.check(nets, exported)
    assert report.step_agreement >= parity.AGREE_STEP
    assert report.sequence_agreement >= parity.AGREE_SEQUENCE
    assert 0 < report.largest_difference < parity.TOLERANCE


@pytest.mark.parametrize(
    ("network", "weight"),
    [
        ("decoder", "head.bias"),
        ("decoder", "lstm.weight_hh_l0"),
        ("decoder", "subject.bias"),
        ("generator", "bias"),
        ("generator", "expand_context.1.bias"),
        ("scorer", "segment_tower.2.bias"),
        ("scorer", "text_tower.2.bias"),
        ("scorer", "steps.score.4.bias"),
    ],
)
def test_a_graph_of_other_weights_is_caught(nets, exported, network, weight):
    parameter = getattr(nets, network).get_parameter(weight)
    kept = parameter.detach().clone()
    with torch.no_grad():
        parameter += 0.1 * torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape)
    try:
        with pytest.raises(ParityError):
            parity.check(nets, exported)
    finally:
        with torch.no_grad():
            parameter.copy_(kept)


def test_rows_that_depend_on_their_neighbours_are_caught(exported):
    honest = parity._runner(exported.files[exported.decoder.file])

    def coupled(feed):
        found = honest(feed)
        found["h_out"] = found["h_out"] + np.float32(1e-7) * len(feed["noise"])
        return found

    parity.check_neighbours(honest, exported.decoder)
    with pytest.raises(ParityError, match="h_out"):
        parity.check_neighbours(coupled, exported.decoder)


def test_sequences_that_change_in_company_are_caught(exported):
    honest = parity._runner(exported.files[exported.decoder.file])

    def coupled(feed):
        found = honest(feed)
        found["h_out"] = found["h_out"] * np.float32(1 if len(feed["noise"]) > 1 else 0.99)
        return found

    parity._check_alone(honest, exported.decoder)
    with pytest.raises(ParityError, match="alone"):
        parity._check_alone(coupled, exported.decoder)


def test_states_that_points_do_not_tell_are_caught(exported):
    honest = parity._runner(exported.files[exported.decoder.file])

    def forgetful(feed):
        found = honest(feed)
        found["canvas_out"] = found["canvas_out"] + np.float32(0.01) * feed["force"][:, :1]
        return found

    parity._check_resume(honest, exported.decoder)
    with pytest.raises(ParityError, match="canvas"):
        parity._check_resume(forgetful, exported.decoder)


def test_sequences_that_cross_to_another_leaf_otherwise_than_their_caller_are_caught(exported):
    honest = parity._runner(exported.files[exported.decoder.file])

    def astray(feed):
        found = honest(feed)
        crossed = found["made"][:, 1:] > 0
        return found | {"c_out": found["c_out"] + np.float32(0.01) * crossed}

    with pytest.raises(ParityError, match="rebuilt"):
        parity._check_resume(astray, exported.decoder)


def test_rows_that_are_moved_elsewhere_are_caught(exported):
    honest = parity._runner(exported.files[exported.decoder.rows])

    def swapped(feed):
        found = honest(feed)
        return found | {"c_out": found["c_out"][::-1]}

    parity.check_rows(honest, exported.decoder)
    with pytest.raises(ParityError, match="c is moved to other rows"):
        parity.check_rows(swapped, exported.decoder)


def test_the_mixed_rows_are_mixed(exported):
    feed = parity.mixed_rows(exported.decoder, 256, seed=1)
    for name in ("force", "last", "begun"):
        assert set(feed[name].ravel()) == {0.0, 1.0}
    assert len(np.unique(feed["temperature"])) > 100
    assert set(feed["limit"].ravel()) == {*range(exported.decoder.stride + 1)}
    assert set(feed["row"][:, 2:].sum(axis=1)) == {1.0}
