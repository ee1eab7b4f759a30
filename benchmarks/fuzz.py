"""Read damaged and hostile files: python -m benchmarks.fuzz --inputs 20000.

Small valid files of every format are damaged: bits, bytes, numbers, lengths, lines. Every input must be read
or refused by an error of the project. Findings are other errors, hangs over 20 s, more than 2 GB, crashes,
files outside the folder, and executed code. Prints inputs, kinds and findings; `--only NUMBER` repeats one.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import struct
import tempfile
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
import tifffile
import torch
import yaml
import zarr

from qcanet_monai.datasets.download import unpack
from qcanet_monai.errors import QCANetError
from qcanet_monai.exchange.chainer import read_chainer
from qcanet_monai.inference.weights import read_state
from qcanet_monai.io import read_csv, read_labels, read_volume, write_csv
from qcanet_monai.io.label_digests import edited_labels
from qcanet_monai.io.names import frames_of, group_series, interval_of, list_images
from qcanet_monai.segmentation.files import others_of, read_run
from qcanet_monai.timelapse.ctc import read_tracks
from qcanet_monai.tuning.ledger import Ledger
from qcanet_monai.tuning.study_file import read_study

SECONDS, BYTES = 20, 2 * 1024**3
_CANARY = "executed"
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)

Rng = np.random.Generator


class Kind(NamedTuple):
    """Valid files, relative to a folder, and what reads the folder."""

    files: dict[str, bytes]
    read: Callable[[Path], object]


class Payload:
    """Object whose unpickling leaves a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (_CANARY,)


def _stack() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, (2, 3, 8, 9)).astype(np.uint16)


def _saved(write: Callable[[Path], object], name: str) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(Path(folder).rglob("*"))
            if path.is_file()
        }


def _read_images(folder: Path) -> None:
    (image, *_) = frames_of(list_images([folder]))
    path, frame = image if isinstance(image, tuple) else (image, None)
    interval_of([image])
    with contextlib.suppress(QCANetError):
        read_volume(path, frame=frame)
    with contextlib.suppress(QCANetError):
        read_volume(path, spacing=(1, 1, 1), frame=frame, invert=True)
    read_labels(path, need_spacing=False, frame=frame)


def _read_tables(folder: Path) -> None:
    table = read_csv(folder / "nuclei.csv")
    if "image" in table:
        group_series(table["image"].tolist())


def _read_states(folder: Path) -> None:
    others_of(read_run(folder), [], "images")
    edited_labels(folder)
    Ledger(folder / "ledger.jsonl")


def _unpack(folder: Path) -> None:
    (folder / "out").mkdir()
    unpack(folder / "a.zip", folder / "out", wanted=lambda _name: True, limit=10**8)


def _write_zarr(path: Path, version: int) -> None:
    group = zarr.open_group(str(path), mode="w", zarr_format=version)  # type: ignore[arg-type]
    group.create_array("0", data=_stack()[0], chunks=(2, 4, 9))
    scale = [{"type": "scale", "scale": [2.0, 1.0, 1.0]}]
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    group.attrs.update(
        {"ome": {"version": "0.5", "multiscales": [image]}} if version == 3 else {"multiscales": [image]}
    )


def _write_nifti(path: Path) -> None:
    image = nibabel.Nifti1Image(_stack().transpose(3, 2, 1, 0), np.diag([1, 1, 2, 1]))
    image.header.set_xyzt_units("micron", "sec")
    nibabel.save(image, path)


def _write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a/b.txt", "c.txt"):
            archive.writestr(name, "text" * 50)


def _hostile_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("../escaped", "/tmp/escaped", "a/../../escaped", "..\\escaped", "C:/escaped"):
            archive.writestr(name, "text")
        archive.writestr("bomb", bytes(3 * 10**7))


def kinds() -> dict[str, Kind]:
    """Return valid and hostile files by kind."""
    movie, axes = _stack(), {"axes": "TZYX"}
    units = {"spacing": 2.0, "unit": "micron", "finterval": 600.0, "tunit": "sec"}
    sizes = {f"PhysicalSize{axis}": 1.0 for axis in "ZYX"}
    tiffs: dict[str, Callable[[Path], object]] = {
        "imagej": lambda path: tifffile.imwrite(path, movie, imagej=True, metadata=axes | units),
        "ome": lambda path: tifffile.imwrite(path, movie, ome=True, metadata=axes | sizes),
        "plain": lambda path: tifffile.imwrite(path, movie[0], photometric="minisblack"),
        "deflated": lambda path: tifffile.imwrite(path, movie[0], compression="zlib", tile=(16, 16)),
        "big": lambda path: tifffile.imwrite(path, movie[0], bigtiff=True),
        "float": lambda path: tifffile.imwrite(path, movie[0].astype(np.float64), byteorder=">"),
    }
    study = {"bundle": "nsn", "space": {"depth": {"low": 1, "high": 3}}, "trials": 4, "epochs": 3}
    state = {name: torch.zeros(2, 3) for name in ("down.0.weight", "down.0.bias")}
    run = {"images": {"a.tif": 3, "m.tif, frame 2": 4}, "interval_min": 10.0}
    events = [
        {"event": "session", "time": 1.0},
        {"event": "trial", "trial": "001", "settings": {"depth": 2}, "time": 2.0},
        {"event": "result", "trial": "001", "values": {"epoch": 1, "iou": 0.4}, "time": 3.0},
    ]
    hostile = b"!!python/object/apply:os.mkdir [executed]"
    npz = io.BytesIO()
    np.savez(npz, a=np.array([Payload()], dtype=object))
    return {
        **{name: Kind(_saved(write, "a.tif"), _read_images) for name, write in tiffs.items()},
        "nifti": Kind(_saved(_write_nifti, "a.nii"), _read_images),
        "nifti.gz": Kind(_saved(_write_nifti, "a.nii.gz"), _read_images),
        "zarr 2": Kind(_saved(lambda path: _write_zarr(path, 2), "a.zarr"), _read_images),
        "zarr 3": Kind(_saved(lambda path: _write_zarr(path, 3), "a.zarr"), _read_images),
        "csv": Kind(
            _saved(lambda p: write_csv(p, {"image": ["a_t1", "a_t2"], "v": [1.5, 2.0]}), "nuclei.csv"),
            _read_tables,
        ),
        "tracks": Kind(
            {"t.txt": b"1 0 2 0\n2 3 5 1\n3 3 5 1\n"}, lambda folder: read_tracks(folder / "t.txt")
        ),
        "study": Kind(
            {"s.yaml": yaml.safe_dump(study).encode()}, lambda folder: read_study(folder / "s.yaml")
        ),
        "states": Kind(
            {
                "run.json": json.dumps(run).encode(),
                ".measured.json": b'{"a_labels.tif": "00"}',
                "ledger.jsonl": b"\n".join(json.dumps(event).encode() for event in events),
            },
            _read_states,
        ),
        "weights": Kind(
            _saved(lambda path: torch.save(state, path), "model.pt"),
            lambda folder: read_state(folder / "model.pt"),
        ),
        "zip": Kind(_saved(_write_zip, "a.zip"), _unpack),
        "hostile zip": Kind(_saved(_hostile_zip, "a.zip"), _unpack),
        "hostile weights": Kind(
            {"model.pt": pickle.dumps(Payload())}, lambda folder: read_state(folder / "model.pt")
        ),
        "hostile npz": Kind({"a.npz": npz.getvalue()}, lambda folder: read_chainer(folder / "a.npz")),
        "hostile study": Kind({"s.yaml": hostile}, lambda folder: read_study(folder / "s.yaml")),
        "gzip bomb": Kind(
            {"a.nii.gz": gzip.compress(_saved(_write_nifti, "a.nii")["a.nii"] + bytes(10**8))}, _read_images
        ),
    }


def damaged(content: bytes, rng: Rng) -> bytes:
    """Return content with one to four damages."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        size = len(data)
        at = int(rng.integers(0, max(size, 1)))
        way = int(rng.integers(0, 8))
        if size == 0 or way == 0:
            data[at:at] = rng.bytes(int(rng.integers(1, 16)))
        elif way == 1:
            data[at] ^= 1 << int(rng.integers(0, 8))
        elif way == 2:
            del data[at:]
        elif way == 3:
            del data[at : at + int(rng.integers(1, 16))]
        elif way == 4:  # a number of another size, in both byte orders
            code = str(rng.choice([*"<>"])) + str(rng.choice([*"HIQ"]))
            number = int(_EXTREMES[int(rng.integers(0, len(_EXTREMES)))])
            part = struct.pack(code, number % 2 ** (8 * struct.calcsize(code)))
            data[at : at + len(part)] = part
        elif way == 5:
            other = int(rng.integers(0, size))
            length = int(rng.integers(1, 32))
            data[at : at + length] = data[other : other + length]
        elif way == 6:  # a text number
            words = (b"-1", b"0", b"1e999", b"nan", b"99999999999999999999", b"null", b'""', b"[]", b"{}")
            data[at : at + 1] = words[int(rng.integers(0, len(words)))]
        else:
            data[at : at + 4] = bytes(4)
    return bytes(data)


def attempt(number: int, seed: int, made: dict[str, Kind], folder: Path) -> tuple[str, str]:
    """Read one input in an empty folder; return its kind and the finding, or ""."""
    rng = np.random.default_rng((seed, number))
    name = [*made][number % len(made)]
    kind = made[name]
    inside = folder / "inside"
    shutil.rmtree(inside, ignore_errors=True)
    inside.mkdir()
    names = [*kind.files]
    hit = names[int(rng.integers(0, len(names)))]
    whole = name.startswith(("hostile", "gzip")) and number < 2 * len(made)  # as they are at first
    for file, content in kind.files.items():
        path = inside / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(damaged(content, rng) if file == hit and not whole else content)
    signal.alarm(SECONDS)
    try:
        kind.read(inside)
    except QCANetError:
        pass
    except BaseException:
        return name, traceback.format_exc()
    finally:
        signal.alarm(0)
    left = {path.name for path in folder.iterdir()} - {"inside"}
    if left or Path(_CANARY).exists() or Path("/tmp/escaped").exists():
        return name, f"files outside the folder: {', '.join(sorted(left)) or _CANARY}"
    return name, ""


def _stop(_number: int, _frame: object) -> None:
    raise TimeoutError(f"over {SECONDS} s")


def _work(numbers: range, seed: int, pipe: Any, at: Any) -> None:
    signal.signal(signal.SIGALRM, _stop)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    made = kinds()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for number in numbers:
            at.value = number
            pipe.send((number, *attempt(number, seed, made, Path(folder))))


def run(inputs: int, seed: int = 0, workers: int = 2) -> Iterator[tuple[int, str, str]]:
    """Yield number, kind and finding ("" for none) of every input."""
    context = multiprocessing.get_context("fork")
    names = [*kinds()]
    for worker in range(workers):
        numbers = range(worker, inputs, workers)
        while numbers:
            receiver, sender = context.Pipe(duplex=False)
            at = context.Value("q", numbers[0])
            process = context.Process(target=_work, args=(numbers, seed, sender, at))
            process.start()
            sender.close()
            try:
                while receiver.poll(3 * SECONDS):
                    yield receiver.recv()
                process.kill()
            except EOFError:
                pass
            process.join()
            if process.exitcode == 0:
                break
            yield at.value, names[at.value % len(names)], f"the process ended with {process.exitcode}"
            numbers = range(at.value + workers, inputs, workers)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    arguments = parser.parse_args()
    if arguments.only is not None:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            print(*attempt(arguments.only, arguments.seed, kinds(), Path(folder)))
        return
    counts: Counter[str] = Counter()
    findings: Counter[str] = Counter()
    for number, kind, finding in run(arguments.inputs, arguments.seed):
        counts[kind] += 1
        if finding:
            findings[kind] += 1
            print(f"{number} ({kind}): {finding}", flush=True)
    print("\n| kind | inputs | findings |\n| --- | ---: | ---: |")
    for kind, count in sorted(counts.items()):
        print(f"| {kind} | {count} | {findings[kind]} |")
    print(f"| all | {counts.total()} | {findings.total()} |")


if __name__ == "__main__":
    main()
