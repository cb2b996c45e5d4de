"""Options for the JVMs of tests: classes are taken from an archive, and code is compiled without the optimiser.

A broker started so takes a third of the CPU time. The archive is made by the first run on a machine and checked by
the JVM itself: with another Java, or other jars, there is another one.
"""

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from stream_detector.kafka.embedded import EmbeddedBroker
from stream_detector.kafka.jvm import java

VARIABLE = "JDK_JAVA_OPTIONS"
QUICK = "-XX:TieredStopAtLevel=1"


def options(folder: Path) -> str:
    """What `JDK_JAVA_OPTIONS` is to hold; archives are kept in `folder`."""
    binary, *rest = java()
    version = subprocess.run([binary, "-version"], capture_output=True, check=True).stderr
    edition = hashlib.sha256(version + "\0".join(rest).encode()).hexdigest()[:12]
    base, classes = folder / f"{edition}-base.jsa", folder / f"{edition}-kafka.jsa"
    if not classes.exists():
        _make(binary, base, classes)
    return f"{QUICK} -XX:SharedArchiveFile={base}{os.pathsep}{classes}" if classes.exists() else QUICK


def _make(binary: str, base: Path, classes: Path) -> None:
    """Archives the classes of Java itself, then those that a broker loads from its start to its end."""
    with tempfile.TemporaryDirectory(dir=base.parent) as folder:
        partial = Path(folder) / "classes"
        command = [binary, "-Xshare:dump", f"-XX:SharedArchiveFile={folder}/base"]
        subprocess.run(command, capture_output=True, check=True)
        (Path(folder) / "base").replace(base)  # the other names it
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(VARIABLE, f"{QUICK} -XX:SharedArchiveFile={base} -XX:ArchiveClassesAtExit={partial}")
            with EmbeddedBroker():
                pass
        if partial.exists():
            partial.replace(classes)
