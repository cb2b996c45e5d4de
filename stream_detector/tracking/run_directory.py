"""A folder that holds all of one training, so that it can be read, compared, repeated and resumed.

    20260102T030405Z-seed0-1f2e3d4c/     time, seed, configuration hash
      run.yaml                           configuration, seed, versions, the data's fingerprint
      checkpoints/step-00000500.safetensors   averaged networks at every measured step
      state.safetensors                  what the next step depends on, replaced at every measured step
      results/*.parquet                  the measurements, one table a file
      events/                            the measurements for TensorBoard
      plots/*.png  sweet_spot.json  model.safetensors      written when the training is done

`state.safetensors` is written last at a measured step, so whatever was killed, it and all before
it belong together; what is newer is dropped by a resumed run. Nothing here is a pickle.
"""

import json
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from stream_detector.errors import ConfigError, DataError
from stream_detector.features import FeatureSchema
from stream_detector.runtime.files import replacing, write_file

__all__ = ["RunDirectory", "Tables", "fingerprint"]

Tables = dict[str, list[dict[str, Any]]]
"""Rows by table name; every row of a table has the same columns, `step` among them."""

DESCRIPTION = "run.yaml"
NEEDED = ("matplotlib", "pyarrow", "tensorboard")


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The folder of one training."""

    path: Path

    @classmethod
    def create(cls, parent: Path, configuration: Mapping[str, Any], seed: int) -> "RunDirectory":
        """A new folder in `parent`, named by time, seed and a hash of `configuration` (JSON values).

        Raises `ConfigError` when it cannot be made, or when the extra `training` is not installed.
        """
        _require_extra()
        text = json.dumps(configuration, sort_keys=True)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        name = f"{stamp}-seed{seed}-{sha256(text.encode()).hexdigest()[:8]}"
        path = _new_folder(_encodable(Path(parent)), name)
        run = cls(path)
        run._describe({"configuration": dict(configuration), "seed": seed, "environment": _environment()})
        return run

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """An existing run; raises `ConfigError` when `path` is none."""
        _require_extra()
        run = cls(Path(path))
        if not (run.path / DESCRIPTION).is_file():
            raise ConfigError(f"{path}: holds no {DESCRIPTION}; give the folder of one run")
        return run

    @property
    def description(self) -> dict[str, Any]:
        """The content of run.yaml: `configuration`, `seed`, `environment`, and `data` once it is known."""
        try:
            read = yaml.safe_load((self.path / DESCRIPTION).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.path / DESCRIPTION}: cannot be read ({type(error).__name__})") from None
        if not isinstance(read, dict) or not isinstance(read.get("configuration"), dict):
            raise ConfigError(f"{self.path / DESCRIPTION}: is not the description of a run")
        return read

    @property
    def seed(self) -> int:
        """The seed that the run was made with."""
        return int(self.description["seed"])

    def admit(self, configuration: Mapping[str, Any], seed: int, data: str) -> None:
        """Takes `data` (a fingerprint) as this run's; raises `DataError` or `ConfigError` if it was another's."""
        known = self.description
        if known["configuration"] != dict(configuration) or known["seed"] != seed:
            raise ConfigError(f"{self.path}: was made with another configuration or seed; resume it with its own")
        if known.setdefault("data", data) != data:
            raise DataError(f"{self.path}: was made from other records; give the same ones to resume it")
        self._describe(known)

    def save_checkpoint(self, step: int, networks: Mapping[str, Tensor]) -> None:
        """Keeps the averaged networks of `step`."""
        _save(networks, self._checkpoint(step), {"step": str(step)})

    def load_checkpoint(self, step: int) -> dict[str, Tensor]:
        """The averaged networks of `step`; raises `ConfigError` when they were not kept or are damaged."""
        return _load(self._checkpoint(step))[0]

    def save_state(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Keeps the training's state of `step`, in place of an older one."""
        _save(tensors, self.path / "state.safetensors", {"step": str(step)})

    def load_state(self) -> tuple[int, dict[str, Tensor]] | None:
        """Step and training state that were kept last; None when there is none yet."""
        path = self.path / "state.safetensors"
        if not path.exists():
            return None
        tensors, step = _load(path)
        return step, tensors

    def save_tables(self, tables: Tables) -> None:
        """Writes each table as results/NAME.parquet."""
        import pyarrow as pa  # noqa: PLC0415 - optional
        from pyarrow import parquet  # noqa: PLC0415 - optional

        folder = self._folder("results")
        for name, rows in tables.items():
            # Opened here, for Arrow takes no path that is not UTF-8.
            with replacing(folder / f"{name}.parquet") as partial, partial.open("wb") as written:
                parquet.write_table(pa.Table.from_pylist(rows), written)

    def load_tables(self, last_step: int | None = None) -> Tables:
        """The tables in results/, without rows after `last_step`."""
        from pyarrow import ArrowException, parquet  # noqa: PLC0415 - optional

        tables: Tables = {}
        for file in sorted((self.path / "results").glob("*.parquet")):
            try:
                with file.open("rb") as stored:
                    rows = parquet.read_table(stored).to_pylist()
            except (OSError, ArrowException) as error:
                raise ConfigError(f"{file}: cannot be read as Parquet ({type(error).__name__})") from None
            tables[file.stem] = [row for row in rows if last_step is None or row["step"] <= last_step]
        return tables

    def save_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Writes NAME.json."""
        write_file(self.path / f"{name}.json", json.dumps(value, indent=1, allow_nan=False).encode())

    def load_json(self, name: str) -> dict[str, Any] | None:
        """The content of NAME.json; None when there is none."""
        path = self.path / f"{name}.json"
        try:
            read = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            raise ConfigError(f"{path}: is not JSON; was it edited?") from None
        return read if isinstance(read, dict) else None

    def save_text(self, name: str, text: str) -> None:
        """Writes the file NAME; characters that are no Unicode are escaped."""
        write_file(self.path / name, text.encode(errors="backslashreplace"))

    def save_plot(self, name: str, image: bytes) -> None:
        """Writes plots/NAME.png."""
        write_file(self._folder("plots") / f"{name}.png", image)

    @property
    def events(self) -> Path:
        """Folder of the TensorBoard events."""
        return self.path / "events"

    def _checkpoint(self, step: int) -> Path:
        return self._folder("checkpoints") / f"step-{step:08d}.safetensors"

    def _folder(self, name: str) -> Path:
        folder = self.path / name
        folder.mkdir(exist_ok=True)
        return folder

    def _describe(self, description: Mapping[str, Any]) -> None:
        write_file(self.path / DESCRIPTION, yaml.safe_dump(dict(description), sort_keys=False).encode())


def _encodable(folder: Path) -> Path:
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{folder}: the name of a run's folder must be text in UTF-8; choose another") from None
    return folder


def fingerprint(matrix: NDArray[np.float32], schema: FeatureSchema) -> str:
    """SHA-256 of training records and of what their columns mean, hexadecimal."""
    digest = sha256(json.dumps(schema.to_dict(), sort_keys=True).encode())
    digest.update(repr(matrix.shape).encode())
    digest.update(matrix.tobytes())
    return digest.hexdigest()


def _require_extra() -> None:
    """Raises `ConfigError` that says what to install when the extra `training` is missing."""
    for name in NEEDED:
        try:
            import_module(name)
        except ImportError:
            raise ConfigError(
                f"run directories need {name}; install the extra: pip install 'stream-detector[training]'"
            ) from None


def _new_folder(parent: Path, name: str) -> Path:
    """`parent`/`name`, with a number behind it where two runs start in the same second."""
    for suffix in ("", *(f"-{number}" for number in range(2, 1000))):
        try:
            (parent / f"{name}{suffix}").mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise ConfigError(f"{parent}: no run directory can be made there ({error.strerror})") from None
        return parent / f"{name}{suffix}"
    raise ConfigError(f"{parent}: holds a thousand runs called {name}; give another folder")


def _environment() -> dict[str, str | int]:
    packages = {name: version(name) for name in ("stream-detector", "torch", "numpy")}
    return {
        **packages,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count() or 1,
        "torch_threads": torch.get_num_threads(),
    }


def _save(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    with replacing(path) as partial:
        try:
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial, metadata)
        except SafetensorError as error:  # as for any other file that cannot be written
            raise OSError(str(error)) from None


def _load(path: Path) -> tuple[dict[str, Tensor], int]:
    """Tensors and step of a file."""
    try:
        with safe_open(path, framework="pt") as file:
            step = (file.metadata() or {}).get("step", "")
        if re.fullmatch(r"[0-9]{1,9}", step):
            return load_file(path), int(step)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such checkpoint") from None
    except (SafetensorError, OSError):
        pass
    raise ConfigError(f"{path}: is damaged, or no checkpoint of a run; start a new run")
