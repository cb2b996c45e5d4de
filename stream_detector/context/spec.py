"""What a context is made of: everything that its columns depend on besides the log and the model."""

import json
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256

from stream_detector.errors import ConfigError
from stream_detector.records.event_times import NO_TIME

__all__ = ["HOURS", "NO_TIME", "RECENT", "WEEKDAYS", "ContextSpec"]
HOURS = 24  # slots of a day
WEEKDAYS = 7
RECENT = 8  # values kept of each feature
SECOND = 1_000_000_000  # nanoseconds


@dataclass(frozen=True, slots=True)
class ContextSpec:
    """The specification of a context. Two contexts of one specification and one log are equal to the bit.

    `epoch` and `history` count offsets: the records of offsets [k epoch, (k + 1) epoch) meet a table that
    was empty at k epoch - history. Times are in nanoseconds. Raises `ConfigError`.
    """

    features: tuple[str, ...]
    entity_path: str | None = None
    time_path: str | None = None
    zone: str = "UTC"
    zone_data: str = ""  # the release of the time zone database; empty for UTC
    epoch: int = 1_000_000
    history: int = 200_000
    memory: int = 24 * 3_600 * SECOND  # after so long half of what is usual has been learnt anew
    memory_records: int = 1_000  # the same, where records have no time
    horizons: tuple[int, int, int] = (3, 8, 32)  # records that the means look back; two within the values kept
    clip: float = 30.0  # spreads beyond which a value teaches no more than the limit
    grace: int = 60 * SECOND  # a record older than the newest of its entity by more is late
    cap: int = 3_600 * SECOND  # the most that one record moves its entity's clock
    tolerance: int = 60 * SECOND  # an event time may lie so far beyond Kafka's timestamp
    most_entities: int = 5_000

    def __post_init__(self) -> None:
        object.__setattr__(self, "horizons", tuple(self.horizons))  # JSON has lists
        if not 0 < self.history <= self.epoch:
            raise ConfigError(
                f"context.history is {self.history}, context.epoch {self.epoch}: a history lies between 1 and an epoch"
            )
        short, medium, long = self.horizons
        if not 1 < short < medium <= min(RECENT, long - 1):
            raise ConfigError(
                f"context.horizons is {[*self.horizons]}: give three ascending ones of 2 or more, "
                f"of which the second is {RECENT} at most"
            )
        if self.most_entities < 1:
            raise ConfigError(f"context.most_entities is {self.most_entities}; keep 1 entity at least")

    @property
    def hash(self) -> str:
        """Names the specification: 16 hexadecimal digits, the same on every machine."""
        return _hash(self)

    def start(self, offset: int) -> int:
        """The offset that a reader begins at, so that it knows the context of the record at `offset`."""
        return max(0, offset // self.epoch * self.epoch - self.history)

    def whole_from(self, low: int) -> int:
        """The first offset whose context is known to a reader of a log that begins at `low`."""
        return -(-(low + self.history) // self.epoch) * self.epoch if low else 0


@cache
def _hash(spec: ContextSpec) -> str:
    """Made once: every alert tells it."""
    return sha256(json.dumps(asdict(spec), sort_keys=True).encode()).hexdigest()[:16]
