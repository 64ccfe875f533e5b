"""`python enter.py FILE COMMAND...`: join the control group whose file of process ids that is, and become COMMAND.

A process of its own, because only a process that has joined starts children that are all in the group.
"""

import os
import sys
from pathlib import Path

Path(sys.argv[1]).write_text(str(os.getpid()), encoding="ascii")
os.execvp(sys.argv[2], sys.argv[2:])
