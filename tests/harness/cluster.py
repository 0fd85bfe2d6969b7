"""A cluster of separate processes: metadata members, storage nodes, gateways."""

import contextlib
import json
import re
import threading
from pathlib import Path

from . import s3_clients
from .process import Process, free_ports, run, wait_until


class Cluster:
    """Sets up, starts, kills and starts again. Node numbers: metadata 1…, storage 11…"""

    def __init__(self, directory, metadata=3, storage=6, gateways=2, log="info",
                 prepare_disk=None, prepare_node=None, wrap=None, node_env=None,
                 process_env=None, disks=1, members_store=False):
        """`prepare_disk` and `prepare_node` get a directory before anything is in it, `wrap` a
        process's name: it returns the command to run it under, such as a tracer. `node_env` is
        set for every node; `process_env` returns what is set for the process of a name.
        `disks`: how many each storage node has. `members_store`: each metadata member is a
        storage node with one disk, too."""
        self.directory = Path(directory)
        self.logs = self.directory / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.env = {"MEGALITH_LOG__LEVEL": log}
        self.node_env = {**self.env, **(node_env or {})}
        self.prepare_node = prepare_node
        self.wrap = wrap or (lambda _name: [])
        self.process_env = process_env or (lambda _name: {})
        ports = iter(free_ports(2 * metadata + 2 * storage + 2 * gateways))
        self.members = {i: next(ports) for i in range(1, metadata + 1)}
        self.ca = self.directory / "ca"
        self.root_key = self.directory / "root.key"
        self.processes = {}
        self.disks = {}
        self.all_disks = {}
        self.gateway_ports = {}
        self.health_ports = {}
        member_args = [
            arg for i, port in self.members.items()
            for arg in ("--metadata-member", f"{i}=127.0.0.1:{port}")
        ]
        self.member_args = member_args
        self.expected = storage + (metadata if members_store else 0)
        for i, port in self.members.items():
            args = member_args + ["--metadata"]
            if members_store:
                self.disks[f"meta-{i}"] = self.directory / f"meta-{i}" / "disk"
                args += ["--disk", self.disks[f"meta-{i}"]]
            self._node(f"meta-{i}", i, port, next(ports), args, self.expected)
        for i in range(11, 11 + storage):
            disk = self.directory / f"store-{i}" / "disk"
            self.disks[f"store-{i}"] = disk
            if prepare_disk:
                disk.mkdir(parents=True)
                prepare_disk(disk)
            paths = [disk, *(disk.with_name(f"disk-{n}") for n in range(2, disks + 1))]
            self.all_disks[f"store-{i}"] = paths
            args = member_args + [arg for path in paths for arg in ("--disk", path)]
            self._node(f"store-{i}", i, next(ports), next(ports), args, self.expected)
        for i in range(1, gateways + 1):
            self._gateway(i, next(ports), next(ports), member_args)
        run("operator", "init", "--dir", self.directory / "operator", "--ca-dir", self.ca,
            "--root-key-file", self.root_key, *member_args)
        self.operator = self.directory / "operator" / "operator.toml"
        self.keys = None

    def _node(self, name, number, rpc, data, args, expected):
        directory = self.directory / name
        if self.prepare_node:
            directory.mkdir(parents=True)
            self.prepare_node(directory)
        run("node", "init", "--id", number, "--dir", directory, "--ca-dir", self.ca,
            "--host", "127.0.0.1", "--rpc-listen", f"127.0.0.1:{rpc}",
            "--data-listen", f"127.0.0.1:{data}", "--expected-nodes", expected, *args)
        self.processes[name] = Process(
            name, ["node", "--config", directory / "node.toml"], self.logs / f"{name}.log",
            env={**self.node_env, **self.process_env(name)}, wrap=self.wrap(name),
        )
        self.processes[name].ports = (rpc, data)

    def new_member(self, number, knows=None):
        """Sets up a metadata member that is to be added to the group.

        Its settings name one other member: `knows`, as `meta list` shows it, or the first."""
        rpc, data = free_ports(2)
        others = self.member_args
        if knows:
            others = ["--metadata-member", f"{knows['node']}={knows['address']}"]
        itself = ["--metadata-member", f"{number}=127.0.0.1:{rpc}", "--metadata"]
        self._node(f"meta-{number}", number, rpc, data, others + itself, self.expected)

    def tell_operator(self, members):
        """Writes the group's members, as `meta list` shows them, into the operator's file."""
        text = self.operator.read_text()
        listed = "".join(f'    "{m["node"]}={m["address"]}",\n' for m in members)
        self.operator.write_text(re.sub(r"members = \[.*?\]", f"members = [\n{listed}]", text,
                                        flags=re.DOTALL))

    def init_metadata(self, name):
        """Makes a member's metadata directory on a new disk."""
        run("meta", "init", "--config", self.directory / name / "node.toml")

    def _gateway(self, number, port, health, member_args):
        name = f"gateway-{number}"
        directory = self.directory / name
        run("gateway", "init", "--id", number, "--dir", directory, "--ca-dir", self.ca,
            "--host", "127.0.0.1", "--root-key-file", self.root_key,
            "--listen", f"127.0.0.1:{port}", "--health-listen", f"127.0.0.1:{health}", *member_args)
        self.gateway_ports[name] = port
        self.health_ports[name] = health
        self.processes[name] = Process(
            name, ["gateway", "--config", directory / "gateway.toml"], self.logs / f"{name}.log",
            env={**self.env, **self.process_env(name)}, wrap=self.wrap(name),
        )

    def name_roots(self, root_key=True, vault=None):
        """Writes what opens the cluster's keys into the files of gateways and the operator: the
        root key's file, and the settings of a key service."""
        files = [self.directory / name / "gateway.toml" for name in self.names("gateway")]
        for file in [*files, self.operator]:
            text = file.read_text().split("\n[vault]")[0].rstrip()
            text = re.sub(r"\nroot_key_file = .*", "", text)
            if root_key:
                section = r"(\[(?:gateway|operator)\])"
                text = re.sub(section, rf'\1\nroot_key_file = "{self.root_key}"', text)
            lines = [f"{key} = {json.dumps(value)}" for key, value in (vault or {}).items()]
            table = ["", "[vault]", *lines] if vault else []
            file.write_text("\n".join([text, *table, ""]))

    def names(self, kind):
        return [name for name in self.processes if name.startswith(kind + "-")]

    def start(self, names=None):
        for name in names or self.processes:
            self.processes[name].start()
        return self

    def kill(self, *names):
        """kill -9, all at once."""
        names = names or [name for name, p in self.processes.items() if p.running()]
        for name in names:
            self.processes[name].process.kill()
        for name in names:
            self.processes[name].process.wait(timeout=30)

    def __enter__(self):
        self.start()
        self.ready()
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.kill()

    def check_running(self):
        for process in self.processes.values():
            if process.process is not None:
                process.must_run()

    def status(self):
        done = run("status", "--config", self.operator, "-o", "json", check=False)
        return done.returncode, json.loads(done.stdout)

    def all_heard(self):
        """True if writes are taken and every running node and member is heard from."""
        code, status = self.status()
        heard = {node["node"] for node in status["nodes"] if node["alive"]}
        heard |= {member["node"] for member in status["metadata"]["members"] if member["alive"]}
        wanted = {
            int(name.split("-")[1])
            for name, process in self.processes.items()
            if process.running() and not name.startswith("gateway")
        }
        return code < 2 and wanted <= heard

    def opened(self):
        """True if every running node has opened each of its disks since its start, or told that it
        can't. Nodes serve before: what is read in between isn't there yet."""
        for name, disk in self.disks.items():
            if self.processes[name].running():
                told = self.processes[name].text_since_start()
                looked = told.count("disk opened") + told.count("disk not opened")
                if looked < len(self.all_disks.get(name, [disk])):
                    return False
        return True

    def ready(self, deadline_s=60):
        """Waits until writes are possible, and makes the first access key."""
        wait_until("the cluster serves and hears everybody who runs",
                   lambda: self.check_running() or self.all_heard(), deadline_s, every_s=0.2)
        if self.env["MEGALITH_LOG__LEVEL"] == "info":
            # One that hangs holds nobody up.
            with contextlib.suppress(AssertionError):
                wait_until("disks are opened", self.opened, 5)
        if self.keys is None:
            run("account", "create", "tests", "--config", self.operator)
            made = run("key", "create", "--account", "tests", "-o", "json",
                       "--config", self.operator)
            key = json.loads(made.stdout)
            self.keys = key["access_key"], key["secret_key"]
        for name in self.names("gateway"):
            if self.processes[name].running():
                wait_until(f"{name} answers", lambda n=name: self.client(n).list_buckets(),
                           deadline_s)

    def client(self, gateway="gateway-1", **config):
        endpoint = f"http://127.0.0.1:{self.gateway_ports[gateway]}"
        return s3_clients.client(endpoint, *self.keys, **config)

    def bare(self, gateway="gateway-1", timeout=60):
        port = self.gateway_ports[gateway]
        return s3_clients.Bare("127.0.0.1", port, *self.keys, timeout=timeout)


class Writers:
    """Threads that write objects until told to stop, and remember what was acknowledged."""

    def __init__(self, cluster, bucket, threads=8, sizes=(100, 5_000, 70_000, 300_000)):
        self.cluster = cluster
        self.bucket = bucket
        self.sizes = sizes
        self.acknowledged = {}
        self.maybe = {}
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.last_ack = 0.0
        gateways = cluster.names("gateway")
        self.threads = [
            threading.Thread(target=self._work, args=(i, gateways), daemon=True)
            for i in range(threads)
        ]

    @staticmethod
    def body(key, size):
        """Bytes that differ from any other key's."""
        import random
        return random.Random(key).randbytes(size)

    def _work(self, number, gateways):
        import time
        count = 0
        turn = number
        while not self.stopping.is_set():
            key = f"w{number}/{time.time_ns()}-{count}"
            size = self.sizes[count % len(self.sizes)]
            count += 1
            gateway = gateways[turn % len(gateways)]
            try:
                bare = self.cluster.bare(gateway, timeout=20)
                while not self.stopping.is_set():
                    status, _, _ = bare.put(self.bucket, key, self.body(key, size))
                    with self.lock:
                        if status == 200:
                            self.acknowledged[key] = size
                            self.last_ack = time.monotonic()
                        else:
                            self.maybe[key] = size
                    if status != 200:
                        turn += 1
                        self.stopping.wait(0.05)
                        break
                    key = f"w{number}/{time.time_ns()}-{count}"
                    size = self.sizes[count % len(self.sizes)]
                    count += 1
                bare.connection.close()
            except Exception:  # a dead gateway: unknown outcome, try the next one
                with self.lock:
                    self.maybe[key] = size
                turn += 1
                self.stopping.wait(0.05)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(timeout=60)
            assert not thread.is_alive()

    def __exit__(self, *_):
        self.stop()

    def verify(self, gateway=None, keys=None):
        """Every acknowledged object reads back right; one that may be there is right or absent."""
        gateway = gateway or next(
            name for name in self.cluster.names("gateway")
            if self.cluster.processes[name].running()
        )
        bare = self.cluster.bare(gateway)
        for key, size in list(self.acknowledged.items()) if keys is None else keys:
            status, _, body = bare.get(self.bucket, key)
            assert status == 200, f"acknowledged {key} ({size} B): {status} {body[:300]}"
            assert body == self.body(key, size), f"{key} has other bytes"
        for key, size in list(self.maybe.items()):
            status, _, body = bare.get(self.bucket, key)
            assert status in (200, 404), f"{key}: {status} {body[:300]}"
            assert status == 404 or body == self.body(key, size), f"{key} is torn"
