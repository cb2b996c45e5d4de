"""Workers as processes of their own, to be killed, stopped and told to end."""

import signal
import subprocess
import sys
import uuid

import yaml

RUN = "from stream_detector.cli import main; main()"


class Process:
    """`stream-detector run` in the background; its log goes to a file.

    `secrets` are sections' keys that a configuration does not show.
    """

    def __init__(self, config, slot, folder, *arguments, secrets=None):
        self.slot = slot
        self._log = folder / f"{slot}-{uuid.uuid4().hex[:6]}.log"
        self.path = folder / f"{slot}.yaml"
        sections = config.model_dump(mode="json", exclude={"kafka": {"sasl_password"}})
        sections["kafka"]["slot"] = slot
        for name, keys in (secrets or {}).items():
            sections[name] |= keys
        self.path.write_text(yaml.safe_dump(sections))
        command = [sys.executable, "-c", RUN, "run", "-c", str(self.path), *arguments]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    @property
    def log(self):
        return self._log.read_text()

    @property
    def code(self):
        """Its exit status; None while it runs."""
        return self._process.poll()

    def send(self, number):
        self._process.send_signal(number)

    def kill(self):
        self._process.kill()
        self._process.wait(10)

    def end(self):
        """Asks it to end, and returns its exit status."""
        self.send(signal.SIGTERM)
        return self._process.wait(40)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
