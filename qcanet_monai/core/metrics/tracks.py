"""Tracks of nuclei, and Cell Tracking Challenge scores of tracks and divisions.

A tracked series has one label per track in all of its frames. A track ends where its cell divides; the two
daughters are new tracks with the mother as their parent. This is the convention of the challenge.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from qcanet_monai.core.metrics.overlap import Overlap, ratio_or_nan
from qcanet_monai.errors import InputError

_NS, _FN, _FP, _ED, _EA, _EC = 5.0, 10.0, 1.0, 1.0, 1.5, 1.0  # weights, Matula et al. 2015

Node = tuple[int, int]
"""Frame and label."""


class Track(NamedTuple):
    """Track of a nucleus: label, first and last frame, parent label (0 for none)."""

    label: int
    begin: int
    end: int
    parent: int


class TrackingScores(NamedTuple):
    """Agreement of predicted and reference tracks.

    The counts are the graph operations that turn the predicted tracks into the reference tracks.

    Attributes
    ----------
    det, tra, lnk : float
        Detection, tracking and linking accuracy in [0, 1]; lnk is NaN without reference links, all without
        nuclei.
    splits : int
        Splits needed for labels that cover several nuclei (NS).
    missed, false : int
        Missed nuclei (FN) and predicted nuclei without a reference (FP).
    edges_false, edges_missed, edges_wrong : int
        Redundant links (ED), missing links (EA), and divisions confused with links (EC).
    """

    det: float
    tra: float
    lnk: float
    splits: int
    missed: int
    false: int
    edges_false: int
    edges_missed: int
    edges_wrong: int


class DivisionScores(NamedTuple):
    """F1 score and counts of divisions; F1 is NaN if the reference has no division."""

    f1: float
    found: int
    false: int
    missed: int


def check_tracks(tracks: Sequence[Track]) -> None:
    """Check that tracks form a lineage.

    Raises
    ------
    InputError
        If labels repeat or are below 1, a track ends before it begins or begins before frame 0, or a parent
        is missing or does not end before its daughters begin.
    """
    ends = {track.label: track.end for track in tracks}
    if len(ends) < len(tracks) or min(ends, default=1) < 1:
        raise InputError("expected unique track labels from 1: give each track its own label")
    for track in tracks:
        if track.end < track.begin or track.begin < 0:
            raise InputError(
                f"expected 0 <= begin <= end of track {track.label}, got begin {track.begin}, end {track.end}"
            )
        if track.parent and ends.get(track.parent, track.begin) >= track.begin:
            raise InputError(
                f"expected parent {track.parent} of track {track.label} to end before frame {track.begin}, "
                f"got {ends.get(track.parent, 'no such track')}"
            )


def daughters_of(tracks: Sequence[Track]) -> dict[int, list[Track]]:
    """Map the label of each dividing track to its daughters, at least two."""
    daughters: dict[int, list[Track]] = {}
    for track in tracks:
        if track.parent:
            daughters.setdefault(track.parent, []).append(track)
    return {label: found for label, found in daughters.items() if len(found) > 1}


def tracking_scores(
    overlaps: Sequence[Overlap], reference: Sequence[Track], predicted: Sequence[Track]
) -> TrackingScores:
    """Compute DET, TRA and LNK of the Cell Tracking Challenge.

    Parameters
    ----------
    overlaps
        Overlap table of the reference and predicted label images of each frame, from frame 0.
    reference, predicted
        Tracks with the labels of the images.

    Raises
    ------
    InputError
        If the tracks are not a lineage, the first or last frame of a track lacks its label, or a label has no
        track in its frame.

    Notes
    -----
    An accuracy is 1 - cost of turning the predicted graph into the reference graph / cost of building the
    reference graph from nothing. Matula et al. (2015), doi:10.1371/journal.pone.0144959.
    """
    match = [_matches(overlap) for overlap in overlaps]
    counted = [Counter(found.values()) for found in match]
    n_reference = sum(overlap.n_ref for overlap in overlaps)
    n_found = sum(map(len, match))
    splits = n_found - sum(map(len, counted))
    missed = n_reference - n_found
    false = sum(overlap.n_pred for overlap in overlaps) - sum(map(len, counted))

    wanted = _edges([overlap.reference_labels.tolist() for overlap in overlaps], reference, "reference")
    given = _edges([overlap.predicted_labels.tolist() for overlap in overlaps], predicted, "predicted")
    alone = {  # the reference nucleus of each predicted nucleus that matches only one
        (time, label): (time, nucleus)
        for time, found in enumerate(match)
        for nucleus, label in found.items()
        if counted[time][label] == 1
    }
    mapped = {
        (alone[one], alone[other]): division
        for (one, other), division in given.items()
        if one in alone and other in alone
    }
    edges_false = len(mapped.keys() - wanted.keys())
    edges_missed = len(wanted.keys() - mapped.keys())
    edges_wrong = sum(wanted[edge] != mapped[edge] for edge in wanted.keys() & mapped.keys())

    nodes = _NS * splits + _FN * missed + _FP * false
    edges = _ED * edges_false + _EA * edges_missed + _EC * edges_wrong
    nodes_anew, edges_anew = _FN * n_reference, _EA * len(wanted)
    return TrackingScores(
        det=_accuracy(nodes, nodes_anew),
        tra=_accuracy(nodes + edges, nodes_anew + edges_anew),
        lnk=_accuracy(edges, edges_anew),
        splits=splits,
        missed=missed,
        false=false,
        edges_false=edges_false,
        edges_missed=edges_missed,
        edges_wrong=edges_wrong,
    )


def division_scores(
    overlaps: Sequence[Overlap],
    reference: Sequence[Track],
    predicted: Sequence[Track],
    *,
    tolerance: int = 0,
) -> DivisionScores:
    """Score divisions by the branching correctness of the Cell Tracking Challenge.

    A predicted division is correct if the mothers match in the last frame that contains both, and the
    daughters match in the first frame that contains both. Ulman et al. (2017), doi:10.1038/nmeth.4473.

    Parameters
    ----------
    overlaps, reference, predicted
        See `tracking_scores`.
    tolerance
        Maximum difference in frames between matching divisions.
    """
    match = [_matches(overlap) for overlap in overlaps]
    wanted, given = daughters_of(reference), daughters_of(predicted)
    ends = {track.label: track.end for track in predicted}
    last = {track.label: track.end for track in reference}

    def same(time: int, nucleus: int, label: int) -> bool:
        found = match[time]
        return found.get(nucleus) == label and list(found.values()).count(label) == 1

    def is_found(mother: int, other: int) -> bool:
        ours, theirs = wanted[mother], given[other]
        if len(ours) != len(theirs) or abs(last[mother] - ends[other]) > tolerance:
            return False
        if not same(min(last[mother], ends[other]), mother, other):
            return False
        pairs = {
            one.label: two.label
            for one in ours
            for two in theirs
            if abs(one.begin - two.begin) <= tolerance
            and same(max(one.begin, two.begin), one.label, two.label)
        }
        return len(set(pairs.values())) == len(ours)

    found = sum(is_found(mother, other) for mother in wanted for other in given)
    score = ratio_or_nan(2 * found, len(wanted) + len(given)) if wanted else math.nan
    return DivisionScores(score, found, len(given) - found, len(wanted) - found)


def _matches(overlap: Overlap) -> dict[int, int]:
    """Map each detected reference nucleus to the label that covers over half of it."""
    pairs = overlap.pairs
    held = 2 * pairs.n_voxels > overlap.reference_sizes[pairs.reference]
    nuclei = overlap.reference_labels[pairs.reference[held]].tolist()
    return dict(zip(nuclei, overlap.predicted_labels[pairs.predicted[held]].tolist(), strict=True))


def _edges(
    labels: Sequence[Sequence[int]], tracks: Sequence[Track], name: str
) -> dict[tuple[Node, Node], bool]:
    """Return links between frames (False), and from parents to daughters (True)."""
    check_tracks(tracks)
    present = [set(found) for found in labels]
    for track in tracks:
        if track.end >= len(present) or not {track.label} <= present[track.begin] & present[track.end]:
            raise InputError(
                f"expected {name} label {track.label} in frames {track.begin} and {track.end} (first and "
                f"last of its track; {len(present)} frames given): give the tracks of these images"
            )
    for time, shown in enumerate(present):
        lost = shown - {track.label for track in tracks if track.begin <= time <= track.end}
        if lost:
            raise InputError(
                f"expected a track for each {name} label, got none in frame {time} for label {min(lost)}: "
                "give the tracks of these images"
            )
    edges = {
        ((time, label), (time + 1, label)): False
        for time, (one, other) in enumerate(pairwise(present))
        for label in one & other
    }
    ends = {track.label: track.end for track in tracks}
    for track in tracks:
        if track.parent:
            edges[(ends[track.parent], track.parent), (track.begin, track.label)] = True
    return edges


def _accuracy(cost: float, anew: float) -> float:
    return 1 - ratio_or_nan(min(cost, anew), anew)


def tracks_of(frames: Sequence[ArrayLike], parents: Mapping[int, int]) -> list[Track]:
    """Build tracks from the labels (n,) in each frame and the parent of each label.

    A parent becomes 0 if no frame shows its label, or if it does not end before its daughter begins.
    """
    begins: dict[int, int] = {}
    ends: dict[int, int] = {}
    for time, labels in enumerate(frames):
        for label in np.asarray(labels, np.int64).tolist():
            begins.setdefault(label, time)
            ends[label] = time
    return [
        Track(label, begin, ends[label], parent if ends.get(parent, begin) < begin else 0)
        for label, begin in sorted(begins.items())
        for parent in (parents.get(label, 0),)
    ]
