"""redis-py's own suite against the server: its tests of commands, connections, pools, pipelines, pub/sub, scripts and
client-side caching. What it asks of a cluster, of modules or of servers on fixed ports is left out, each with its reason."""

import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(__file__))
from server import Server

FILES = """
    command_parser commands connection connection_pool encoding function hash lock monitor multiprocessing pipeline pubsub
    scripting cache client
""".split()

LEFT_OUT = {
    "a cluster's": """
        test_mset_on_cluster_multiple_slots test_function_list_on_cluster test_pubsub_shardchannels_cluster
        test_pubsub_shardnumsub test_shard_channel_subscribe_unsubscribe_cluster test_eval_crossslot
        test_subscribe_property_with_shard_channels_cluster test_generator_handles_concurrent_mapping_changes
    """,
    "of a server on a fixed port": """
        test_client_setinfo test_client_setinfo_with_driver_info test_psync test_connect_with_retries
        test_retry_connect_on_timeout_error test_create_single_connection_client_from_url
    """,
    "of modules, or of MIGRATE": """
        test_module test_module_list test_module_loadex test_get_moveable_keys
    """,
    "LOLWUT names Redis": "test_lolwut",
    "threads that wait for each other now and then, against redis-server as well": "TestPubSubAutoReconnect",
    "the lag of a group that has read more than there is, which Redis 7.0 tells in another way": """
        test_xgroup_create_entriesread
    """,
}

SETTINGS = "[pytest]\nasyncio_mode = auto\n"


def main():
    with tempfile.TemporaryDirectory(prefix="terrace-suite-") as folder:
        subprocess.run(["tar", "-xzf", sys.argv[1], "-C", folder], check=True)
        (source,) = (entry.path for entry in os.scandir(folder) if entry.is_dir())
        settings = os.path.join(folder, "pytest.ini")
        with open(settings, "w", encoding="ascii") as file:
            file.write(SETTINGS)
        left_out = [name for names in LEFT_OUT.values() for name in names.split()]
        words = " and ".join(f"not {name}" for name in left_out)
        server = Server("--enable-debug-command", "yes")
        try:
            command = [sys.executable, "-m", "pytest", "-q", "--timeout", "60", "--tb", "short", "-W", "ignore"]
            command += ["-p", "no:cacheprovider", "-c", settings, "--rootdir", source, "-k", words]
            command += [f"--redis-url=redis://127.0.0.1:{server.port}/0"]
            command += [f"tests/test_{name}.py" for name in FILES]
            return subprocess.run(command, cwd=source, check=False, timeout=900).returncode
        finally:
            server.stop()


if __name__ == "__main__":
    sys.exit(main())
