"""Linking of nuclei between frames, and of daughters to mothers, by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Node = tuple[int, int]
"""Frame index in the series, and row index in the frame's nucleus table."""

_SHORTEST = 4  # minimum length of a cell cycle, in frames
_FEWEST = 3  # minimum number of cycles to estimate their length
_LONG = 1.5  # in median cell cycles; embryonic cells divide sooner
_SMALL = 0.5  # of the frame's median volume; polar bodies are smaller


@dataclass(frozen=True)
class Linking:
    """Limits of distance and time for linking, defined as in ``lineage.track``."""

    max_distance_um: float = 20.0
    max_splitting_distance_um: float = 25.0
    max_frame_gap: int = 2


@dataclass
class Paths:
    """Tracks as one identity per nucleus and frame: from 1; polar bodies have 0.

    `parents` maps daughters to mothers. `gaps` holds the last nucleus before and the first after each gap
    of a track. `bodies` counts polar bodies over all frames.
    """

    identities: list[NDArray[np.int64]]
    parents: dict[int, int] = field(default_factory=dict)
    gaps: list[tuple[Node, Node]] = field(default_factory=list)
    bodies: int = 0


def link(
    centroids_um: Sequence[Floats], linking: Linking, volumes_um3: Sequence[Floats] | None = None
) -> Paths:
    """Link nuclei from frame to frame, and daughters to their mothers.

    Two linear assignments by laptrack: nuclei to nuclei of the next frame, then track ends to the starts
    and middles of tracks (Jaqaman et al. 2008, doi:10.1038/nmeth.1237).

    Parameters
    ----------
    centroids_um
        Centroids (n, 3) in µm, axes (z, y, x), per frame.
    linking
        Limits of distance and time.
    volumes_um3
        Volumes (n,) in µm³ per frame, used to exclude polar bodies; None keeps all nuclei.
    """
    from laptrack import LapTrack

    reach, daughters = linking.max_distance_um**2, linking.max_splitting_distance_um**2
    # fixed start and end costs: costs estimated from the links would forbid divisions in a young embryo
    tracker = LapTrack(
        cutoff=reach,
        track_start_cost=reach,
        track_end_cost=reach,
        gap_closing_cutoff=reach,
        gap_closing_max_frame_count=linking.max_frame_gap + 1,  # steps, one more than missing frames
        splitting_cutoff=daughters,
        segment_start_cost=daughters,
        segment_end_cost=daughters,
        no_splitting_cost=daughters,
    )
    following: dict[Node, list[Node]] = {}
    preceding: dict[Node, Node] = {}
    if len(centroids_um) > 1 and any(map(len, centroids_um)):
        for one, other in tracker.predict(list(centroids_um)).edges:
            following.setdefault(one, []).append(other)
            preceding[other] = one
    _unmerge(following, preceding, centroids_um, linking.max_frame_gap)
    paths = _paths(following, preceding, list(map(len, centroids_um)), set())
    bodies = _bodies(paths, volumes_um3) if volumes_um3 is not None else set()
    if not bodies:
        return paths
    left_out = {
        (frame, place)
        for frame, identities in enumerate(paths.identities)
        for place, identity in enumerate(identities.tolist())
        if identity in bodies
    }
    return _paths(following, preceding, list(map(len, centroids_um)), left_out)


def _paths(
    following: dict[Node, list[Node]], preceding: dict[Node, Node], counts: Sequence[int], left_out: set[Node]
) -> Paths:
    """Assign identities along the links; nuclei in `left_out` get 0."""
    paths = Paths([np.zeros(count, np.int64) for count in counts], bodies=len(left_out))
    last = 0
    for frame, count in enumerate(counts):
        for place in range(count):
            node = frame, place
            if node in left_out:
                continue
            before = preceding.get(node)
            if before in left_out:
                before = None
            if before is None or len([one for one in following[before] if one not in left_out]) > 1:
                last += 1
                paths.identities[frame][place] = last
                if before is not None:
                    paths.parents[last] = int(paths.identities[before[0]][before[1]])
            else:
                paths.identities[frame][place] = paths.identities[before[0]][before[1]]
                if frame - before[0] > 1:
                    paths.gaps.append((before, node))
    return paths


def _bodies(paths: Paths, volumes_um3: Sequence[Floats]) -> set[int]:
    """Find polar bodies: small tracks that outlast a cell cycle without dividing."""
    life: dict[int, int] = {}
    share: dict[int, list[float]] = {}
    for identities, volumes in zip(paths.identities, volumes_um3, strict=True):
        middle = np.median(volumes) if len(volumes) else 1.0
        for identity, volume in zip(identities.tolist(), volumes.tolist(), strict=True):
            life[identity] = life.get(identity, 0) + 1
            share.setdefault(identity, []).append(volume / middle)
    mothers = set(paths.parents.values())
    # a cycle's length is known only if both birth and division were observed
    cycles = [life[one] for one in mothers & paths.parents.keys() if life[one] >= _SHORTEST]
    if len(cycles) < _FEWEST:
        return set()
    longest = _LONG * float(np.median(cycles))
    return {
        one for one in life.keys() - mothers if life[one] > longest and float(np.median(share[one])) < _SMALL
    }


def _unmerge(
    following: dict[Node, list[Node]],
    preceding: dict[Node, Node],
    centroids_um: Sequence[Floats],
    gap: int,
) -> None:
    """Undo false divisions of two nuclei that shared one label for a while, in place."""
    frames = [[(frame, place) for place in range(len(points))] for frame, points in enumerate(centroids_um)]

    def at(node: Node) -> Floats:
        return centroids_um[node[0]][node[1]]

    for merged in [node for nodes in frames for node in nodes if len(following.get(node, [])) == 2]:
        begun = min(node[0] for node in following[merged])
        before = merged
        while before in preceding and len(following[preceding[before]]) == 1:
            before = preceding[before]
            lost = [node for node in frames[before[0]] if node not in following]
            if before[0] < begun - gap - 1:
                break
            # a daughter nearer to the lost nucleus than to the merged one continues the lost one
            found = [
                (float(np.linalg.norm(at(node) - at(one))), node, one)
                for node in lost
                for one in following[merged]
                if np.linalg.norm(at(node) - at(one)) < np.linalg.norm(at(before) - at(one))
            ]
            if found:
                _, node, one = min(found)
                following[merged].remove(one)
                following[node], preceding[one] = [one], node
                break
