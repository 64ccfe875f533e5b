import os
import sys
import traceback

from nova.engine.main import main

status = 1
try:
    status = main()
except BaseException:  # the process edge: the exit below would leave no word of it
    traceback.print_exc()
    raise
finally:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        # Neither a plugin's threads, blocked or not, nor its exit handlers keep a finished engine alive; and MLX's
        # RDMA code crashes at the interpreter's exit while a receive is pending.
        os._exit(status)
