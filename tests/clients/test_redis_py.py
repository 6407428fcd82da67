"""redis-py against the server, as an application uses it: both protocols, both tiers, pool, pipeline, scan, errors.

The server is the binary that TERRACE_BIN names, started here on a free port with a folder of its own.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import unittest

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


class Basics:
    """The tests; the classes below say on which tier and in which protocol they run."""

    server_args = ()
    protocol = 2

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.server_args)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def setUp(self):
        self.r = redis.Redis(port=self.server.port, protocol=self.protocol, decode_responses=True, socket_timeout=30)
        self.addCleanup(self.r.close)
        self.r.flushall()

    def test_strings(self):
        r = self.r
        self.assertIsNone(r.get("k"))
        self.assertTrue(r.set("k", "v"))
        self.assertEqual(r.get("k"), "v")
        self.assertIsNone(r.set("k", "w", nx=True))
        self.assertEqual(r.set("k", "w", get=True), "v")
        self.assertEqual(r.append("k", "xyz"), 4)
        self.assertEqual(r.getrange("k", 1, -1), "xyz")
        self.assertEqual(r.setrange("k", 2, "__"), 4)
        self.assertEqual(r.getdel("k"), "wx__")
        self.assertEqual(r.exists("k"), 0)

    def test_many(self):
        r = self.r
        self.assertTrue(r.mset({"a": 1, "b": 2}))
        self.assertEqual(r.mget("a", "b", "c"), ["1", "2", None])
        self.assertFalse(r.msetnx({"b": 3, "c": 3}))
        self.assertEqual(r.delete("a", "b", "c"), 2)

    def test_binary_values_come_back_unchanged(self):
        with redis.Redis(port=self.server.port, protocol=self.protocol) as raw:
            value = bytes(range(256)) * 8192
            raw.set(b"\x00\xff\r\n", value)
            self.assertEqual(raw.get(b"\x00\xff\r\n"), value)

    def test_counters(self):
        r = self.r
        self.assertEqual(r.incr("n"), 1)
        self.assertEqual(r.incrby("n", 41), 42)
        self.assertEqual(r.decr("n", 2), 40)
        self.assertEqual(r.incrbyfloat("f", 0.5), 0.5)
        r.set("s", "text")
        with self.assertRaisesRegex(redis.ResponseError, "value is not an integer or out of range"):
            r.incr("s")

    def test_bits(self):
        r = self.r
        self.assertEqual(r.setbit("b", 7, 1), 0)
        self.assertEqual(r.getbit("b", 7), 1)
        self.assertEqual(r.bitcount("b"), 1)
        self.assertEqual(r.bitpos("b", 1), 7)
        self.assertEqual(r.bitfield("b").get("u8", 0).incrby("u8", 0, 1).execute(), [1, 2])

    def test_expiry(self):
        r = self.r
        r.set("k", "v", ex=100)
        self.assertIn(r.ttl("k"), (99, 100))
        self.assertTrue(r.persist("k"))
        self.assertEqual(r.ttl("k"), -1)
        self.assertTrue(r.expire("k", 200, nx=True))
        self.assertFalse(r.expire("k", 300, nx=True))
        r.pexpire("k", 20)
        time.sleep(0.06)
        self.assertIsNone(r.get("k"))
        self.assertEqual(r.ttl("k"), -2)

    def test_keys(self):
        r = self.r
        for i in range(300):
            r.set(f"key:{i}", i)
        r.set("other", "x")
        self.assertEqual(set(r.scan_iter(match="key:*", count=20)), {f"key:{i}" for i in range(300)})
        self.assertEqual(r.dbsize(), 301)
        self.assertEqual(r.type("other"), "string")
        self.assertTrue(r.rename("other", "renamed"))
        self.assertTrue(r.copy("renamed", "copied"))
        self.assertEqual(sorted(r.keys("*ed")), ["copied", "renamed"])
        self.assertEqual(r.object("encoding", "copied"), "embstr")
        self.assertEqual(r.unlink("renamed", "copied", "gone"), 2)

    def test_pipeline_without_transaction(self):
        pipe = self.r.pipeline(transaction=False)
        for i in range(1000):
            pipe.set(f"k:{i}", i)
        pipe.get("k:0").get("k:999").execute_command("NOSUCH")
        replies = pipe.execute(raise_on_error=False)
        self.assertEqual(len(replies), 1003)
        self.assertEqual(replies[1000:1002], ["0", "999"])
        self.assertIsInstance(replies[1002], redis.ResponseError)

    def test_databases(self):
        self.r.set("k", "zero")
        with redis.Redis(port=self.server.port, db=5, protocol=self.protocol, decode_responses=True) as five:
            self.assertIsNone(five.get("k"))
            five.set("k", "five")
        self.assertEqual(self.r.get("k"), "zero")

    def test_client_and_server_commands(self):
        r = self.r
        self.assertTrue(r.client_setname("me"))
        self.assertEqual(r.client_getname(), "me")
        self.assertGreater(r.client_id(), 0)
        self.assertIn("me", [c["name"] for c in r.client_list()])
        info = r.info()
        self.assertTrue(info["redis_version"].startswith("7."))
        self.assertEqual(r.info("keyspace"), {})
        r.set("k", "v")
        self.assertEqual(r.info("keyspace")["db0"]["keys"], 1)
        self.assertIn("maxmemory", r.config_get("maxmemory"))
        self.assertEqual(len(r.time()), 2)
        self.assertIn("get", r.command())
        self.assertEqual(r.echo("hi"), "hi")

    def test_threads_share_a_pool(self):
        errors = []

        def work(number):
            try:
                for _ in range(200):
                    self.r.incr("shared")
                    self.r.incr(f"own:{number}")
            except Exception as e:  # reported by the main thread
                errors.append(e)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(errors, [])
        self.assertEqual(self.r.get("shared"), "1600")
        self.assertEqual(self.r.get("own:7"), "200")


class DurableResp2(Basics, unittest.TestCase):
    pass


class DurableResp3(Basics, unittest.TestCase):
    protocol = 3


class MemoryResp2(Basics, unittest.TestCase):
    server_args = ("--range", "default", "*", "memory")


class Password(unittest.TestCase):
    def test_requirepass(self):
        server = Server("--requirepass", "secret")
        self.addCleanup(server.stop)
        for protocol in (2, 3):
            with redis.Redis(port=server.port, password="secret", protocol=protocol, retry=once()) as client:
                self.assertTrue(client.ping())
            with redis.Redis(port=server.port, password="wrong", protocol=protocol, retry=once()) as client:
                with self.assertRaises(redis.AuthenticationError):
                    client.ping()
        with redis.Redis(port=server.port, retry=once()) as client:
            with self.assertRaisesRegex(redis.AuthenticationError, "Authentication required"):
                client.get("k")


if __name__ == "__main__":
    unittest.main()
