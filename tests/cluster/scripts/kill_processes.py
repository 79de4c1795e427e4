"""kill -9 of the processes whose file in /proc (cmdline or environ) holds a word; not of the pod's first process."""

import os
import signal
import sys
from pathlib import Path

file, word = sys.argv[1:]
spared = {1, os.getpid()}
for folder in Path("/proc").glob("[0-9]*"):
    if int(folder.name) not in spared and word.encode() in (folder / file).read_bytes():
        os.kill(int(folder.name), signal.SIGKILL)
