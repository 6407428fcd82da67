"""Small programs on Python frameworks that keep their state in Redis: each does its job, and what came of it is counted.

Job queues (rq, celery, dramatiq), caches (Django, dogpile.cache), sessions (Flask-Session), locks (redis-py, pottery).
"""

import os
import random
import sys
import threading
import time
import unittest

import redis

sys.path.insert(0, os.path.dirname(__file__))
from server import Server

JOBS = 60
WAIT_MAX_SECONDS = 60


def eventually(is_so):
    deadline = time.monotonic() + WAIT_MAX_SECONDS
    while time.monotonic() < deadline:
        if is_so():
            return True
        time.sleep(0.02)
    return False


class OnServer(unittest.TestCase):
    """One server for the tests of a class, with its keys on the durable tier."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.url = f"redis://127.0.0.1:{cls.server.port}/0"

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def setUp(self):
        self.r = redis.Redis(port=self.server.port, socket_timeout=30)
        self.addCleanup(self.r.close)
        self.r.flushall()


# ---- rq ----------------------------------------------------------------------------------------------------------

def square(n):
    return n * n


def fails_at_first(url, key):
    with redis.Redis.from_url(url) as r:
        if r.incr(key) < 3:
            raise ValueError("not yet")
    return "done"


def fails():
    raise RuntimeError("always")


class RqQueue(OnServer):
    def work(self, queues, **options):
        from rq import SimpleWorker
        from rq.timeouts import TimerDeathPenalty

        class Worker(SimpleWorker):
            death_penalty_class = TimerDeathPenalty

        Worker(queues, connection=self.r).work(burst=True, logging_level="ERROR", **options)

    def test_jobs_are_done_in_the_order_of_their_queues(self):
        from rq import Queue

        high, low = Queue("high", connection=self.r), Queue("low", connection=self.r)
        jobs = [low.enqueue(square, n) for n in range(JOBS)] + [high.enqueue(square, 1000)]
        self.assertEqual((len(low), len(high)), (JOBS, 1))
        self.work([high, low])
        self.assertEqual([job.return_value() for job in jobs], [n * n for n in range(JOBS)] + [1_000_000])
        for job in jobs:
            job.refresh()
        ended = [job.ended_at for job in jobs]
        self.assertEqual(min(ended), ended[-1])
        self.assertEqual((len(low), len(high)), (0, 0))

    def test_failures_are_tried_again_and_kept(self):
        from rq import Queue, Retry
        from rq.registry import FailedJobRegistry

        queue = Queue(connection=self.r)
        again = queue.enqueue(fails_at_first, self.url, "tries", retry=Retry(max=5))
        lost = queue.enqueue(fails)
        self.work([queue])
        self.assertEqual((again.get_status(refresh=True).value, again.return_value()), ("finished", "done"))
        self.assertEqual(lost.get_status(refresh=True).value, "failed")
        self.assertEqual(FailedJobRegistry(queue=queue).get_job_ids(), [lost.id])

    def test_jobs_wait_for_others_and_for_their_time(self):
        from datetime import timedelta

        from rq import Queue

        queue = Queue(connection=self.r)
        first = queue.enqueue(square, 2)
        second = queue.enqueue(square, 3, depends_on=first)
        later = queue.enqueue_in(timedelta(seconds=1), square, 4)
        self.work([queue])
        self.assertEqual((first.return_value(), second.return_value(), later.return_value()), (4, 9, None))

        def done():
            self.work([queue], with_scheduler=False)
            return later.return_value() == 16

        from rq.scheduler import RQScheduler

        scheduler = RQScheduler([queue], connection=self.r)
        scheduler.acquire_locks()
        time.sleep(1.1)
        scheduler.enqueue_scheduled_jobs()
        self.assertTrue(eventually(done))


# ---- celery ------------------------------------------------------------------------------------------------------

class CeleryQueue(OnServer):
    def setUp(self):
        super().setUp()
        from celery import Celery
        from celery.contrib.testing.worker import start_worker

        app = Celery("jobs", broker=self.url, backend=self.url)
        app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=False, task_acks_late=True)
        tries = []

        @app.task(name="add")
        def add(a, b):
            return a + b

        @app.task(name="total")
        def total(numbers):
            return sum(numbers)

        @app.task(name="unsteady", bind=True, max_retries=5, default_retry_delay=0.05)
        def unsteady(task):
            tries.append(task.request.id)
            if len(tries) < 3:
                raise task.retry()
            return len(tries)

        @app.task(name="broken")
        def broken():
            raise KeyError("broken")

        self.add, self.total, self.unsteady, self.broken = add, total, unsteady, broken
        worker = start_worker(app, pool="threads", concurrency=4, perform_ping_check=False, loglevel="ERROR")
        worker.__enter__()
        self.addCleanup(app.close)
        self.addCleanup(worker.__exit__, None, None, None)

    def test_tasks_groups_chains_and_chords(self):
        from celery import chain, chord, group

        results = [self.add.delay(n, n) for n in range(JOBS)]
        self.assertEqual([result.get(timeout=WAIT_MAX_SECONDS) for result in results], [2 * n for n in range(JOBS)])
        together = group(self.add.s(n, 1) for n in range(10))()
        self.assertEqual(together.get(timeout=WAIT_MAX_SECONDS), list(range(1, 11)))
        one_by_one = chain(self.add.s(1, 2), self.add.s(10), self.add.s(100))()
        self.assertEqual(one_by_one.get(timeout=WAIT_MAX_SECONDS), 113)
        summed = chord((self.add.s(n, n) for n in range(20)), self.total.s())()
        self.assertEqual(summed.get(timeout=WAIT_MAX_SECONDS), 380)

    def test_retries_delays_and_failures(self):
        self.assertEqual(self.unsteady.delay().get(timeout=WAIT_MAX_SECONDS), 3)
        began = time.monotonic()
        self.assertEqual(self.add.apply_async((1, 1), countdown=1).get(timeout=WAIT_MAX_SECONDS), 2)
        self.assertGreater(time.monotonic() - began, 0.8)
        with self.assertRaises(KeyError):
            self.broken.delay().get(timeout=WAIT_MAX_SECONDS)


# ---- dramatiq ----------------------------------------------------------------------------------------------------

class DramatiqQueue(OnServer):
    def setUp(self):
        super().setUp()
        import dramatiq
        from dramatiq.brokers.redis import RedisBroker
        from dramatiq.results import Results
        from dramatiq.results.backends import RedisBackend

        self.broker = RedisBroker(url=self.url)
        self.broker.add_middleware(Results(backend=RedisBackend(url=self.url)))
        dramatiq.set_broker(self.broker)
        self.worker = dramatiq.Worker(self.broker, worker_timeout=100, worker_threads=4)
        self.addCleanup(self.broker.close)

    def test_each_message_is_handled_once(self):
        import dramatiq

        seen, lock = [], threading.Lock()

        @dramatiq.actor
        def note(n):
            with lock:
                seen.append(n)

        for n in range(200):
            note.send(n)
        self.worker.start()
        self.broker.join(note.queue_name, timeout=WAIT_MAX_SECONDS * 1000)
        self.worker.join()
        self.worker.stop()
        self.assertEqual(sorted(seen), list(range(200)))

    def test_results_retries_and_delays(self):
        import dramatiq

        tries = []

        @dramatiq.actor(store_results=True)
        def double(n):
            return 2 * n

        @dramatiq.actor(max_retries=5, min_backoff=20, max_backoff=50, store_results=True)
        def unsteady():
            tries.append(1)
            if len(tries) < 3:
                raise ValueError("not yet")
            return len(tries)

        self.worker.start()
        self.addCleanup(self.worker.stop)
        wait = {"block": True, "timeout": WAIT_MAX_SECONDS * 1000}
        self.assertEqual([message.get_result(**wait) for message in [double.send(n) for n in range(20)]], list(range(0, 40, 2)))
        self.assertEqual(double.send_with_options(args=(21,), delay=300).get_result(**wait), 42)
        self.assertEqual(unsteady.send().get_result(**wait), 3)

    def test_rate_limiters_count(self):
        from dramatiq.rate_limits import ConcurrentRateLimiter, WindowRateLimiter
        from dramatiq.rate_limits.backends import RedisBackend

        backend = RedisBackend(url=self.url)
        mutex = ConcurrentRateLimiter(backend, "mutex", limit=1)
        with mutex.acquire(raise_on_failure=False) as first, mutex.acquire(raise_on_failure=False) as second:
            self.assertEqual((first, second), (True, False))
        window = WindowRateLimiter(backend, "window", limit=5, window=60)
        taken = 0
        for _ in range(10):
            with window.acquire(raise_on_failure=False) as got:
                taken += got
        self.assertEqual(taken, 5)


# ---- caches ------------------------------------------------------------------------------------------------------

class DjangoCache(OnServer):
    def test_the_cache_framework(self):
        from django.conf import settings

        if not settings.configured:
            backend = "django.core.cache.backends.redis.RedisCache"
            settings.configure(CACHES={"default": {"BACKEND": backend, "LOCATION": self.url}})
        from django.core.cache import cache

        self.addCleanup(cache.close)
        self.assertIsNone(cache.get("k"))
        cache.set("k", {"any": ["thing", 1]}, 30)
        self.assertEqual(cache.get("k"), {"any": ["thing", 1]})
        self.assertTrue(0 < self.r.ttl(":1:k") <= 30)
        self.assertFalse(cache.add("k", 1))
        self.assertTrue(cache.add("n", 1))
        self.assertEqual((cache.incr("n", 5), cache.decr("n")), (6, 5))
        cache.set_many({f"m{i}": i for i in range(50)})
        self.assertEqual(cache.get_many([f"m{i}" for i in range(60)]), {f"m{i}": i for i in range(50)})
        self.assertTrue(cache.touch("k", 100))
        self.assertGreater(self.r.ttl(":1:k"), 90)
        self.assertEqual(cache.get_or_set("made", lambda: "once"), "once")
        cache.set("old", 1, version=2)
        self.assertEqual((cache.get("old"), cache.get("old", version=2)), (None, 1))
        cache.delete_many(["m1", "m2"])
        self.assertFalse(cache.has_key("m1"))
        cache.set("gone", 1, 0)
        self.assertIsNone(cache.get("gone"))
        cache.clear()
        self.assertEqual(self.r.dbsize(), 0)


class DogpileCache(OnServer):
    def region(self):
        from dogpile.cache import make_region

        arguments = {"host": "127.0.0.1", "port": self.server.port, "distributed_lock": True, "thread_local_lock": False,
                     "redis_expiration_time": 30, "lock_timeout": 20, "lock_sleep": 0.01}
        return make_region().configure("dogpile.cache.redis", expiration_time=20, arguments=arguments)

    def test_a_value_is_made_once_however_many_ask(self):
        made, answers = [], []

        def make():
            made.append(1)
            time.sleep(0.2)
            return "expensive"

        # Each a region of its own, as programs of their own have.
        askers = [threading.Thread(target=lambda: answers.append(self.region().get_or_create("k", make))) for _ in range(8)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        self.assertEqual((answers, len(made)), (["expensive"] * 8, 1))

    def test_many_at_once_and_invalidation(self):
        region = self.region()
        calls = []

        @region.cache_multi_on_arguments()
        def squares(*numbers):
            calls.append(numbers)
            return [n * n for n in numbers]

        self.assertEqual(squares(1, 2, 3), [1, 4, 9])
        self.assertEqual(squares(2, 3, 4), [4, 9, 16])
        self.assertEqual(calls, [(1, 2, 3), (4,)])
        squares.invalidate(2)
        squares(1, 2)
        self.assertEqual(calls[-1], (2,))


# ---- sessions ----------------------------------------------------------------------------------------------------

class FlaskSessions(OnServer):
    def test_sessions_outlive_requests_and_the_program(self):
        def program():
            from flask import Flask, session
            from flask_session import Session

            app = Flask("shop")
            app.config.update(SESSION_TYPE="redis", SESSION_REDIS=self.r, PERMANENT_SESSION_LIFETIME=100)
            Session(app)

            @app.post("/basket/<item>")
            def put(item):
                session["basket"] = session.get("basket", []) + [item]
                return str(len(session["basket"]))

            @app.get("/basket")
            def show():
                return ",".join(session.get("basket", []))

            @app.post("/leave")
            def leave():
                session.clear()
                return ""

            return app

        first = program().test_client()
        self.assertEqual([first.post(f"/basket/{item}").text for item in ("tea", "milk")], ["1", "2"])
        other = program().test_client()
        self.assertEqual(other.get("/basket").text, "")
        cookie = first.get_cookie("session")
        other.set_cookie("session", cookie.value)
        self.assertEqual(other.get("/basket").text, "tea,milk")
        keys = self.r.keys("session:*")
        self.assertTrue(keys and all(0 < self.r.ttl(key) <= 100 for key in keys))
        first.post("/leave")
        self.assertEqual(other.get("/basket").text, "")


# ---- locks -------------------------------------------------------------------------------------------------------

class Locks(OnServer):
    def count_under(self, lock_of):
        """Threads that read, wait and write one more, each under the lock: nothing may get lost."""
        self.r.set("n", 0)

        def add():
            with redis.Redis(port=self.server.port) as r:
                for _ in range(10):
                    with lock_of(r):
                        n = int(r.get("n"))
                        time.sleep(random.random() / 500)
                        r.set("n", n + 1)

        threads = [threading.Thread(target=add) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(int(self.r.get("n")), 60)

    def test_locks_of_redis_py_exclude(self):
        self.count_under(lambda r: r.lock("lock", timeout=30, sleep=0.005))

    def test_a_lock_belongs_to_its_owner_and_to_its_time(self):
        from redis.exceptions import LockError, LockNotOwnedError

        lock = self.r.lock("lock", timeout=0.2)
        other = self.r.lock("lock", timeout=10)
        self.assertTrue(lock.acquire(blocking=False))
        self.assertFalse(other.acquire(blocking=False))
        lock.extend(0.2)
        lock.reacquire()
        self.assertTrue(other.acquire(blocking_timeout=10))
        with self.assertRaises(LockNotOwnedError):
            lock.release()
        self.assertTrue(other.owned())
        other.release()
        with self.assertRaises(LockError):
            other.release()

    def test_redlock_of_pottery_excludes(self):
        from pottery import Redlock

        self.count_under(lambda r: Redlock(key="red", masters={r}, auto_release_time=30))

    def test_collections_of_pottery(self):
        from pottery import NextID, RedisDeque, RedisDict, RedisSet

        ids = NextID(key="ids", masters={self.r})
        self.assertEqual([next(ids) for _ in range(3)], [1, 2, 3])
        table = RedisDict({"a": 1, "b": [2]}, redis=self.r, key="table")
        table.update(c=3)
        self.assertEqual((dict(table), len(table)), ({"a": 1, "b": [2], "c": 3}, 3))
        names = RedisSet("abc", redis=self.r, key="names")
        self.assertEqual(set(names.intersection({"b", "c", "d"})), {"b", "c"})
        row = RedisDeque([1, 2, 3], redis=self.r, key="row", maxlen=3)
        row.append(4)
        self.assertEqual((list(row), row.popleft()), ([2, 3, 4], 2))


if __name__ == "__main__":
    unittest.main()
