"""Three real brokers that replicate everything, each to be stopped by itself."""

import socket
import threading

from stream_detector.kafka.embedded import EmbeddedBroker

ID = "AbCdEfGhIjKlMnOpQrStUg"
REPLICATED = {
    "offsets.topic.replication.factor": 3,
    "transaction.state.log.replication.factor": 3,
    "transaction.state.log.min.isr": 2,
    "share.coordinator.state.topic.replication.factor": 3,
    "min.insync.replicas": 2,
    "controlled.shutdown.enable": True,
    "broker.session.timeout.ms": 6_000,
}


def free_ports(count):
    """Ports that can be bound now, all different."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Cluster:
    """A context manager; `bootstrap_servers` names all three."""

    def __init__(self):
        ports, controllers = free_ports(3), free_ports(3)
        voters = ",".join(f"{at + 1}@127.0.0.1:{port}" for at, port in enumerate(controllers))
        self.bootstrap_servers = ",".join(f"127.0.0.1:{port}" for port in ports)
        self.brokers = [
            EmbeddedBroker(
                port,
                REPLICATED
                | {
                    "node.id": at + 1,
                    "controller.quorum.voters": voters,
                    "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
                },
                cluster_id=ID,
            )
            for at, (port, controller) in enumerate(zip(ports, controllers, strict=True))
        ]
        self._left = threading.Event()

    def __enter__(self):
        started = [threading.Event() for _ in self.brokers]
        for broker, event in zip(self.brokers, started, strict=True):
            threading.Thread(target=self._start, args=(broker, event), daemon=True).start()
        for event in started:
            assert event.wait(180), "a broker does not start"
        return self

    def _start(self, broker, started):
        """A broker serves only once a second one is there, and lives no longer than the thread that started it."""
        broker.start()
        started.set()
        self._left.wait()

    def __exit__(self, *_):
        for broker in self.brokers:
            broker.stop()
        self._left.set()
