"""A MONAI bundle as one object: a folder whose configuration is read once."""

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


def shipped(*, trainable: bool = False) -> tuple[str, ...]:
    """Names of the bundles that ship with the package; of those with a training only if `trainable`."""
    config = "train.yaml" if trainable else "inference.yaml"
    return tuple(sorted(path.parts[-3] for path in SHIPPED.glob(f"*/configs/{config}")))


@dataclass(frozen=True)
class Bundle:
    """A bundle's folder, and other bundles that replace networks inside of it.

    Only bundles that one trusts may be used: their configuration may name any code.

    Parameters
    ----------
    folder
        Folder with ``configs/inference.yaml`` and, once trained, ``models/model.pt``.
    reference
        Name, path or address that it was found by; the folder if empty.
    parts
        For a bundle of several networks: the bundles that replace some of them, or None for networks that
        are left out.
    """

    folder: Path
    reference: str = ""
    parts: Mapping[str, Bundle | None] = field(default_factory=dict)

    @classmethod
    def find(
        cls, reference: str | Path, *, bundled: str | None = None, tracking_uri: str | None = None
    ) -> Bundle:
        """Find a bundle by what names it.

        Parameters
        ----------
        reference
            The name of a shipped bundle, a bundle's folder, ``models:/NAME@ALIAS`` or
            ``models:/NAME/VERSION``; ``bundled`` for the shipped bundle of the name `bundled`.
        bundled
            See `reference`.
        tracking_uri
            MLflow's store, where the reference names a registered version.

        Raises
        ------
        ModelError
            If it is none of them.
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
        """Content of ``configs/metadata.json``; empty where there is none."""
        path = self.folder / "configs" / "metadata.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    @property
    def version(self) -> str:
        """Version that the metadata state, or "unknown"."""
        return str(self.metadata.get("version", "unknown"))

    @property
    def digest(self) -> str:
        """SHA-256 of the bundle's files as they are now, whatever folder they lie in."""
        return fingerprint(self.files(), self.folder)

    @cached_property
    def inference(self) -> dict[str, Any]:
        """Content of ``configs/inference.yaml`` with the replaced networks in place.

        Raises
        ------
        ModelError
            If there is none, or a part to be replaced does not exist.
        """
        path = self.folder / "configs/inference.yaml"
        config = renamed_config(self._read("inference"), str(path))
        unknown = set(self.parts) - set(config.get("networks", {}))
        if unknown:
            raise ModelError(
                f"expected a bundle of networks {', '.join(sorted(unknown))} to replace, {self.folder} has "
                f"{', '.join(config.get('networks', {})) or 'one network only'}"
            )
        for name, part in self.parts.items():
            if part is None:
                config["networks"][name]["enabled"] = False
            else:
                config["networks"][name] = section_of(part.inference, name)
        return config

    @cached_property
    def training(self) -> dict[str, Any]:
        """Content of ``configs/train.yaml``.

        Raises
        ------
        ModelError
            If there is none.
        """
        return self._read("train")

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the networks inside; one empty name where the bundle is a single network."""
        inside = self.inference.get("networks", {"": {}})
        return tuple(name for name, section in inside.items() if section.get("enabled", True))

    @property
    def gives_labels(self) -> bool:
        """True if the bundle makes instances, False if it gives a probability only."""
        return "to_instances" in self.inference

    @property
    def trainable(self) -> bool:
        """True if the bundle has a training of its own."""
        return (self.folder / "configs" / "train.yaml").is_file()

    @property
    def objective(self) -> str:
        """Name of the validation's key metric."""
        return str(next(iter(self.training["validate"]["key_metric"])))

    def with_parts(self, parts: Mapping[str, Bundle | None]) -> Bundle:
        """Return this bundle with other networks in place of its own; None leaves a network out."""
        return Bundle(self.folder, self.reference, {**self.parts, **parts})

    def part(self, name: str) -> Bundle:
        """Return the bundle that a network's weights and settings come from."""
        inside = self.parts.get(name)
        return self if inside is None else inside.part(name)

    def parser(self, **overrides: Any) -> ConfigParser:
        """Return the inference configuration, ready to be built.

        An override takes the place of the key of that name, at the top and in every network's section.

        Raises
        ------
        ModelError
            If no key has the name.
        """
        config = copy.deepcopy(self.inference)
        for key, value in renamed(overrides, "override").items():
            if not override(config, key, value):
                raise ModelError(f"{self.folder / 'configs/inference.yaml'} has no key {key} to override")
        parser = ConfigParser(config)
        parser.update({"bundle_root": str(self.folder)})
        return parser

    def predictor(self, **overrides: Any) -> Predictor:
        """Build the network of a bundle that has one.

        Raises
        ------
        ModelError
            If it has several, or cannot be used.
        """
        if self.networks != ("",):
            raise ModelError(
                f"expected a bundle of one network, {self.folder} has {', '.join(self.networks)}"
            )
        return self.predictors(self.parser(**overrides))[""]

    def predictors(self, parser: ConfigParser) -> dict[str, Predictor]:
        """Build every network from what `parser` gave; a single one has an empty name."""
        found = {}
        with usable(self.folder / "configs/inference.yaml"):
            for name in self.networks:
                source, at = self.part(name), f"networks#{name}#" if name else ""
                found[name] = build_predictor(parser, at, source.state(name), source.weights)
        return found

    @property
    def weights(self) -> Path:
        """File of the weights."""
        return self.folder / "models" / "model.pt"

    def state(self, name: str = "") -> dict[str, Any]:
        """Weights of a network inside, or of the bundle's only one."""
        state = read_state(self.weights)
        if name not in self.inference.get("networks", {}):
            return state
        return {
            key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")
        }

    def training_parser(self, **overrides: Any) -> ConfigParser:
        """Return the training configuration, ready to be built; nested keys are written ``a#b``."""
        parser = ConfigParser(copy.deepcopy(self.training))
        parser.update(overrides)
        return parser

    def workflow(self, *overlays: str, **overrides: Any) -> ConfigWorkflow:
        """Return the training as MONAI's workflow.

        Parameters
        ----------
        overlays
            Names of further configurations laid over ``train.yaml``, such as "evaluate".
        overrides
            Values of the configuration's keys; those of nested ones are written ``a#b``.
        """
        logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)  # it warns of logging_file=False
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
        """Return the files that belong to a bundle: configurations, weights, documents and licence."""
        inside = [file for part in ("configs", "models", "docs") for file in (self.folder / part).rglob("*")]
        return [file for file in (*inside, self.folder / "LICENSE") if file.is_file()]

    def copy_to(self, target: str | Path) -> Bundle:
        """Copy the bundle, its replaced networks inside, without what only its training needs."""
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
