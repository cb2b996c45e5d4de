"""The quixstreams peer, run by a Python that has quixstreams and river: ADDRESS GROUP TOPIC ALERTS RECORDS."""

import json
import sys
import time

from quixstreams import Application
from river.anomaly import HalfSpaceTrees, QuantileFilter

RATE = 0.001
WARM = 500  # records before the clock starts


def main(address: str, group: str, topic: str, alerts: str, records: int) -> None:
    """Scores and learns record by record, exactly-once; prints records a second of wall and of processor time."""
    app = Application(
        broker_address=address,
        consumer_group=group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=0.1,
        loglevel="ERROR",
    )
    trees = HalfSpaceTrees(
        n_trees=25, height=8, window_size=250, limits={f"feature_{at}": (0, 100) for at in range(16)}
    )
    detector = QuantileFilter(trees, q=1 - RATE)
    marks: list[tuple[int, float, float]] = []
    seen = 0

    def anomalous(record: dict) -> bool:
        nonlocal seen
        seen += 1
        if seen in {WARM, records}:
            marks.append((seen, time.perf_counter(), time.process_time()))
        score = detector.score_one(record["features"])
        detector.learn_one(record["features"])
        return detector.classify(score)

    stream = app.dataframe(app.topic(topic, value_deserializer="json"))
    stream = stream.filter(anomalous).apply(lambda record: {"event_id": record["id"], "flagged": True})
    stream.to_topic(app.topic(alerts, value_serializer="json"))
    app.run(count=records, timeout=60)
    first, last = marks
    count = last[0] - first[0]
    print(json.dumps({"wall": count / (last[1] - first[1]), "cpu": count / (last[2] - first[2])}))


if __name__ == "__main__":
    main(*sys.argv[1:5], int(sys.argv[5]))
