"""The server that the Python tests run against: the binary that TERRACE_BIN names, on a free port with a folder of its own."""

import os
import shutil
import socket
import subprocess
import tempfile
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

START_MAX_SECONDS = 60


def once():
    """No retries: redis-py would also try again, for seconds, what a wrong password made fail."""
    return Retry(NoBackoff(), 0)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """One server process; `stop` ends it and removes its folder."""

    def __init__(self, *args):
        self.dir = tempfile.mkdtemp(prefix="terrace-py-")
        self.port = free_port()
        self.log = open(os.path.join(self.dir, "log"), "wb")
        data = os.path.join(self.dir, "data")
        os.mkdir(data)
        command = [os.environ["TERRACE_BIN"], "--port", str(self.port), "--bind", "127.0.0.1", "--dir", data, *args]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.wait()

    def wait(self):
        deadline = time.monotonic() + START_MAX_SECONDS
        while True:
            try:
                with redis.Redis(port=self.port, retry=once()) as client:
                    client.ping()
                return
            except redis.AuthenticationError:
                return  # a server with a password is up too
            except redis.RedisError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    with open(self.log.name, errors="replace") as log:
                        text = log.read()[-4000:]
                    self.stop()
                    raise RuntimeError(f"the server did not start; its log ends:\n{text}")
                time.sleep(0.02)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(START_MAX_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)
