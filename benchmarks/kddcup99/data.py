"""KDDCUP99, the 10 % file, in file order: 494,021 connections, each normal or one of 22 attacks."""

import gzip
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from producers.feed import Message
from producers.replay import Selection, messages
from stream_detector.config import RecordConfig
from stream_detector.errors import DataError
from stream_detector.tables.reading import open_table

__all__ = ["Kdd", "load"]

FILE = Path("kddcup99") / "kddcup.data_10_percent.gz"
TRAINING = 30_000  # the first records labelled normal
CATEGORIES = ("protocol_type", "service", "flag")
LABEL = "label"
COLUMNS = (
    *("duration", "protocol_type", "service", "flag", "src_bytes", "dst_bytes", "land", "wrong_fragment", "urgent"),
    *("hot", "num_failed_logins", "logged_in", "num_compromised", "root_shell", "su_attempted", "num_root"),
    *("num_file_creations", "num_shells", "num_access_files", "num_outbound_cmds", "is_host_login", "is_guest_login"),
    *("count", "srv_count", "serror_rate", "srv_serror_rate", "rerror_rate", "srv_rerror_rate", "same_srv_rate"),
    *("diff_srv_rate", "srv_diff_host_rate", "dst_host_count", "dst_host_srv_count", "dst_host_same_srv_rate"),
    *("dst_host_diff_srv_rate", "dst_host_same_src_port_rate", "dst_host_srv_diff_host_rate"),
    *("dst_host_serror_rate", "dst_host_srv_serror_rate", "dst_host_rerror_rate", "dst_host_srv_rerror_rate"),
    LABEL,
)


@dataclass(frozen=True)
class Kdd:
    """The data set on disk: `labels` of all rows, and which of them are for training."""

    path: Path
    labels: NDArray[np.str_]
    training: NDArray[np.bool_]

    @property
    def replayed(self) -> NDArray[np.int64]:
        """Row numbers of all records that are not for training, ascending."""
        return np.flatnonzero(~self.training)

    def training_rows(self) -> list[dict[str, float | str | None]]:
        """Features of the training records; labels withheld."""
        last = int(np.flatnonzero(self.training)[-1])
        table = islice(open_table(self.path, CATEGORIES, COLUMNS).rows, last + 1)
        chosen = (row for number, row in enumerate(table) if self.training[number])
        return [{name: value for name, value in row.items() if name != LABEL} for row in chosen]

    def telemetry(self) -> Iterator[Message]:
        """Keys and values of the replayed records, in file order; labels withheld, ids are row numbers."""
        table = open_table(self.path, CATEGORIES, COLUMNS).rows
        everything = messages(table, Selection(drop=frozenset({LABEL})), RecordConfig())
        return (message for number, message in enumerate(everything) if not self.training[number])


def load() -> Kdd:
    """The data set below STREAM_DETECTOR_DATA (default: ../shared/data). Raises `DataError` when it is not there."""
    path = Path(os.environ.get("STREAM_DETECTOR_DATA", "../shared/data")) / FILE
    if not path.is_file():
        raise DataError(
            f"{path.absolute()} is missing: set STREAM_DETECTOR_DATA to a folder that holds {FILE} "
            "(KDD Cup 1999, from the UCI KDD archive)"
        )
    with gzip.open(path, "rt", encoding="ascii") as file:
        labels = np.array([line.rsplit(",", 1)[1].rstrip(".\n") for line in file])
    normal = labels == "normal"
    return Kdd(path, labels, normal & (np.cumsum(normal) <= TRAINING))
