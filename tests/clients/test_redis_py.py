"""redis-py against the server, as an application uses it: both protocols, both tiers, pool, pipeline, scan, errors."""

import os
import sys
import threading
import time
import unittest

import redis

sys.path.insert(0, os.path.dirname(__file__))
from server import Server, once


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

    def test_publish_and_subscribe(self):
        r = self.r
        with r.pubsub() as heard:
            heard.subscribe("news", "sport")
            heard.psubscribe("n*")
            kinds = [heard.get_message(timeout=5)["type"] for _ in range(3)]
            self.assertEqual(kinds, ["subscribe", "subscribe", "psubscribe"])
            self.assertEqual(r.publish("news", "one"), 2)
            self.assertEqual(r.publish("sport", "two"), 1)
            self.assertEqual(r.publish("nobody", "three"), 1)
            got = [heard.get_message(timeout=5) for _ in range(4)]
            got = sorted((m["type"], m["channel"], m["data"]) for m in got)
            self.assertEqual(
                got,
                [
                    ("message", "news", "one"),
                    ("message", "sport", "two"),
                    ("pmessage", "news", "one"),
                    ("pmessage", "nobody", "three"),
                ],
            )
            self.assertEqual(sorted(r.pubsub_channels()), ["news", "sport"])
            self.assertEqual(dict(r.pubsub_numsub("news", "x")), {"news": 1, "x": 0})
            self.assertEqual(r.pubsub_numpat(), 1)
            if self.protocol == 2:
                # In RESP3 the answer is an ordinary reply, which get_message cannot tell from a message.
                heard.ping()
                self.assertEqual(heard.get_message(timeout=5)["type"], "pong")
            heard.unsubscribe()
            heard.punsubscribe()
            kinds = sorted(heard.get_message(timeout=5)["type"] for _ in range(3))
            self.assertEqual(kinds, ["punsubscribe", "unsubscribe", "unsubscribe"])
        self.assertEqual(r.publish("news", "nobody hears"), 0)

    def test_handlers_in_a_thread_of_their_own(self):
        heard = []
        with self.r.pubsub(ignore_subscribe_messages=True) as pubsub:
            pubsub.subscribe(room=lambda message: heard.append(message["data"]))
            thread = pubsub.run_in_thread(sleep_time=0.01)
            for i in range(500):
                while self.r.publish("room", i) == 0:
                    time.sleep(0.01)
            deadline = time.monotonic() + 10
            while len(heard) < 500 and time.monotonic() < deadline:
                time.sleep(0.01)
            thread.stop()
            thread.join()
        self.assertEqual(heard, [str(i) for i in range(500)])

    def test_values_of_a_key(self):
        self.r.set("watched", "one")
        with self.r.pubsub(ignore_subscribe_messages=True) as heard:
            heard.subscribe("__keyvalue@0__:watched")
            self.r.append("watched", "two")
            self.r.delete("watched")
            got = []
            deadline = time.monotonic() + 10
            while len(got) < 3 and time.monotonic() < deadline:
                message = heard.get_message(timeout=1)
                if message:
                    line, _, value = message["data"].partition("\n")
                    event, _, what = line.split(" ")
                    got.append((event, what, value))
        expected = [("now", "value", "one"), ("append", "value", "onetwo"), ("del", "gone", "")]
        self.assertEqual(got, expected)

    def test_a_cache_in_the_client_is_told_of_changes(self):
        if self.protocol == 2:
            self.skipTest("the library caches in RESP3 alone")
        try:
            from redis.cache import CacheConfig
        except ImportError:
            self.skipTest("this redis-py does not cache")
        with redis.Redis(
            port=self.server.port, protocol=3, decode_responses=True, cache_config=CacheConfig()
        ) as cached:
            try:
                cached.ping()
            except redis.ConnectionError as error:
                self.skipTest(f"redis-py does not cache here: {error}")
            self.r.set("k", "one")
            for _ in range(3):
                self.assertEqual(cached.get("k"), "one")
            self.assertEqual(cached.get_cache().size, 1)
            self.r.set("k", "two")
            deadline = time.monotonic() + 10
            while cached.get("k") != "two" and time.monotonic() < deadline:
                time.sleep(0.01)
            self.assertEqual(cached.get("k"), "two")
            self.r.flushall()
            while cached.get("k") is not None and time.monotonic() < deadline:
                time.sleep(0.01)
            self.assertIsNone(cached.get("k"))

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

    def pairs(self, reply):
        """Members with scores: tuples in RESP2, lists in RESP3."""
        return [(member, float(score)) for member, score in reply]

    def test_lists(self):
        r = self.r
        self.assertEqual(r.rpush("l", "a", "b", "c"), 3)
        self.assertEqual(r.lpush("l", "z"), 4)
        self.assertEqual(r.lrange("l", 0, -1), ["z", "a", "b", "c"])
        self.assertEqual(r.lindex("l", -1), "c")
        self.assertEqual(r.linsert("l", "BEFORE", "b", "x"), 5)
        self.assertEqual(r.lpos("l", "b"), 3)
        self.assertTrue(r.lset("l", 0, "y"))
        self.assertEqual(r.lrem("l", 1, "x"), 1)
        self.assertEqual(r.lpop("l"), "y")
        self.assertEqual(r.rpop("l", 2), ["c", "b"])
        self.assertEqual(r.lmove("l", "m", "LEFT", "RIGHT"), "a")
        self.assertEqual(r.exists("l"), 0)
        r.rpush("m", *range(2000))
        self.assertEqual(r.llen("m"), 2001)
        self.assertTrue(r.ltrim("m", 1, 1000))
        self.assertEqual(r.lrange("m", 500, 501), ["500", "501"])
        self.assertEqual(r.lmpop(2, "none", "m", direction="LEFT", count=2), ["m", ["0", "1"]])
        with self.assertRaisesRegex(redis.ResponseError, "WRONGTYPE"):
            r.get("m")

    def test_blocking_pops(self):
        r = self.r
        self.assertIsNone(r.blpop("queue", timeout=0.05))
        got = []
        with redis.Redis(port=self.server.port, protocol=self.protocol, decode_responses=True) as other:
            waiting = threading.Thread(target=lambda: got.append(other.blpop(["first", "queue"], timeout=30)))
            waiting.start()
            time.sleep(0.1)
            r.rpush("queue", "job")
            waiting.join(30)
        self.assertEqual([list(reply) for reply in got], [["queue", "job"]])
        self.assertEqual(r.exists("queue"), 0)
        r.zadd("z", {"m": 1})
        key, member, score = r.bzpopmin("z", timeout=1)
        self.assertEqual((key, member, float(score)), ("z", "m", 1.0))

    def test_hashes(self):
        r = self.r
        self.assertEqual(r.hset("h", "f", "v"), 1)
        self.assertEqual(r.hset("h", mapping={"f": "w", "n": 1}), 1)
        self.assertEqual(r.hgetall("h"), {"f": "w", "n": "1"})
        self.assertEqual(r.hincrby("h", "n", 41), 42)
        self.assertEqual(r.hincrbyfloat("h", "x", 0.5), 0.5)
        self.assertEqual(r.hmget("h", "f", "none"), ["w", None])
        self.assertFalse(r.hsetnx("h", "f", "other"))
        self.assertEqual(sorted(r.hkeys("h")), ["f", "n", "x"])
        self.assertEqual(r.hdel("h", "f", "x"), 2)
        self.assertEqual(r.hlen("h"), 1)
        r.hset("large", mapping={f"field:{i}": i for i in range(2000)})
        self.assertEqual(dict(r.hscan_iter("large", count=50)), {f"field:{i}": str(i) for i in range(2000)})
        self.assertEqual(r.object("encoding", "large"), "hashtable")
        self.assertIn(r.hrandfield("large"), r.hkeys("large"))
        self.assertEqual(len(r.hrandfield("large", 5)), 5)

    def test_sets(self):
        r = self.r
        self.assertEqual(r.sadd("a", 1, 2, 3), 3)
        self.assertEqual(r.object("encoding", "a"), "intset")
        self.assertEqual(r.sadd("b", 2, 3, 4, "five"), 4)
        self.assertEqual(set(r.smembers("a")), {"1", "2", "3"})
        self.assertEqual(set(r.sinter("a", "b")), {"2", "3"})
        self.assertEqual(set(r.sunion("a", "b")), {"1", "2", "3", "4", "five"})
        self.assertEqual(set(r.sdiff("b", "a")), {"4", "five"})
        self.assertEqual(r.sinterstore("c", "a", "b"), 2)
        self.assertEqual(r.sintercard(2, ["a", "b"], limit=1), 1)
        self.assertEqual([bool(there) for there in r.smismember("a", ["1", "9"])], [True, False])
        self.assertTrue(r.smove("b", "a", "five"))
        self.assertIn(r.srandmember("a"), {"1", "2", "3", "five"})
        self.assertEqual(r.srem("a", "five", "none"), 1)
        self.assertIn(r.spop("c"), {"2", "3"})
        r.sadd("large", *(f"member:{i}" for i in range(2000)))
        self.assertEqual(set(r.sscan_iter("large", count=50)), {f"member:{i}" for i in range(2000)})
        self.assertEqual(len(r.spop("large", 1500)), 1500)
        self.assertEqual(r.scard("large"), 500)

    def test_sorted_sets(self):
        r = self.r
        self.assertEqual(r.zadd("z", {"a": 1, "b": 2.5, "c": 3}), 3)
        self.assertEqual(r.zadd("z", {"a": 0}, gt=True, ch=True), 0)
        self.assertEqual(r.zscore("z", "b"), 2.5)
        self.assertEqual(r.zincrby("z", 2, "a"), 3.0)
        self.assertEqual(r.zrange("z", 0, -1), ["b", "a", "c"])
        self.assertEqual(self.pairs(r.zrange("z", 0, 0, withscores=True)), [("b", 2.5)])
        self.assertEqual(r.zrange("z", "(2.5", "+inf", byscore=True, offset=0, num=1), ["a"])
        self.assertEqual(r.zrange("z", 0, 0, desc=True), ["c"])
        self.assertEqual((r.zrank("z", "c"), r.zrevrank("z", "c"), r.zrank("z", "none")), (2, 0, None))
        self.assertEqual(r.zcount("z", 3, "+inf"), 2)
        self.assertEqual(r.zmscore("z", ["a", "none"]), [3.0, None])
        r.zadd("y", {"c": 1, "d": 1})
        self.assertEqual(r.zunionstore("u", {"z": 1, "y": 10}, aggregate="SUM"), 4)
        self.assertEqual(r.zscore("u", "c"), 13.0)
        self.assertEqual(r.zinter(["z", "y"]), ["c"])
        self.assertEqual(r.zdiff(["z", "y"]), ["b", "a"])
        self.assertEqual(self.pairs(r.zpopmin("z", 1)), [("b", 2.5)])
        self.assertEqual(self.pairs(r.zpopmax("z", 2)), [("c", 3.0), ("a", 3.0)])
        r.zadd("large", {f"member:{i:05}": i for i in range(3000)})
        self.assertEqual(r.zrank("large", "member:01234"), 1234)
        self.assertEqual(r.zrange("large", 2998, -1), ["member:02998", "member:02999"])
        self.assertEqual(r.zremrangebyscore("large", 0, 999), 1000)
        self.assertEqual(len(dict(r.zscan_iter("large", count=100))), 2000)

    def test_streams(self):
        r = self.r
        first = r.xadd("x", {"n": 1}, id="1-1")
        self.assertEqual(first, "1-1")
        second = r.xadd("x", {"n": 2, "m": 3})
        self.assertEqual(r.xlen("x"), 2)
        self.assertEqual([list(entry) for entry in r.xrange("x")], [["1-1", {"n": "1"}], [second, {"n": "2", "m": "3"}]])
        self.assertEqual(len(r.xrevrange("x", count=1)), 1)
        self.assertTrue(r.xgroup_create("x", "g", id="0"))
        with self.assertRaisesRegex(redis.ResponseError, "BUSYGROUP"):
            r.xgroup_create("x", "g", id="0")
        self.assertTrue(r.xreadgroup("g", "alice", {"x": ">"}, count=1))
        self.assertTrue(r.xreadgroup("g", "bob", {"x": ">"}))
        pending = r.xpending("x", "g")
        self.assertEqual((pending["pending"], pending["min"], pending["max"]), (2, "1-1", second))
        self.assertEqual([c["consumer"] for c in r.xpending_range("x", "g", "-", "+", 10)], ["alice", "bob"])
        self.assertEqual(r.xack("x", "g", "1-1"), 1)
        claimed = r.xclaim("x", "g", "carol", 0, [second])
        self.assertEqual([entry[0] for entry in claimed], [second])
        self.assertEqual(r.xautoclaim("x", "g", "dave", 0)[1][0][0], second)
        self.assertEqual(r.xinfo_stream("x")["length"], 2)
        self.assertEqual({g["name"] for g in r.xinfo_groups("x")}, {"g"})
        self.assertEqual({c["name"] for c in r.xinfo_consumers("x", "g")}, {"alice", "bob", "carol", "dave"})
        for i in range(1000):
            r.xadd("x", {"i": i}, maxlen=100, approximate=False)
        self.assertEqual(r.xlen("x"), 100)
        self.assertEqual(r.xdel("x", second), 0)
        self.assertGreaterEqual(r.xtrim("x", maxlen=10, approximate=False), 90)

    def test_blocking_stream_reads(self):
        r = self.r
        self.assertFalse(r.xread({"x": "$"}, block=50))
        got = []
        with redis.Redis(port=self.server.port, protocol=self.protocol, decode_responses=True) as other:
            waiting = threading.Thread(target=lambda: got.append(other.xread({"x": "$"}, block=30000)))
            waiting.start()
            time.sleep(0.1)
            r.xadd("x", {"n": 7}, id="5-5")
            waiting.join(30)
        self.assertIn("5-5", str(got))

    def test_hyperloglogs(self):
        r = self.r
        self.assertEqual(r.pfadd("p", "a", "b", "c"), 1)
        self.assertEqual(r.pfadd("p", "a"), 0)
        self.assertEqual(r.pfcount("p"), 3)
        r.pfadd("q", *range(10000))
        self.assertAlmostEqual(r.pfcount("q"), 10000, delta=400)
        self.assertTrue(r.pfmerge("both", "p", "q"))
        self.assertAlmostEqual(r.pfcount("both"), r.pfcount("p", "q"), delta=0)

    def test_geo(self):
        r = self.r
        self.assertEqual(r.geoadd("g", (13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania")), 2)
        self.assertEqual(r.geodist("g", "Palermo", "Catania", "km"), 166.2742)
        self.assertEqual(r.geohash("g", "Palermo"), ["sqc8b49rny0"])
        lon, lat = r.geopos("g", "Catania")[0]
        self.assertAlmostEqual(float(lon), 15.087269, places=5)
        self.assertAlmostEqual(float(lat), 37.502669, places=5)
        near = dict(longitude=15, latitude=37, unit="km", sort="ASC")
        self.assertEqual(r.geosearch("g", radius=200, **near), ["Catania", "Palermo"])
        self.assertEqual(r.geosearch("g", width=200, height=200, **near), ["Catania"])
        self.assertEqual(r.geosearchstore("h", "g", radius=200, **near), 2)
        self.assertEqual(r.zcard("h"), 2)

    def test_sort(self):
        r = self.r
        r.rpush("l", 3, 1, 2)
        self.assertEqual(r.sort("l"), ["1", "2", "3"])
        self.assertEqual(r.sort("l", desc=True, start=0, num=1), ["3"])
        r.mset({"weight:1": 9, "weight:2": 8, "weight:3": 7, "name:1": "one", "name:2": "two", "name:3": "three"})
        self.assertEqual(r.sort("l", by="weight:*", get="name:*"), ["three", "two", "one"])
        self.assertEqual(r.sort("l", store="sorted"), 3)
        self.assertEqual(r.lrange("sorted", 0, -1), ["1", "2", "3"])

    def test_dump_and_restore(self):
        r = self.r
        r.rpush("l", "a", 1)
        r.hset("h", mapping={"f": "v"})
        r.sadd("s", "a", "b")
        r.zadd("z", {"a": 1.5})
        r.xadd("x", {"f": "v"}, id="1-1")
        with redis.Redis(port=self.server.port, protocol=self.protocol) as raw:
            for key in ("l", "h", "s", "z", "x"):
                payload = raw.dump(key)
                raw.restore(f"copy:{key}", 0, payload)
                with self.assertRaisesRegex(redis.ResponseError, "checksum"):
                    raw.restore("bad", 0, payload[:-1] + bytes([payload[-1] ^ 1]))
        self.assertEqual(r.lrange("copy:l", 0, -1), ["a", "1"])
        self.assertEqual(r.hgetall("copy:h"), {"f": "v"})
        self.assertEqual(set(r.smembers("copy:s")), {"a", "b"})
        self.assertEqual(r.zscore("copy:z", "a"), 1.5)
        self.assertEqual([list(entry) for entry in r.xrange("copy:x")], [["1-1", {"f": "v"}]])

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
        with redis.Redis(port=server.port, protocol=2, retry=once()) as client:
            with self.assertRaisesRegex(redis.AuthenticationError, "Authentication required"):
                client.get("k")


if __name__ == "__main__":
    unittest.main()
