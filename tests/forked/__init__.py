"""Python programs that begin with everything imported, for tests that run programs as users do.

Importing torch and mmdetection takes seconds in every process. Here one process imports them once,
and forks for each program. ``python()`` is a command to be used in place of ``sys.executable``:

    subprocess.run([python(), "tools/train.py", ...], cwd=folder, env=environment)

``server.py`` is the process that forks, ``client.py`` the command: it hands its arguments,
environment, working folder and file descriptors over, passes signals on, and ends as the program
ends. See ``server.py`` for what is as in a process of one's own and what is not.
"""

from __future__ import annotations

from tests.forked.command import python

__all__ = ["python"]
