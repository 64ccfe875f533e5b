import os
import sys

from nova.engine.main import main

status = main()
sys.stdout.flush()
sys.stderr.flush()
os._exit(status)  # threads blocked inside a transport must not keep a finished engine alive
