"""MONAI bundle: a folder of configurations, weights and documents."""

from __future__ import annotations

import copy
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow

from qcanet_monai.bundle.networks import build_predictor, usable
from qcanet_monai.bundle.sections import literal, override, section_of
from qcanet_monai.errors import ModelError
from qcanet_monai.inference.predictor import Predictor
from qcanet_monai.inference.weights import read_state
from qcanet_monai.io import replacing, write_json
from qcanet_monai.registry.provenance import fingerprint
from qcanet_monai.registry.versions import PREFIX, fetch
from qcanet_monai.renamed import former_parts, renamed, renamed_config

SHIPPED = Path(str(files("qcanet_monai.bundles")))


def shipped() -> tuple[str, ...]:
    """Return the names of the shipped bundles."""
    return tuple(sorted(path.parts[-3] for path in SHIPPED.glob("*/configs/inference.yaml")))


@dataclass(frozen=True)
class Bundle:
    """MONAI bundle, with optional replacements of its networks.

    Use trusted bundles only: the configuration of a bundle can run any code.

    Parameters
    ----------
    folder
        Folder with ``configs/inference.yaml`` and, once trained, ``models/model.pt``.
    reference
        Name, path or URI that the bundle was found by; empty means the folder.
    parts
        Bundles that replace networks of this bundle, by network name; None disables a network.
    """

    folder: Path
    reference: str = ""
    parts: Mapping[str, Bundle | None] = field(default_factory=dict)

    @classmethod
    def find(
        cls, reference: str | Path, *, bundled: str | None = None, tracking_uri: str | None = None
    ) -> Bundle:
        """Find a bundle by name, folder or registry reference.

        Parameters
        ----------
        reference
            Name of a shipped bundle, folder of a bundle, ``models:/NAME@ALIAS`` or
            ``models:/NAME/VERSION``.
        bundled
            Name of the shipped bundle that the reference "bundled" selects.
        tracking_uri
            URI of the MLflow store, for a registered version.

        Raises
        ------
        ModelError
            If `reference` is none of these.
        RegistryError
            If the registry does not answer or has no such version.
        """
        text = str(reference)
        name = bundled if bundled is not None and text == "bundled" else text
        if name in shipped():
            return cls(SHIPPED / name, text)
        folder = fetch(text, tracking_uri) if text.startswith(PREFIX) else Path(reference)
        if folder.is_dir():
            parts = former_parts(folder)
            inside = {part: cls(path) for part, path in parts.items()}
            return cls(SHIPPED / "qcanet", text, inside) if inside else cls(folder, text)
        known = ", ".join(("bundled", *shipped()) if bundled else shipped())
        raise ModelError(f"expected a bundle: {known}, a folder or models:/NAME@ALIAS, got {text!r}")

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """Content of ``configs/metadata.json``; empty if the file is missing."""
        path = self.folder / "configs" / "metadata.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    @property
    def version(self) -> str:
        """Version stated in the metadata, or "unknown"."""
        return str(self.metadata.get("version", "unknown"))

    @property
    def digest(self) -> str:
        """SHA-256 of the bundle's current files, independent of the folder's path."""
        return fingerprint(self.files(), self.folder)

    @cached_property
    def inference(self) -> dict[str, Any]:
        """Content of ``configs/inference.yaml``, with replaced networks.

        Raises
        ------
        ModelError
            If the file is missing, or a network to replace does not exist.
        """
        path = self.folder / "configs/inference.yaml"
        config = renamed_config(self._read("inference"), str(path))
        unknown = set(self.parts) - set(config.get("networks", {}))
        if unknown:
            raise ModelError(
                f"expected a bundle with networks {', '.join(sorted(unknown))} to replace, got {self.folder} "
                f"with {', '.join(config.get('networks', {})) or 'one network only'}"
            )
        for name, part in self.parts.items():
            if part is None:
                config["networks"][name]["enabled"] = False
            else:
                config["networks"][name] = section_of(part.inference, name)
        return config

    @cached_property
    def training(self) -> dict[str, Any]:
        """Content of ``configs/train.yaml``; raises `ModelError` if the file is missing."""
        return self._read("train")

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the enabled networks; one empty name for a single-network bundle."""
        inside = self.inference.get("networks", {"": {}})
        return tuple(name for name, section in inside.items() if section.get("enabled", True))

    @property
    def gives_labels(self) -> bool:
        """True if the bundle outputs instances, False if only a probability."""
        return "to_instances" in self.inference

    @property
    def trainable(self) -> bool:
        """True if the bundle has a training configuration."""
        return (self.folder / "configs" / "train.yaml").is_file()

    @property
    def objective(self) -> str:
        """Name of the key metric in validation."""
        return str(next(iter(self.training["validate"]["key_metric"])))

    def with_parts(self, parts: Mapping[str, Bundle | None]) -> Bundle:
        """Return this bundle with networks replaced; None disables a network."""
        return Bundle(self.folder, self.reference, {**self.parts, **parts})

    def part(self, name: str) -> Bundle:
        """Return the bundle that provides a network's weights and settings."""
        inside = self.parts.get(name)
        return self if inside is None else inside.part(name)

    def parser(self, **overrides: Any) -> ConfigParser:
        """Return the inference configuration, ready to build.

        An override replaces the key at the top level and in every network's section; `ModelError` if the key
        does not exist.
        """
        config = copy.deepcopy(self.inference)
        for key, value in renamed(overrides, "override").items():
            if not override(config, key, value):
                raise ModelError(f"{self.folder / 'configs/inference.yaml'} has no key {key} to override")
        parser = ConfigParser(config)
        parser.update({"bundle_root": str(self.folder)})
        return parser

    def predictor(self, **overrides: Any) -> Predictor:
        """Build the predictor of a single-network bundle, or raise `ModelError`."""
        if self.networks != ("",):
            raise ModelError(
                f"expected a bundle of one network, got {self.folder} with {', '.join(self.networks)}"
            )
        return self.predictors(self.parser(**overrides))[""]

    def predictors(self, parser: ConfigParser) -> dict[str, Predictor]:
        """Build a predictor per network from `parser`; a single one has an empty name."""
        found = {}
        with usable(self.folder / "configs/inference.yaml"):
            for name in self.networks:
                source, at = self.part(name), f"networks#{name}#" if name else ""
                found[name] = build_predictor(parser, at, source.state(name), source.weights)
        return found

    @property
    def weights(self) -> Path:
        """Path of the weights."""
        return self.folder / "models" / "model.pt"

    def state(self, name: str = "") -> dict[str, Any]:
        """Return the weights of a network, or of the only network."""
        state = read_state(self.weights)
        if name not in self.inference.get("networks", {}):
            return state
        return {
            key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")
        }

    def training_parser(self, **overrides: Any) -> ConfigParser:
        """Return the training configuration; overrides of nested keys are ``a#b``."""
        parser = ConfigParser(copy.deepcopy(self.training))
        parser.update(overrides)
        return parser

    def workflow(self, *overlays: str, **overrides: Any) -> ConfigWorkflow:
        """Return the training as a MONAI workflow.

        Parameters
        ----------
        overlays
            Names of overlay configurations for ``train.yaml``, such as "evaluate".
        overrides
            Values by configuration key; nested keys are written ``a#b``.
        """
        logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)  # warns of logging_file=False
        configs = self.folder.resolve() / "configs"
        return ConfigWorkflow(
            config_file=[str(configs / f"{name}.yaml") for name in ("train", *overlays)],
            meta_file=str(configs / "metadata.json"),
            logging_file=False,
            workflow_type="train",
            bundle_root=str(self.folder.resolve()),
            **overrides,
        )

    def files(self) -> list[Path]:
        """Return the bundle's files: configurations, weights, documents and licence."""
        inside = [file for part in ("configs", "models", "docs") for file in (self.folder / part).rglob("*")]
        return [file for file in (*inside, self.folder / "LICENSE") if file.is_file()]

    def copy_to(self, target: str | Path) -> Bundle:
        """Copy `files` to `target`, with the replaced networks merged in."""
        target = Path(target)
        for path in self.files():
            copied = target / path.relative_to(self.folder)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copied)
        made = Bundle(target, self.reference)
        if self.parts:
            with replacing(target / "configs" / "inference.yaml") as temporary:
                temporary.write_text(yaml.safe_dump(self.inference, sort_keys=False), encoding="utf-8")
            stated = {"network_def": literal(self.inference, self.inference["network_def"])}
            write_json(target / "configs" / "inference.json", stated)
            joined = {
                f"{name}.{key}": value
                for name in self.networks
                for key, value in self.part(name).state(name).items()
            }
            with replacing(made.weights) as temporary:
                torch.save(joined, temporary)
        return made

    def _read(self, name: str) -> dict[str, Any]:
        path = self.folder / "configs" / f"{name}.yaml"
        if not path.is_file():
            raise ModelError(f"expected a bundle with configs/{name}.yaml, got {self.folder}")
        with usable(path):
            return dict(ConfigParser.load_config_file(str(path)))
