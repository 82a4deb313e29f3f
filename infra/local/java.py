"""Finds the Java runtime that the broker and Spark run on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache

from infra.local.failures import CannotStart

OLDEST_JAVA = 17
_WAY_OUT = (
    f"install a Java {OLDEST_JAVA}+ runtime (Debian: `apt install openjdk-17-jre-headless`) or point JAVA_HOME at one"
)


@cache
def java() -> str:
    """The path of a Java 17+ executable: that of JAVA_HOME, else the first on PATH. Raises CannotStart without one."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=os.path.join(home, "bin") if home else None)
    if found is None:
        where = f"JAVA_HOME ({home})" if home else "PATH"
        raise CannotStart(f"There is no Java in {where}; {_WAY_OUT}")
    told = subprocess.run([found, "-version"], capture_output=True, text=True, check=False, timeout=30)
    version = major_version(told.stderr + told.stdout)
    if version < OLDEST_JAVA:
        raise CannotStart(f"{found} is Java {version or 'of unknown version'}; {_WAY_OUT}")
    return found


def major_version(told: str) -> int:
    """The major version in what `java -version` prints; 0 when there is none. Java 8 calls itself 1.8."""
    found = re.search(r'version "(\d+)(?:\.(\d+))?', told)
    if found is None:
        return 0
    major = int(found[1])
    return int(found[2] or 0) if major == 1 else major
