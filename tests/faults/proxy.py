"""A TCP proxy before a broker that loses a connection at a moment of one's choice."""

import socket
import struct
import threading

END_TXN, OFFSETS = 26, 28  # Kafka's numbers for the request that commits or aborts, and for the one before it


class Proxy:
    """Forwards to `target` port; `cut` more connections break before the answer to a `request` comes through.

    The broker has executed the request by then; the client never hears of it.
    """

    def __init__(self, request=END_TXN):
        self.request = request
        self.cut = 0
        self.target = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            lost = threading.Event()
            threading.Thread(target=self._requests, args=(client, broker, lost), daemon=True).start()
            threading.Thread(target=self._answers, args=(broker, client, lost), daemon=True).start()

    def _requests(self, client, broker, lost):
        try:
            while head := self._exactly(client, 4):
                body = self._exactly(client, struct.unpack(">i", head)[0])
                if self.cut and struct.unpack_from(">h", body)[0] == self.request:
                    self.cut -= 1
                    lost.set()
                broker.sendall(head + body)
        except OSError:
            pass
        broker.close()

    @staticmethod
    def _answers(broker, client, lost):
        try:
            while (chunk := broker.recv(65_536)) and not lost.is_set():
                client.sendall(chunk)
        except OSError:
            pass
        client.close()

    @staticmethod
    def _exactly(end, count):
        data = b""
        while len(data) < count:
            chunk = end.recv(count - len(data))
            if not chunk:
                return b""
            data += chunk
        return data
