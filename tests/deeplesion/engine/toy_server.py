"""A program that trains: it imports everything once, so that a training costs no import.

For each line of JSON that it reads it trains in a fork of itself.
"""

from __future__ import annotations

import json
import os
import sys
import traceback

from tests.deeplesion.engine.toy import train

INTERNAL_ERROR = 70


def serve() -> None:
    """Answer jobs by process ids, and process ids by how they ended."""
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            _, status = os.waitpid(order["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        if (child := os.fork()) == 0:
            code = INTERNAL_ERROR
            try:
                os.setpgid(0, 0)
                output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                nothing = os.open(os.devnull, os.O_RDONLY)
                for source, target in ((nothing, 0), (output, 1), (output, 2)):
                    os.dup2(source, target)
                sys.stdout, sys.stderr = (os.fdopen(number, "w", 1) for number in (1, 2))
                code = train(order)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(child, flush=True)


if __name__ == "__main__":
    serve()
