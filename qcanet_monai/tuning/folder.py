"""Folder of a study, with checks before a study starts or continues."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

import yaml

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.datasets.simulate import simulate_dataset
from qcanet_monai.errors import StudyError
from qcanet_monai.io import output_folder, replacing
from qcanet_monai.tuning.study import Simulated, Study


class StudyFolder:
    """Folder ``STORAGE/NAME`` of a study.

    Holds ``study.json``, the bundle's configuration, the records of Ray and Optuna, and the results. On a
    cluster, all nodes share `storage`.
    """

    def __init__(self, storage: str | Path, name: str) -> None:
        self.root = Path(storage).resolve() / name
        self.name = name

    def check(self, study: Study, *, resume: bool) -> None:
        """Raise StudyError unless the study can start or, if `resume`, continue.

        A study cannot start twice; a study cannot continue with other settings.
        """
        if self.begun != resume:
            if resume:
                raise StudyError(
                    f"expected a study to continue in {self.root}, found none: start it without --resume"
                )
            raise StudyError(
                f"study {self.name} exists in {self.root}: continue it with --resume, or give another --name"
            )
        if resume:
            before = self._content()["study"]
            now = study.model_dump(mode="json")
            changed = sorted(key for key in now if now[key] != before.get(key))
            if changed:
                raise StudyError(
                    f"{', '.join(changed)} changed since {self.root} was started: restore the study's file, "
                    "or start another study with --name"
                )

    @property
    def begun(self) -> bool:
        """True if the study has started and can be continued."""
        return self._file.is_file()

    @property
    def _file(self) -> Path:
        return self.root / "study.json"

    def _content(self) -> dict[str, dict[str, object]]:
        return json.loads(self._file.read_text(encoding="utf-8"))

    @property
    def id(self) -> str:
        """Unique id of the study, unchanged by a resume."""
        return str(self._content()["id"])

    @property
    def data(self) -> str:
        """Dataset folder that the study started with."""
        return str(self._content()["data"])

    def begin(self, study: Study, bundle: Bundle, data: str | Path | None) -> None:
        """Write the bundle's configuration, simulated data and, last, ``study.json``."""
        output_folder(self.root)
        self._copy_bundle(bundle.folder)
        if data is None and isinstance(study.data, Simulated):
            data = self._simulate(study.data)
        content = {"id": uuid.uuid4().hex, "data": str(data), "study": study.model_dump(mode="json")}
        with replacing(self._file) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @property
    def bundle(self) -> Path:
        """Copy of the bundle's configuration, made when the study started."""
        return self.root / "bundle"

    def _copy_bundle(self, bundle: Path) -> None:
        for name in ("configs", "docs"):
            if (bundle / name).is_dir():
                shutil.copytree(bundle / name, self.bundle / name, dirs_exist_ok=True)
        if (bundle / "LICENSE").is_file():
            shutil.copyfile(bundle / "LICENSE", self.bundle / "LICENSE")

    def _simulate(self, what: Simulated) -> Path:
        folder = self.root / "data"
        if not folder.is_dir():  # an existing folder is complete
            simulate_dataset(folder, **what.model_dump())
        return folder


def write_yaml(path: Path, content: object, header: str = "") -> None:
    """Write `content` as YAML below a comment header."""
    with replacing(path) as temporary:
        temporary.write_text(header + yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
